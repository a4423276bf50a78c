"""Choose the profile of the run before pytest reads any test."""

import profiles  # noqa: F401

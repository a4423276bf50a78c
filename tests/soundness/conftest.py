"""The profile of this run is chosen before any test is read."""

import profiles  # noqa: F401

"""Two profiles of the search.

The quick profile always tries the same programs. The long one, with SYMFX_LONG=1 in the
environment, tries new programs at every run, forty times as many; SYMFX_LONG=35 tries 35 times as
many as that.
"""

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("SYMFX_LONG", "")
LONG = _ASKED not in ("", "0")
_TIMES = 40 * (int(_ASKED) if _ASKED.isdigit() else 1) if LONG else 1

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("symfx-quick", deadline=None, derandomize=True, database=None)
settings.register_profile("symfx-long", deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.load_profile("symfx-long" if LONG else "symfx-quick")


def examples(quick: int) -> settings:
    """Settings with this number of examples in the quick run, many times as many in the long one."""
    return settings(max_examples=many(quick))


def many(quick: int) -> int:
    """This number in the quick run, many times as many in the long one."""
    return quick * _TIMES

"""Switches of symbolic shapes, under the names of torch's ``torch.fx.experimental._config``.

The switches are torch's own state: a value that is set here is set for torch's kernels too, and
the other way round.

Example:
    >>> from symfx import config
    >>> config.use_duck_shape
    True
    >>> with config.patch(use_duck_shape=False):
    ...     config.use_duck_shape
    False
"""

from __future__ import annotations

import difflib
import enum
import sys
from types import ModuleType
from typing import Any

from symfx.errors import SymfxError
from symfx.torch_bridge.torch_config import torch_settings

__all__ = ["SWITCHES", "AggressiveGuardFreeMode", "UnknownSwitchError", "patch"]

# The declarations are for type checkers; torch has the values.
aggressive_guard_free_semantics: int
backed_size_oblivious: bool
check_shape_env_recorded_events: bool
extended_debug_cpp: bool
extended_debug_create_symbol: str | None
extended_debug_current_loc: bool
extended_debug_guard_added: str | None
enrich_profiler_metadata: bool
inject_EVALUATE_EXPR_flip_equality_TESTING_ONLY: bool
meta_nonzero_assume_all_nonzero: bool
no_data_dependent_graph_break: bool
print_specializations: bool
skip_dtype_check_in_meta_registrations: bool
soft_pending_unbacked_not_found_error: bool
symbol_guard_limit_before_specialize: int | None
translation_validation: bool
translation_validation_no_bisect: bool
translation_validation_timeout: int
unify_view_symbols_bso_meta: bool
use_duck_shape: bool
validate_shape_env_version_key: bool

SWITCHES = tuple(__annotations__)
"""The names of the switches; docs/config.md has the effect of each."""


class AggressiveGuardFreeMode(enum.IntEnum):
    """The values of ``aggressive_guard_free_semantics``."""

    DISABLED = 0
    VALUE_RANGE_ANALYSIS = 1
    SKIP_RANGE_ANALYSIS = 2


class UnknownSwitchError(SymfxError, AttributeError):
    """A name that is not the name of a switch."""


def _known(name: str) -> str:
    """The name, if it is the name of a switch.

    Raises:
        UnknownSwitchError: it is not.
    """
    if name in SWITCHES:
        return name
    near = difflib.get_close_matches(name, SWITCHES, n=1)
    raise UnknownSwitchError(
        f"there is no switch {name!r}",
        fix=f"did you mean {near[0]}?" if near else "symfx.config.SWITCHES lists the switches",
    )


def patch(arg1: str | dict[str, Any] | None = None, arg2: Any = None, **changes: Any) -> Any:
    """A context manager and decorator inside which switches are set.

    Args:
        arg1: the name of one switch, or a dict of switches.
        arg2: its value.
        changes: switches by name.

    Raises:
        UnknownSwitchError: a name is not the name of a switch.
    """
    for name in (arg1,) if isinstance(arg1, str) else (*(arg1 or ()), *changes):
        _known(name)
    return torch_settings().patch(arg1, arg2, **changes)


class _Switches(ModuleType):
    """The class of this module, which reads and writes switches as attributes of the module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(torch_settings(), _known(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(torch_settings(), _known(name), value)

    def __dir__(self) -> list[str]:
        return sorted({*__all__, *SWITCHES})


sys.modules[__name__].__class__ = _Switches

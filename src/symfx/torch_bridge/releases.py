"""Names and behavior of torch that differ between its releases, each under one name of symfx's.

A name is chosen by a look at the running torch. Where torch changed its behavior but no name, the
release number decides.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.fx._symbolic_trace as fx_symbolic_trace
from torch._library import opaque_object

from symfx.torch_bridge.identity import TorchSymNode
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = [
    "BINDINGS_ARE_RECORDED",
    "CHOICES",
    "DETACH_BECOMES_ALIAS",
    "NUMBER_INPUTS_HAVE_VALUES",
    "RELEASE",
    "SYMBOOL_HAS_XOR",
    "TESTED_RELEASES",
    "fx_traces",
    "is_constant_type",
    "is_custom_object",
    "warn_if_untested",
]

TESTED_RELEASES = ((2, 13), (2, 14), (2, 15))
"""The releases of torch on which symfx's tests pass."""


def _release(version: str) -> tuple[int, int]:
    """The release number in a version such as ``2.13.0+cpu``."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


RELEASE = _release(torch.__version__)
"""The release of the running torch, such as ``(2, 13)``."""


def warn_if_untested(release: tuple[int, int], version: str) -> None:
    """Warn if a release of torch is newer than those that symfx is tested on."""
    if release > TESTED_RELEASES[-1]:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED_RELEASES)
        warnings.warn(
            f"symfx is tested with torch {tested}, and not yet with {version}; "
            "`symfx doctor` lists the names that it misses",
            stacklevel=2,
        )


warn_if_untested(RELEASE, torch.__version__)


def _first(module: Any, *names: str) -> Any:
    """The attribute of a module by the first of several names that the module has."""
    for name in names[:-1]:
        if hasattr(module, name):
            return getattr(module, name)
    return getattr(module, names[-1])


# torch 2.14 turned a global of the process into one of the thread.
_fx: Any = fx_symbolic_trace
_PER_THREAD = hasattr(_fx, "_is_fx_tracing_context")
if _PER_THREAD:
    _context: Callable[[bool], contextlib.AbstractContextManager[None]] = _fx._is_fx_tracing_context
else:
    _context = ProcessWide(fx_symbolic_trace, "_is_fx_tracing_flag").set_to


def fx_traces() -> contextlib.AbstractContextManager[None]:
    """A context manager: `torch.fx._symbolic_trace.is_fx_tracing` is true inside."""
    return _context(True)


# torch 2.14 gave these new names, and warns at each use of the old ones.
is_custom_object: Callable[[Any], bool] = _first(
    opaque_object, "is_custom_class_obj", "is_opaque_value"
)
"""Whether a value is an object of a class that is registered for operators."""

is_constant_type: Callable[[type], bool] = _first(
    opaque_object, "is_opaque_constant_type", "is_opaque_value_type"
)
"""Whether objects of a registered class are constants of a graph."""

SYMBOOL_HAS_XOR = hasattr(TorchSymNode, "xor")
"""Whether torch.SymBool has ``^``, and ``!=`` as a method of its own."""

DETACH_BECOMES_ALIAS = RELEASE >= (2, 14)
"""Whether make_fx below autograd and without a table of decompositions records ``detach`` as
``alias``."""

BINDINGS_ARE_RECORDED = RELEASE >= (2, 14)
"""Whether a node binds only the unbacked symbols of its ``meta["unbacked_bindings"]``."""

NUMBER_INPUTS_HAVE_VALUES = RELEASE >= (2, 14)
"""Whether the placeholder of an int, float or bool has ``meta["val"]``."""

CHOICES = {
    "the flag of fx tracing": "per thread" if _PER_THREAD else "per process",
    "objects of registered classes": is_custom_object.__name__,
    "^ of torch.SymBool": "yes" if SYMBOOL_HAS_XOR else "no",
    "detach in make_fx": "alias" if DETACH_BECOMES_ALIAS else "detach",
    "nodes that bind unbacked symbols": (
        "those with meta['unbacked_bindings']"
        if BINDINGS_ARE_RECORDED
        else "all whose value is one"
    ),
    "meta['val'] of number inputs": "yes" if NUMBER_INPUTS_HAVE_VALUES else "no",
}
"""The names and behavior that were chosen for the running torch, for people to read."""

"""symfx: symbolic shapes and tracing for PyTorch.

A name is loaded when it is first used, so that `symfx.algebra`, which needs no torch, can be
imported without it.

Example:
    >>> import symfx, torch
    >>> t = symfx.trace(torch.nn.Linear(8, 4), torch.randn(3, 8), dynamic={"input": ("n", None)})
    >>> [info.name for info in t.symbols]
    ['n']
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from symfx._version import __version__

if TYPE_CHECKING:
    from symfx.errors import (
        InputMismatchError,
        OptimizationError,
        SpecError,
        SymfxError,
        TargetError,
        TraceFileError,
        TracingError,
    )
    from symfx.explanation import Explanation, Rejection, explain
    from symfx.installation import (
        InstallError,
        explain_recompiles,
        install,
        installed,
        installed_report,
        is_installed,
        uninstall,
    )
    from symfx.optimization.model import OptimizedModel
    from symfx.optimization.pipeline import optimize
    from symfx.symbolic_shapes import Dim
    from symfx.tracing import CheckResult, Trace, export, load, trace
    from symfx.tracing.verification import Verification

__all__ = [
    "CheckResult",
    "Dim",
    "Explanation",
    "InputMismatchError",
    "InstallError",
    "OptimizationError",
    "OptimizedModel",
    "Rejection",
    "SpecError",
    "SymfxError",
    "TargetError",
    "Trace",
    "TraceFileError",
    "TracingError",
    "Verification",
    "__version__",
    "explain",
    "explain_recompiles",
    "export",
    "install",
    "installed",
    "installed_report",
    "is_installed",
    "load",
    "optimize",
    "trace",
    "uninstall",
]

_HOMES = {
    "CheckResult": "symfx.tracing",
    "Dim": "symfx.symbolic_shapes",
    "Explanation": "symfx.explanation",
    "InputMismatchError": "symfx.errors",
    "InstallError": "symfx.installation",
    "Rejection": "symfx.explanation",
    "SpecError": "symfx.errors",
    "SymfxError": "symfx.errors",
    "TargetError": "symfx.errors",
    "TraceFileError": "symfx.errors",
    "Trace": "symfx.tracing",
    "TracingError": "symfx.errors",
    "OptimizationError": "symfx.errors",
    "OptimizedModel": "symfx.optimization.model",
    "Verification": "symfx.tracing.verification",
    "explain": "symfx.explanation",
    "export": "symfx.tracing",
    "explain_recompiles": "symfx.installation",
    "install": "symfx.installation",
    "installed": "symfx.installation",
    "installed_report": "symfx.installation",
    "is_installed": "symfx.installation",
    "load": "symfx.tracing",
    "optimize": "symfx.optimization.pipeline",
    "trace": "symfx.tracing",
    "uninstall": "symfx.installation",
}

#: The modules that ``import symfx`` is enough for: each is loaded when it is first used.
_MODULES = frozenset(
    {
        "algebra",
        "cache",
        "config",
        "dynamic_spec",
        "errors",
        "graph_gradual_typechecker",
        "meta_tracer",
        "migrate_gradual_types",
        "optimization",
        "proxy_tensor",
        "recording",
        "refinement_types",
        "rewriter",
        "sym_node",
        "sweep",
        "symbolic_shapes",
        "tracing",
        "unification",
        "unify_refinements",
        "validator",
    }
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"symfx.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'symfx' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})


if os.environ.get("SYMFX_INSTALL", "0") not in ("", "0"):
    # The user, or `symfx run` for the processes of a program, asked for it by this variable.
    __getattr__("install")()

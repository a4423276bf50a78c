"""Methods of ShapeEnv that turn guards into checks of other inputs.

Each function is a method of `ShapeEnv`; `InputChecks` collects the conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra.languages.sympy import to_sympy
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.input_checks import (
    InputChecks,
    bound_symbols,
    nontrivial_guards,
)
from symfx.symbolic_shapes.checks.programs import GuardProgram
from symfx.symbolic_shapes.checks.text import _ShapeGuardsHelper, run_guard_code
from symfx.symbolic_shapes.checks.text_functions import SYMPY_INTERP
from symfx.symbolic_shapes.environment.events import replay_shape_env_events
from symfx.symbolic_shapes.records import ShapeGuard
from symfx.symbolic_shapes.torch_api.constraints import EqualityConstraint
from symfx.torch_bridge.dynamic_log import log_dynamic

if TYPE_CHECKING:
    from torch._guards import Source

    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "bind_symbols",
    "deserialize_symexpr",
    "evaluate_guards_expression",
    "evaluate_guards_for_args",
    "evaluate_symexpr",
    "format_guards",
    "get_nontrivial_guards",
    "get_pruned_guards",
    "guard_program",
    "produce_guards",
    "produce_guards_expression",
    "produce_guards_verbose",
]


def produce_guards(env: ShapeEnv, *args: Any, **kwargs: Any) -> list[str]:
    """The checks as Python expressions; see `produce_guards_verbose`."""
    return env.produce_guards_verbose(*args, **kwargs, langs=("python",))[0].exprs


def produce_guards_verbose(
    env: ShapeEnv,
    placeholders: Sequence[Any],
    sources: Sequence[Any],
    source_ref: Callable[[Source], str] = lambda source: source.name,
    *,
    guards: list[ShapeGuard] | None = None,
    input_contexts: Sequence[Any] | None = None,
    equalities_inputs: EqualityConstraint | None = None,
    _simplified: bool = False,
    ignore_static: bool = True,
    langs: Sequence[str] = ("python", "verbose_python"),
) -> list[_ShapeGuardsHelper]:
    """The checks that tell whether the trace serves other inputs, as text.

    Args:
        placeholders: the symbolic inputs.
        sources: where each comes from; a str is the name of a local variable.
        source_ref: how a source is written.
        guards: the guards to check; None for all guards.
        input_contexts: how each input was made symbolic, with the promises about its sizes.
        equalities_inputs: the sizes that were stated to be equal, or computed from each other.
        _simplified: leave out the checks that hold by the way inputs are made symbolic: that
            sizes are equal, and that they are not 0 or 1.
        ignore_static: leave out sizes of tensors that are constants.
        langs: the languages: ``"python"``, ``"verbose_python"`` (with the cause of each
            check) and ``"cpp"``.

    Returns:
        For each language, the checks (`exprs`); all have to hold.

    Raises:
        ConstraintViolationError: a guard breaks a promise.
        SymfxError: the inputs do not fit their sources or contexts, or a guard is on a size
            that no input has.
    """
    if env.speaks_torch:
        log_dynamic(lambda: "produce_guards")
    if env.check_recorded_events:
        env.check_equal(replay_shape_env_events(env.events))
    checks = InputChecks(
        env,
        placeholders,
        sources,
        guards=guards,
        input_contexts=input_contexts,
        equalities=equalities_inputs,
        simplified=_simplified,
        ignore_static=ignore_static,
    )
    env.dim_constraints = checks.dim_constraints
    checks.promises.raise_if_broken()
    if env.validator is not None and guards is None and not _simplified:
        env.validator.validate(*checks.claims())
    return [checks.as_text(lang, source_ref) for lang in langs]


def produce_guards_expression(
    env: ShapeEnv,
    placeholders: Sequence[Any],
    *,
    guards: list[ShapeGuard] | None = None,
    ignore_static: bool = True,
) -> str | None:
    """The checks as one Python expression, for `evaluate_guards_expression`.

    Args:
        placeholders: the symbolic inputs.
        guards: the guards to check; None for all guards.
        ignore_static: leave out sizes that are constants.

    Returns:
        The expression; None where nothing needs a check.
    """
    names = [f"t{i}" for i in range(len(placeholders))]
    checks = env.produce_guards(placeholders, names, guards=guards, ignore_static=ignore_static)
    return " and ".join(checks) or None


def evaluate_guards_expression(env: ShapeEnv, code: str, args: Sequence[Any]) -> bool:
    """Whether inputs pass an expression of `produce_guards_expression`.

    Args:
        code: the expression; it is checked to compare sizes and do nothing else.
        args: the inputs, in the order of the placeholders.
    """
    values = {f"t{i}": value for i, value in enumerate(args)}
    return bool(run_guard_code(code, {"L": values}, SYMPY_INTERP))


def evaluate_guards_for_args(
    env: ShapeEnv, placeholders: Sequence[Any], args: Sequence[Any], *, ignore_static: bool = True
) -> bool:
    """Whether the trace serves other inputs.

    Args:
        placeholders: the symbolic inputs.
        args: the other inputs.
        ignore_static: do not look at sizes that are constants.
    """
    code = env.produce_guards_expression(placeholders, ignore_static=ignore_static)
    return code is None or env.evaluate_guards_expression(code, args)


def evaluate_symexpr(env: ShapeEnv, code: str) -> int | float | bool:
    """The value at tracing of an expression of symbols, as a printer wrote it."""
    values = {to_sympy(t).name: v for t, v in env.symbols.hints.items()}
    result: int | float | bool = run_guard_code(code, values, SYMPY_INTERP)
    return result


def deserialize_symexpr(env: ShapeEnv, code: str) -> Any:
    """The torch.SymInt (or SymFloat, SymBool) of an expression of symbols as text."""
    values = {to_sympy(t).name: env.wrap(env.read(to_sympy(t))) for t in env.symbols.records}
    functions = {**SYMPY_INTERP, "max": torch.sym_max, "min": torch.sym_min}
    return run_guard_code(code, values, functions)


def get_pruned_guards(env: ShapeEnv, symints: Sequence[Any]) -> list[ShapeGuard]:
    """The guards that speak of no other symbols than the given ones."""
    kept = {env.read(s) for s in symints if isinstance(s, SymTypes)}
    return [g for g in env.guards if env.read(g.term).free_symbols <= kept]


def get_nontrivial_guards(env: ShapeEnv) -> list[sympy.Basic]:
    """The guards that do not follow from the symbols' ranges and replacements, as sympy."""
    return nontrivial_guards(env)


def format_guards(env: ShapeEnv, verbose: bool = False) -> str:
    """The guards, one a line.

    Args:
        verbose: add the cause of each.
    """
    return "\n".join(
        f" - {guard.expr}{f' {guard.provenance}' if verbose else ''}" for guard in env.guards
    )


def bind_symbols(env: ShapeEnv, placeholders: Sequence[Any], args: Sequence[Any]) -> dict[Any, int]:
    """The value of each symbol for other inputs.

    Args:
        placeholders: the symbolic inputs; None for those to leave out.
        args: the other inputs.

    Raises:
        ConstraintViolationError: two sizes that share a symbol differ.
    """
    return bound_symbols(placeholders, args)


def guard_program(env: ShapeEnv, guards: Iterable[ShapeGuard] | None = None) -> GuardProgram:
    """The conditions that inputs must satisfy, as a program: compiled Python, C, SMT-LIB.

    Args:
        guards: the guards to check; all of them where not given.
    """
    return GuardProgram.of(env, guards)

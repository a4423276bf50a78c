"""The conditions that other inputs must satisfy so that a trace serves them.

`InputChecks` collects them from the guards, the ranges and the replacements of one environment,
for the placeholders of one call of `ShapeEnv.produce_guards`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra import Facts, Prover, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.reasoning.facts import UNDEFINED
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.dim_constraints import DimConstraints
from symfx.symbolic_shapes.checks.measures import is_tensor_like, measures
from symfx.symbolic_shapes.checks.promises import Promises
from symfx.symbolic_shapes.checks.text import Condition, _ShapeGuardsHelper, conditions_as_text
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.symbolic_shapes.records import ShapeGuard
from symfx.symbolic_shapes.torch_api.constraints import (
    EqualityConstraint,
    RelaxedUnspecConstraint,
    StrictMinMaxConstraint,
)

if TYPE_CHECKING:
    from torch._guards import Source

    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["InputChecks", "bound_symbols", "nontrivial_guards"]

#: Why a size is at least 2, in torch's words.
_FIRST_USE = (
    "user code shown is first use of this value--the guard itself is not due user code but due to "
    "0/1 specialization in the framework; to avoid specialization try "
    "torch._dynamo.decorators.mark_unbacked(tensor, dim)"
)


class InputChecks:
    """The checks of the inputs that one trace needs, collected when the object is made.

    Args:
        env: the environment of the trace.
        placeholders: the symbolic inputs.
        sources: the source of each; a str is the name of a local variable.
        guards: the guards to check; None for all guards of the environment.
        input_contexts: how each input was made symbolic, with the promises about its sizes.
        equalities: the sizes that the caller stated to be equal, or computed from each other.
        simplified: leave out the conditions that follow from how inputs are made symbolic:
            that sizes are equal, and that they are not 0 or 1.
        ignore_static: leave out sizes of tensors that are constants.

    Attributes:
        promises: the promises about the inputs, and those that tracing broke.
        conditions: the checks, in order; all have to hold.
        dim_constraints: the same conditions, from which suggestions of ranges are solved.

    Raises:
        ConstraintViolationError: sizes differ that the caller stated to be equal.
        SymfxError: the number of placeholders differs from that of sources or contexts.
    """

    def __init__(
        self,
        env: ShapeEnv,
        placeholders: Sequence[Any],
        sources: Sequence[Source | str],
        *,
        guards: Sequence[ShapeGuard] | None = None,
        input_contexts: Sequence[Any] | None = None,
        equalities: EqualityConstraint | None = None,
        simplified: bool = False,
        ignore_static: bool = True,
    ) -> None:
        if len(placeholders) != len(sources):
            raise SymfxError(
                f"there are {len(placeholders)} placeholders and {len(sources)} sources",
                fix="give each placeholder its source",
            )
        if input_contexts is not None and len(input_contexts) != len(placeholders):
            raise SymfxError(
                f"there are {len(placeholders)} placeholders and {len(input_contexts)} "
                "input contexts",
                fix="give each placeholder its context, or None",
            )
        self._env = env
        self._equalities = equalities
        self._simplified = simplified
        self.promises = Promises(env)
        self.conditions: list[Condition] = []
        # The guards that are checked, in their order.
        self._issued: dict[Term, None] = {}
        # The expression that each number of the inputs is in the trace.
        self._measured: list[tuple[Source, sympy.Basic]] = []
        named = [_as_source(source) for source in sources]
        if equalities is not None:
            self.promises.impose(equalities, placeholders, named)
        for fake, source, context in zip(
            placeholders, named, input_contexts or [None] * len(named), strict=True
        ):
            for at, number, promise in _promised_numbers(fake, source, context):
                self._measure(at, number, promise)
        self.dim_constraints = DimConstraints(
            self.promises.sources,
            env.backed_var_to_val,
            set(self.promises.ranges),
            env.source_name_to_debug_name,
        )
        for at, value in self.promises.solved:
            self.dim_constraints.add_forced(at, value)
        # A prover of the symbols' ranges alone: a guard that the ranges imply needs no check.
        self._ranges = _ranges_alone(env)
        if not simplified:
            self._add_equalities(ignore_static)
        self._add_guards(env.guards if guards is None else guards)
        self._add_ranges()
        self._add_ranges_of_replaced()
        self._add_exclusions()

    def as_text(self, lang: str, source_ref: Callable[[Source], str]) -> _ShapeGuardsHelper:
        """The checks as text.

        Args:
            lang: ``"python"``, ``"verbose_python"`` (with the cause of each check) or ``"cpp"``.
            source_ref: gives the text of a source.

        Raises:
            SymfxError: the language is unknown, or a guard is on a size that no input has.
        """
        return conditions_as_text(
            lang, self.conditions, self.promises.sources, source_ref, self._env.var_to_sources
        )

    def claims(self) -> tuple[list[Term], list[Term]]:
        """The checks as terms, and the facts that they have to imply beside the guards.

        Each number of the inputs has a symbol of its own here, named by its source, so that
        inputs which the trace took for equal may differ.
        """
        env = self._env
        table, read = env.table, env.symbols.reader.read

        def measured(source: Source) -> Term:
            known = env.inputs.facts.get(source.name)
            return table.symbol(source.name, "int" if known is None else known.term.sort)

        checks: list[Term] = []
        for term, record in env.symbols.records.items():
            if record.sources and any(at == record.sources[0] for at, _ in self._measured):
                checks.append(table.eq(term, measured(record.sources[0])))
        checked = {condition.source for condition in self.conditions}
        for condition in self.conditions:
            if condition.source is not None:
                checks.append(table.eq(measured(condition.source), read(condition.expr)))
            elif getattr(condition.expr.func, "__name__", "") != "isnan":
                checks.append(read(condition.expr))
        relied: list[Term] = []
        for at, expr in self._measured:
            known = env.inputs.facts.get(at.name)
            if known is not None:
                # With `ignore_static` the caller itself checks the sizes that are constants.
                constant = expr.is_number and at not in checked
                (checks if constant else relied).append(table.eq(measured(at), known.term))
        for symbol, by in env.facts.replacements.items():
            (relied if symbol in env.symbols.hints else checks).append(table.eq(symbol, by))
        return checks, relied

    # -- collecting the conditions -----------------------------------------------------------------

    def _measure(self, at: Source, number: Any, promise: Any) -> None:
        """Note one size, stride, offset or number of the inputs, and the promise about it."""
        if isinstance(number, SymTypes):
            if not number.node.is_symbolic():
                return  # a ragged dimension that is a constant: nothing to compare
            expr = to_sympy(self._env.adopt(number.node).term)
        else:
            expr = sympy.sympify(number)
        if isinstance(expr, sympy.Symbol):
            self.promises.sources.setdefault(expr, []).append(at)
            if isinstance(promise, StrictMinMaxConstraint):
                self.promises.ranges.setdefault(expr, []).append(promise)
            elif isinstance(promise, RelaxedUnspecConstraint):
                pass  # guards may narrow the size: it stays a symbol
        elif promise is not None:
            self.promises.check_expression(at, expr, promise)
        self._measured.append((at, expr))

    def _add_equalities(self, ignore_static: bool) -> None:
        """Check that every number of the inputs equals its expression in the trace."""
        from torch._dynamo.source import TensorPropertySource

        for at, expr in self._measured:
            if isinstance(expr, sympy.Symbol) and at == self.promises.sources[expr][0]:
                continue
            of_tensor = isinstance(at, TensorPropertySource)
            if ignore_static and of_tensor and expr.is_number:
                if at.name in self._env.source_name_to_debug_name:
                    self.dim_constraints.add_equality(at, expr)  # the user gave it a name
                continue
            is_size = of_tensor and _has_size([at])
            if is_size:
                self.dim_constraints.add_equality(at, expr)
            self.conditions.append(Condition(expr, self._why_equal(at), at))
            if is_size and self._equalities is not None and len(expr.free_symbols) == 1:
                self.promises.check_equality(at, expr, self._equalities)

    def _why_equal(self, at: Source) -> str:
        env = self._env
        original = env.source_to_var.get(at.name)
        if original is None:
            return "the layout at tracing"
        origin = env.replacements_slocs.get(original)
        if origin is not None:
            return self._in_words(origin)
        return (  # torch's words, which its logs and tests have
            "duck sizing added this equality because these variables had the same size "
            f"{env.backed_var_to_val.get(original)} (to avoid this specialization, set "
            "torch.fx.experimental._config.use_duck_shape = False)"
        )

    def _in_words(self, cause: Provenance, reason: str | None = None) -> str:
        return cause.in_torchs_words(reason) if self._env.speaks_torch else str(cause)

    def _add_guards(self, guards: Sequence[ShapeGuard]) -> None:
        """Check the guards that do not follow from ranges and equalities."""
        env = self._env
        for guard in guards:
            term = _nontrivial(env, guard, self._ranges)
            if term is None or term in self._issued:
                continue
            self._issued[term] = None
            # A guard reads as the program wrote it, unless a symbol of it has been replaced since.
            expr = guard.expr if term is guard.term else to_sympy(term)
            trivial = False
            if any(_has_size(self.promises.sources.get(s, ())) for s in expr.free_symbols):
                trivial = self.dim_constraints.add(expr)
            self.conditions.append(Condition(expr, self._in_words(guard.provenance)))
            if not trivial and len(expr.free_symbols) == 1:
                (symbol,) = expr.free_symbols
                self.promises.check_guard(symbol, expr, str(guard.provenance))
        for record in env.ledger.asserts:
            if env.symbols.is_backed(record.term) and self._ranges.decide(record.term) is None:
                term = env.facts.resolve(record.term)
                if term.op != "const":
                    self.dim_constraints.add(to_sympy(term))

    def _add_ranges(self) -> None:
        """Check that every symbol lies in its range, and that no float is NaN."""
        from torch._dynamo.source import TensorPropertySource

        env = self._env
        usual = env._default_value_range().lower
        for symbol, sources in self.promises.sources.items():
            term = env.symbols.by_sympy.get(symbol)
            if term is None or not sources:
                continue
            if term.sort == "real":
                # A trace assumes that every float equals itself.
                nan = sympy.Function("isnan")(symbol)
                self.conditions.append(
                    Condition(
                        nan,
                        "implicit guard for float input due to NaN specialization in the framework",
                    )
                )
                continue
            low, high = self._range(term, usual)
            if _has_size(sources):
                if low is not None:
                    self.dim_constraints.add(sympy.Ge(symbol, low, evaluate=False))
                if high is not None:
                    self.dim_constraints.add(sympy.Le(symbol, high, evaluate=False))
            parts = []
            if low is not None and not (self._simplified and low == usual):
                parts.append(sympy.Le(low, symbol, evaluate=False))
            if high is not None:
                parts.append(sympy.Le(symbol, high, evaluate=False))
            if not parts:
                continue
            both = sympy.And(*parts, evaluate=False) if len(parts) > 1 else parts[0]
            origins = env.var_to_range_sloc[symbol]
            causes = [
                self._in_words(o)
                for o, b in ((origins.lower, low), (origins.upper, high))
                if b is not None
            ]
            if low == usual and isinstance(sources[0], TensorPropertySource):
                causes[0] = self._in_words(env.symbols.records[term].provenance, _FIRST_USE)
            if not env.speaks_torch:
                causes = list(dict.fromkeys(causes))
            self.conditions.append(Condition(both, " and ".join(causes)))
            self.promises.check_range(symbol, low, high, origins)

    def _range(self, term: Term, usual: int) -> tuple[int | None, int | None]:
        """The range to check.

        A remainder may leave out the least values. Where the guard on it is checked, the range
        begins at the usual bound, as in torch.
        """
        low, high = self._env.prover.range(term)
        facts, table = self._env.facts, self._env.table
        if facts.congruences.get(term) is None or facts.bounds(term)[0] != usual or low is None:
            return low, high
        checked = Facts(table)
        for known in (*self._issued, table.le(table.const(int(usual)), term)):
            checked.assume(known)
        try:
            implied = Prover(checked).decide(table.le(table.const(low), term)) is True
        except UNDEFINED:
            implied = False
        return (int(usual) if implied else low), high

    def _add_ranges_of_replaced(self) -> None:
        """Check the range of a replaced symbol on the expression that replaces it."""
        env = self._env
        table = env.table
        for symbol, by in env.facts.replacements.items():
            if symbol not in env.symbols.hints or by.op in ("const", "symbol"):
                continue
            if not all(to_sympy(s) in self.promises.sources for s in by.free_symbols):
                continue
            low, high = env.prover.range(symbol)
            for bound in (
                None if low is None else table.le(table.const(low), by),
                None if high is None else table.le(by, table.const(high)),
            ):
                if bound is not None and self._ranges.decide(bound) is not True:
                    origin = self._in_words(env.symbols.records[symbol].provenance)
                    self.conditions.append(Condition(to_sympy(bound), origin))

    def _add_exclusions(self) -> None:
        """Leave the sizes that an earlier trace serves to that trace."""
        import torch._dynamo.config as dynamo

        if not getattr(dynamo, "automatic_dynamic_exclusion_guard", True):
            return
        env, sources = self._env, self.promises.sources
        pairs = [(s, v) for s, v in env.exclusion_constraints if sources.get(s)]
        values = env.backed_var_to_val
        if not pairs or all(values.get(s) == v for s, v in pairs):
            return
        parts = [sympy.Ne(s, v, evaluate=False) for s, v in pairs]
        condition = parts[0] if len(parts) == 1 else sympy.Or(*parts)
        self.conditions.append(Condition(condition, "an earlier trace serves the other sizes"))


def nontrivial_guards(env: ShapeEnv) -> list[sympy.Basic]:
    """The guards that do not follow from the symbols' ranges and replacements, as sympy."""
    ranges = _ranges_alone(env)
    found = (_nontrivial(env, guard, ranges) for guard in env.guards)
    return [to_sympy(term) for term in found if term is not None]


def _nontrivial(env: ShapeEnv, guard: ShapeGuard, ranges: Prover) -> Term | None:
    """A guard's condition with replacements applied; None where the ranges imply it."""
    term = env.read(guard.term)
    if term.op == "const":
        return None
    return None if ranges.decide(term) else term


def _ranges_alone(env: ShapeEnv) -> Prover:
    """A prover that knows the bounds of the symbols and nothing else."""
    table = env.table
    facts = Facts(table)
    for term in env.symbols.records:
        if term.sort == "int":
            low, high = env.prover.range(term)
            if low is not None:
                facts.assume(table.le(table.const(low), term))
            if high is not None:
                facts.assume(table.le(term, table.const(high)))
    return Prover(facts)


def bound_symbols(placeholders: Sequence[Any], args: Sequence[Any]) -> dict[Any, int]:
    """The value of each symbol of symbolic inputs for other inputs; see `ShapeEnv.bind_symbols`."""
    values: dict[Any, int] = {}
    for fake, real in zip(placeholders, args, strict=True):
        pairs = list(zip(measures(fake), measures(real), strict=True))
        for (_, symbolic), (_, number) in pairs:
            if not isinstance(symbolic, torch.SymInt):
                continue
            expr = symbolic.node.expr
            for symbol, value in ((expr, number), (-expr, -number)):
                if isinstance(symbol, sympy.Symbol) and values.setdefault(symbol, value) != value:
                    raise ConstraintViolationError(
                        f"{symbol} is {values[symbol]} in one place and {value} in another",
                        fix="check the inputs with evaluate_guards_for_args first",
                    )
    return values


def _as_source(source: Source | str) -> Source:
    if isinstance(source, str):
        from torch._dynamo.source import LocalSource

        return LocalSource(source)
    return source


def _has_size(sources: Sequence[Source]) -> bool:
    from torch._dynamo.source import TensorProperty

    return any(getattr(source, "prop", None) is TensorProperty.SIZE for source in sources)


def _promised_numbers(fake: Any, source: Source, context: Any) -> Iterator[tuple[Source, Any, Any]]:
    """The source of each number of an input, the number, and the promise about it."""
    from torch._dynamo.source import AttrSource, TensorProperty, TensorPropertySource
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if fake is None:
        return
    if not is_tensor_like(fake):
        yield source, fake, getattr(context, "constraint", None)
        return
    inner = is_traceable_wrapper_subclass(fake)
    if not inner or getattr(context, "track_outer_size_stride", True):
        of_sizes = getattr(context, "constraint_sizes", None) or [None] * fake.dim()
        of_strides = getattr(context, "constraint_strides", None) or [None] * fake.dim()
        promises = {"size": of_sizes, "stride": of_strides, "storage_offset": [None]}
        properties = {
            "size": TensorProperty.SIZE,
            "stride": TensorProperty.STRIDE,
            "storage_offset": TensorProperty.STORAGE_OFFSET,
        }
        for (kind, index), number in measures(fake):
            promise = promises[kind][index or 0]
            yield TensorPropertySource(source, properties[kind], index), number, promise
    if inner:
        contexts = getattr(context, "inner_contexts", {})
        for name in fake.__tensor_flatten__()[0]:
            part = getattr(fake, name)
            if isinstance(part, torch.Tensor):
                yield from _promised_numbers(part, AttrSource(source, name), contexts.get(name))

"""The checks of the inputs that a trace needs: as text, evaluated, and held against promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra import Facts, Prover, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.dim_constraints import DimConstraints
from symfx.symbolic_shapes.checks.measures import is_tensor_like, measures
from symfx.symbolic_shapes.checks.promises import Condition, Promises, Report, raise_for
from symfx.symbolic_shapes.checks.text import (
    CppGuardPrinter,
    ShapeGuardPythonPrinter,
    _CppShapeGuardsHelper,
    _ShapeGuardsHelper,
    run_guard_code,
)
from symfx.symbolic_shapes.checks.text_functions import SYMPY_INTERP
from symfx.symbolic_shapes.environment.events import replay_shape_env_events
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.records import ShapeGuard
from symfx.symbolic_shapes.torch_api.constraints import (
    EqualityConstraint,
    RelaxedUnspecConstraint,
    StrictMinMaxConstraint,
)

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["GuardProduction"]


class GuardProduction(Promises):
    """From guards to checks; see `ShapeEnv`.

    Attributes:
        dim_constraints: what the last `produce_guards` found to suggest, once it ran.
    """

    dim_constraints: DimConstraints | None = None

    if TYPE_CHECKING:
        # Of `Recording`, the other base of ShapeEnv.
        check_recorded_events: bool
        events: list[Any]

        def check_equal(self, other: Any) -> None:
            """See `Recording`."""

    # -- text -----------------------------------------------------------------------------------

    def produce_guards(self, *args: Any, **kwargs: Any) -> list[str]:
        """The checks as Python expressions; see `produce_guards_verbose`."""
        return self.produce_guards_verbose(*args, **kwargs, langs=("python",))[0].exprs

    def produce_guards_verbose(
        self,
        placeholders: Sequence[Any],
        sources: Sequence[Any],
        source_ref: Callable[[Source], str] = lambda source: source.name,
        *,
        guards: list[ShapeGuard] | None = None,
        input_contexts: Sequence[Any] | None = None,
        equalities_inputs: EqualityConstraint | None = None,
        _simplified: bool = False,
        ignore_static: bool = True,
        langs: tuple[str, ...] = ("python", "verbose_python"),
    ) -> list[_ShapeGuardsHelper]:
        """The checks that tell whether the trace serves other inputs, as text.

        Args:
            placeholders: the symbolic inputs.
            sources: where each comes from; a str is the name of a local variable.
            source_ref: how a source is written.
            guards: the guards to check, in place of all.
            input_contexts: how each input was made symbolic, with what was promised of it.
            equalities_inputs: which sizes were said to be equal or computed from each other.
            _simplified: leave out what follows from how inputs are made symbolic: that sizes
                are equal, and that they are not 0 or 1.
            ignore_static: leave out sizes of tensors that are constants.
            langs: the languages: ``"python"``, ``"verbose_python"`` (with what caused each
                check) and ``"cpp"``.

        Returns:
            For each language, the checks (`exprs`); all have to hold.

        Raises:
            ConstraintViolationError: a guard breaks what was promised.
            SymfxError: inputs that do not fit their sources or contexts, or a guard on a size
                that no input has.
        """
        if self.check_recorded_events:
            self.check_equal(replay_shape_env_events(self.events))
        report = self._report(
            placeholders, sources, guards, input_contexts, equalities_inputs, _simplified,
            ignore_static,
        )  # fmt: skip
        raise_for(report.broken)
        if self.validator is not None and guards is None and not _simplified:
            self.validator.validate(*self._claims(report))
        return [_in_language(lang, report, source_ref, self.var_to_sources) for lang in langs]

    def produce_guards_expression(
        self,
        placeholders: Sequence[Any],
        *,
        guards: list[ShapeGuard] | None = None,
        ignore_static: bool = True,
    ) -> str | None:
        """The checks as one Python expression, for `evaluate_guards_expression`.

        Args:
            placeholders: the symbolic inputs.
            guards: the guards to check, in place of all.
            ignore_static: leave out sizes that are constants.

        Returns:
            The expression; None where nothing needs a check.
        """
        names = [f"t{i}" for i in range(len(placeholders))]
        checks = self.produce_guards(
            placeholders, names, guards=guards, ignore_static=ignore_static
        )
        return " and ".join(checks) or None

    def evaluate_guards_expression(self, code: str, args: Sequence[Any]) -> bool:
        """Whether inputs pass an expression of `produce_guards_expression`.

        Args:
            code: the expression; it is checked to compare sizes and do nothing else.
            args: the inputs, in the order of the placeholders.
        """
        values = {f"t{i}": value for i, value in enumerate(args)}
        return bool(run_guard_code(code, {"L": values}, SYMPY_INTERP))

    def evaluate_guards_for_args(
        self, placeholders: Sequence[Any], args: Sequence[Any], *, ignore_static: bool = True
    ) -> bool:
        """Whether the trace serves other inputs.

        Args:
            placeholders: the symbolic inputs.
            args: the others.
            ignore_static: do not look at sizes that are constants.
        """
        code = self.produce_guards_expression(placeholders, ignore_static=ignore_static)
        return code is None or self.evaluate_guards_expression(code, args)

    def evaluate_symexpr(self, code: str) -> int | float | bool:
        """The value at tracing of an expression of symbols, as a printer wrote it."""
        values = {to_sympy(t).name: v for t, v in self._hints.items()}
        result: int | float | bool = run_guard_code(code, values, SYMPY_INTERP)
        return result

    def deserialize_symexpr(self, code: str) -> Any:
        """The torch.SymInt (or SymFloat, SymBool) of an expression of symbols as text."""
        values = {to_sympy(t).name: self.wrap(self.read(to_sympy(t))) for t in self._symbols}
        functions = {**SYMPY_INTERP, "max": torch.sym_max, "min": torch.sym_min}
        return run_guard_code(code, values, functions)

    def get_pruned_guards(self, symints: Sequence[Any]) -> list[ShapeGuard]:
        """The guards that speak of no other symbols than the given ones."""
        kept = {self.read(s) for s in symints if isinstance(s, SymTypes)}
        return [g for g in self.guards if self.read(g.term).free_symbols <= kept]

    def get_nontrivial_guards(self) -> list[sympy.Basic]:
        """The guards that do not follow from the symbols' ranges and replacements, as sympy."""
        found = (self._nontrivial(guard) for guard in self.guards)
        return [to_sympy(term) for term in found if term is not None]

    def format_guards(self, verbose: bool = False) -> str:
        """The guards, one a line.

        Args:
            verbose: say what caused each.
        """
        return "\n".join(
            f" - {guard.expr}{f' {guard.provenance}' if verbose else ''}" for guard in self.guards
        )

    def bind_symbols(self, placeholders: Sequence[Any], args: Sequence[Any]) -> dict[Any, int]:
        """The value of each symbol for other inputs.

        Args:
            placeholders: the symbolic inputs; None for those to leave out.
            args: the others.

        Raises:
            ConstraintViolationError: two sizes that share a symbol differ.
        """
        values: dict[Any, int] = {}
        for fake, real in zip(placeholders, args, strict=True):
            pairs = list(zip(measures(fake), measures(real), strict=True))
            for (_, symbolic), (_, number) in pairs:
                if not isinstance(symbolic, torch.SymInt):
                    continue
                expr = symbolic.node.expr
                for symbol, value in ((expr, number), (-expr, -number)):
                    if (
                        isinstance(symbol, sympy.Symbol)
                        and values.setdefault(symbol, value) != value
                    ):
                        raise ConstraintViolationError(
                            f"{symbol} is {values[symbol]} in one place and {value} in another",
                            fix="check the inputs with evaluate_guards_for_args first",
                        )
        return values

    # -- finding out ----------------------------------------------------------------------------

    def _report(
        self,
        placeholders: Sequence[Any],
        sources: Sequence[Any],
        guards: list[ShapeGuard] | None,
        contexts: Sequence[Any] | None,
        equalities: EqualityConstraint | None,
        simplified: bool,
        ignore_static: bool,
    ) -> Report:
        if len(placeholders) != len(sources):
            raise SymfxError(
                f"there are {len(placeholders)} placeholders and {len(sources)} sources",
                fix="give each placeholder its source",
            )
        if contexts is not None and len(contexts) != len(placeholders):
            raise SymfxError(
                f"there are {len(placeholders)} placeholders and {len(contexts)} input contexts",
                fix="give each placeholder its context, or None",
            )
        named = [_as_source(source) for source in sources]
        report = Report()
        if equalities is not None:
            self._impose(equalities, placeholders, named, report)
        for fake, source, context in zip(
            placeholders, named, contexts or [None] * len(named), strict=True
        ):
            for at, number, promise in _promised(fake, source, context):
                self._measure(at, number, promise, report)
        self.dim_constraints = DimConstraints(
            report.symbol_to_source,
            self.backed_var_to_val,
            set(report.promises),
            self.source_name_to_debug_name,
        )
        if not simplified:
            self._equalities(report, equalities, ignore_static)
        self._conditions(report, self.guards if guards is None else guards)
        self._ranges(report, simplified)
        self._exclusions(report)
        return report

    def _measure(self, at: Source, number: Any, promise: Any, report: Report) -> None:
        """One size, stride, offset or number of the inputs."""
        if isinstance(number, SymTypes):
            if not number.node.is_symbolic():
                return  # a ragged dimension that is a constant: nothing to compare
            expr = to_sympy(self.adopt(number.node).term)
        else:
            expr = sympy.sympify(number)
        if isinstance(expr, sympy.Symbol):
            report.symbol_to_source.setdefault(expr, []).append(at)
            if isinstance(promise, StrictMinMaxConstraint):
                report.promises.setdefault(expr, []).append(promise)
            elif isinstance(promise, RelaxedUnspecConstraint):
                pass  # guards may narrow the size, and it is a symbol still
        elif promise is not None:
            self._check_fixed(at, expr, promise, report)
        report.equal.append((at, expr))

    def _equalities(
        self, report: Report, promised: EqualityConstraint | None, ignore_static: bool
    ) -> None:
        """Every input equals what it is in the trace."""
        from torch._dynamo.source import TensorPropertySource

        assert self.dim_constraints is not None
        for at, expr in report.equal:
            if isinstance(expr, sympy.Symbol) and at == report.symbol_to_source[expr][0]:
                continue
            of_tensor = isinstance(at, TensorPropertySource)
            if ignore_static and of_tensor and expr.is_number:
                continue
            is_size = of_tensor and _has_size([at])
            if is_size:
                self.dim_constraints.add_equality(at, expr)
            report.conditions.append(Condition(expr, self._why_equal(at, expr), at))
            if is_size and promised is not None and len(expr.free_symbols) == 1:
                self._check_equality(at, expr, promised, report)

    def _why_equal(self, at: Source, expr: sympy.Basic) -> str:
        original = self.source_to_var.get(at.name)
        if original is None:
            return "the layout at tracing"
        origin = self.replacements_slocs.get(original)
        if origin is not None:
            return str(origin)
        return f"equal at tracing ({self.backed_var_to_val.get(original)}): duck sizing"

    def _nontrivial(self, guard: ShapeGuard, ranges: Prover | None = None) -> Term | None:
        """A guard's condition in current names; None where the ranges imply it."""
        term = self.read(guard.term)
        if term.op == "const":
            return None
        return None if (ranges or self._ranges_alone()).decide(term) else term

    def _ranges_alone(self) -> Prover:
        """A prover that knows the bounds of the symbols and nothing else."""
        facts = Facts(self.table)
        for term in self._symbols:
            if term.sort == "int":
                low, high = self.prover.range(term)
                if low is not None:
                    facts.assume(self.table.le(self.table.const(low), term))
                if high is not None:
                    facts.assume(self.table.le(term, self.table.const(high)))
        return Prover(facts)

    def _conditions(self, report: Report, guards: Sequence[ShapeGuard]) -> None:
        """The guards that do not follow from ranges and equalities."""
        assert self.dim_constraints is not None
        ranges = self._ranges_alone()
        issued: set[Term] = set()
        for guard in guards:
            term = self._nontrivial(guard, ranges)
            if term is None or term in issued:
                continue
            issued.add(term)
            # As the program wrote it, where nothing has been learned of its symbols since.
            expr = guard.expr if term is guard.term else to_sympy(term)
            trivial = False
            if any(_has_size(report.symbol_to_source.get(s, ())) for s in expr.free_symbols):
                trivial = self.dim_constraints.add(expr)
            report.conditions.append(Condition(expr, str(guard.provenance)))
            if not trivial and len(expr.free_symbols) == 1:
                (symbol,) = expr.free_symbols
                self._check_condition(symbol, expr, str(guard.provenance), report)
        for record in self._asserts:
            if self.is_backed(record.term) and ranges.decide(record.term) is None:
                term = self.facts.resolve(record.term)
                if term.op != "const":
                    self.dim_constraints.add(to_sympy(term))

    def _ranges(self, report: Report, simplified: bool) -> None:
        """Every symbol lies in its range; so does every input that is an expression now."""
        usual = self._default_value_range().lower
        for symbol, sources in report.symbol_to_source.items():
            term = self._by_sympy.get(symbol)
            if term is None or not sources:
                continue
            if term.sort == "real":
                # A trace assumes of a float that it equals itself.
                nan = sympy.Function("isnan")(symbol)
                report.conditions.append(Condition(nan, "floats are taken not to be NaN"))
                continue
            low, high = self.prover.range(term)
            self._bounds(report, symbol, low, high, _has_size(sources))
            parts = []
            if low is not None and not (simplified and low == usual):
                parts.append(sympy.Le(low, symbol, evaluate=False))
            if high is not None:
                parts.append(sympy.Le(symbol, high, evaluate=False))
            if not parts:
                continue
            both = sympy.And(*parts, evaluate=False) if len(parts) > 1 else parts[0]
            origins = self.var_to_range_sloc[symbol]
            reasons = dict.fromkeys(
                str(origin)
                for origin, bound in ((origins.lower, low), (origins.upper, high))
                if bound is not None
            )
            report.conditions.append(Condition(both, " and ".join(reasons)))
            self._check_range(symbol, low, high, origins, report)
        self._replaced_ranges(report)

    def _bounds(
        self, report: Report, symbol: sympy.Symbol, low: Any, high: Any, is_size: bool
    ) -> None:
        assert self.dim_constraints is not None
        if is_size and low is not None:
            self.dim_constraints.add(sympy.Ge(symbol, low, evaluate=False))
        if is_size and high is not None:
            self.dim_constraints.add(sympy.Le(symbol, high, evaluate=False))

    def _replaced_ranges(self, report: Report) -> None:
        """The range of a symbol that an expression stands for holds of the expression."""
        ranges = self._ranges_alone()
        for symbol, by in self.facts.replacements.items():
            if symbol not in self._hints or by.op in ("const", "symbol"):
                continue
            if not all(to_sympy(s) in report.symbol_to_source for s in by.free_symbols):
                continue
            low, high = self.prover.range(symbol)
            for bound in (
                None if low is None else self.table.le(self.table.const(low), by),
                None if high is None else self.table.le(by, self.table.const(high)),
            ):
                if bound is not None and ranges.decide(bound) is not True:
                    origin = str(self._symbols[symbol].provenance)
                    report.conditions.append(Condition(to_sympy(bound), origin))

    def _claims(self, report: Report) -> tuple[list[Term], list[Term]]:
        """The checks of a report, and what they have to imply beside what was asked.

        Each size and number of the inputs has a symbol of its own here, named by its source, so
        that nothing is taken for granted of what the trace took for equal.
        """
        table, read = self.table, self._reader.read

        def measured(source: Source) -> Term:
            known = self._input_facts.get(source.name)
            return table.symbol(source.name, "int" if known is None else known.term.sort)

        checks: list[Term] = []
        for term, record in self._symbols.items():
            if record.sources and any(at == record.sources[0] for at, _ in report.equal):
                checks.append(table.eq(term, measured(record.sources[0])))
        checked = {condition.source for condition in report.conditions}
        for condition in report.conditions:
            if condition.source is not None:
                checks.append(table.eq(measured(condition.source), read(condition.expr)))
            elif getattr(condition.expr.func, "__name__", "") != "isnan":
                checks.append(read(condition.expr))
        relied: list[Term] = []
        for at, expr in report.equal:
            known = self._input_facts.get(at.name)
            if known is not None:
                # Who leaves out the checks of constants checks them in another way.
                constant = expr.is_number and at not in checked
                (checks if constant else relied).append(table.eq(measured(at), known.term))
        for symbol, by in self.facts.replacements.items():
            (relied if symbol in self._hints else checks).append(table.eq(symbol, by))
        return checks, relied

    def _exclusions(self, report: Report) -> None:
        """Sizes that an earlier trace serves are left to it."""
        import torch._dynamo.config as dynamo

        if not getattr(dynamo, "automatic_dynamic_exclusion_guard", True):
            return
        pairs = [(s, v) for s, v in self.exclusion_constraints if report.symbol_to_source.get(s)]
        values = self.backed_var_to_val
        if not pairs or all(values.get(s) == v for s, v in pairs):
            return
        parts = [sympy.Ne(s, v, evaluate=False) for s, v in pairs]
        condition = parts[0] if len(parts) == 1 else sympy.Or(*parts)
        report.conditions.append(Condition(condition, "an earlier trace serves the other sizes"))


def _as_source(source: Any) -> Source:
    if isinstance(source, str):
        from torch._dynamo.source import LocalSource

        return LocalSource(source)
    return source  # type: ignore[no-any-return]


def _has_size(sources: Sequence[Source]) -> bool:
    from torch._dynamo.source import TensorProperty

    return any(getattr(source, "prop", None) is TensorProperty.SIZE for source in sources)


def _promised(fake: Any, source: Source, context: Any) -> Iterator[tuple[Source, Any, Any]]:
    """The numbers of an input, where each comes from, and what was promised of it."""
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
                yield from _promised(part, AttrSource(source, name), contexts.get(name))


def _in_language(
    lang: str, report: Report, source_ref: Callable[[Source], str], known: Any
) -> _ShapeGuardsHelper:
    """The checks of a report as text."""
    if lang not in ("python", "verbose_python", "cpp"):
        raise SymfxError(
            f"{lang!r} is no language of checks", fix="use python, verbose_python or cpp"
        )
    printer: Any = (CppGuardPrinter if lang == "cpp" else ShapeGuardPythonPrinter)(
        report.symbol_to_source, source_ref, known
    )
    texts = []
    for condition in report.conditions:
        if condition.source is not None:
            text = f"{printer.print_source(condition.source)} == {printer.doprint(condition.expr)}"
        elif getattr(condition.expr.func, "__name__", "") == "isnan":
            isnan = "!std::isnan" if lang == "cpp" else "not math.isnan"
            text = f"{isnan}({printer.doprint(condition.expr.args[0])})"
        else:
            text = printer.doprint(condition.expr)
        texts.append(f"{text}  # {condition.comment}" if lang == "verbose_python" else text)
    if lang == "cpp":
        return _CppShapeGuardsHelper(texts, printer.source_to_symbol)
    return _ShapeGuardsHelper(texts)

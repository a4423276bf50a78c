"""ShapeEnv: the symbols of a trace, what is known of them, and the guards that tracing needs.

The class is built in layers, each a module of its own that uses those below it: `core` (terms,
facts, nodes), `learning` (what the program states), `decisions` (questions that need an answer),
`symbols` and `inputs` (what is made symbolic), `sympy_questions` and `state` (the same in sympy,
under torch's names). Each call of `produce_guards` makes an `InputChecks`; a `Recorder` notes the
calls that change the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx import config
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.dim_constraints import DimConstraints
from symfx.symbolic_shapes.checks.input_checks import (
    InputChecks,
    bound_symbols,
    nontrivial_guards,
)
from symfx.symbolic_shapes.checks.programs import GuardProgram
from symfx.symbolic_shapes.checks.text import _ShapeGuardsHelper, run_guard_code
from symfx.symbolic_shapes.checks.text_functions import SYMPY_INTERP
from symfx.symbolic_shapes.environment.comparison import shape_env_check_state_equal
from symfx.symbolic_shapes.environment.events import ShapeEnvEvent, replay_shape_env_events
from symfx.symbolic_shapes.environment.recorder import Recorder
from symfx.symbolic_shapes.records import ShapeGuard
from symfx.symbolic_shapes.settings import ShapeEnvSettings, UnknownSettingError
from symfx.symbolic_shapes.torch_api.constraints import EqualityConstraint
from symfx.symbolic_shapes.torch_api.questions import SympyQuestions
from symfx.torch_bridge.identity import TorchShapeEnv

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["ShapeEnv"]


class ShapeEnv(SympyQuestions):
    """The home of a trace's symbols, facts and guards.

    Args:
        should_record_events: note each call that changes the environment in `events`; see
            `symfx.recording`.
        tracked_fakes: the inputs, where the tracer keeps a list of them.
        co_fields: what logs say about the traced code.
        duck_shape: see `ShapeEnvSettings`; ``config.use_duck_shape`` where not given.
        settings: the other fields of `ShapeEnvSettings`, by name.

    Attributes:
        settings: the settings.
        table: the terms.
        facts: what is known.
        prover: decides what follows.
        guards: the conditions on the inputs that tracing relied on.
        ignored_guards: those that would have been needed after `freeze`.
        nodes: the node of each term that has one.
        current_operator: the operator that is being traced, for the provenance of guards.
        recorder: notes the calls that change the environment, where that is asked for.
        tracked_fakes: the inputs, where the tracer keeps a list of them.
        dim_constraints: the constraints that the last `produce_guards` collected.

    Example:
        >>> import torch
        >>> env = ShapeEnv()
        >>> u = env.create_unbacked_symint()
        >>> torch._check(u >= 4)
        >>> bool(u > 3)
        True
    """

    # FakeTensorMode and others test for torch's class.
    __class__ = TorchShapeEnv  # type: ignore[assignment]

    def __init__(
        self,
        *,
        should_record_events: bool | None = None,
        tracked_fakes: list[Any] | None = None,
        co_fields: dict[str, str] | None = None,
        duck_shape: bool | None = None,
        **settings: Any,
    ) -> None:
        unknown = settings.keys() - {field.name for field in dataclasses.fields(ShapeEnvSettings)}
        if unknown:
            raise UnknownSettingError(
                f"a ShapeEnv has no setting {min(unknown)!r}",
                fix="see ShapeEnvSettings for those it has",
            )
        settings["duck_shape"] = config.use_duck_shape if duck_shape is None else duck_shape
        super().__init__(ShapeEnvSettings(**settings))
        self.tracked_fakes = tracked_fakes
        self.co_fields = co_fields or {}
        self.fake_tensor_cache: dict[Any, Any] = {}
        # What torch's Dynamo keeps here while it reads a description of shapes.
        self._spec_symbol_to_compile_symbol: dict[Any, Any] = {}
        self._shape_spec_pending_assumptions: list[Any] = []
        self.dim_constraints: DimConstraints | None = None
        # Last, because it replaces methods of the finished environment.
        self.recorder = Recorder(self, should_record_events, settings)

    @property
    def _translation_validation_enabled(self) -> bool:
        return self.validator is not None

    def __repr__(self) -> str:
        names = ", ".join(s.name for s in self._symbols)
        return f"<ShapeEnv of {names or 'no symbols'}, {len(self.guards)} guards>"

    def __deepcopy__(self, memo: dict[int, Any]) -> ShapeEnv:
        # Terms live and die with their table: a copied graph module keeps speaking of this one.
        return self

    @contextlib.contextmanager
    def patch_source_specialization(
        self, source: Source, check_fn: Callable[[Any], Any]
    ) -> Iterator[None]:
        """Inside, a condition on one size holds; afterwards nothing of it is known.

        Args:
            source: the size.
            check_fn: the condition, of a torch.SymInt.

        Raises:
            SymfxError: the size is no symbol of this environment.
        """
        symbol = self.source_to_var.get(source.name)
        if symbol is None:
            raise SymfxError(f"{source.name} is not symbolic", fix="name a size that has a symbol")
        condition = self.read(check_fn(self.wrap(self.read(symbol))))
        kept = (self.facts, self.prover, self._hint_memo, self.frozen, self.validator)
        before = self.facts
        # What is learned inside is dropped with the store that it went into.
        self.validator = None
        self.facts = before.copy()
        self.facts.epoch += 1
        self.prover, self._hint_memo = self._prover_of(self.facts), {}
        try:
            self._learn(condition)
            self.frozen = True
            yield
        finally:
            # Nodes look anew at what stands for their symbols.
            before.epoch = max(before.epoch, self.facts.epoch) + 1
            self.facts, self.prover, self._hint_memo, self.frozen, self.validator = kept

    # -- recorded events --------------------------------------------------------------------------

    @property
    def should_record_events(self) -> bool:
        """Whether the calls that change the environment are recorded."""
        return self.recorder.on

    @property
    def check_recorded_events(self) -> bool:
        """Whether the events are replayed, and the result compared, before guards are produced."""
        return self.recorder.checks_replay

    @property
    def is_recording(self) -> bool:
        """Whether a recorded call is under way."""
        return self.recorder.busy

    @property
    def events(self) -> list[ShapeEnvEvent]:
        """The recorded calls; the first makes the environment."""
        return self.recorder.events

    @property
    def failed_event(self) -> ShapeEnvEvent | None:
        """The last recorded call that raised; it is not among the events."""
        return self.recorder.failed

    def check_equal(self, other: ShapeEnv) -> None:
        """Check that another environment knows the same and would issue the same guards.

        Raises:
            NotEqualError: the environments differ; the message names each difference.
        """
        shape_env_check_state_equal(self, other, (), lambda name, value: value)

    # -- checks of other inputs -------------------------------------------------------------------

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
            guards: the guards to check; None for all guards.
            input_contexts: how each input was made symbolic, with the promises about its sizes.
            equalities_inputs: the sizes that were stated to be equal, or computed from each other.
            _simplified: leave out what follows from how inputs are made symbolic: that sizes
                are equal, and that they are not 0 or 1.
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
        if self.check_recorded_events:
            self.check_equal(replay_shape_env_events(self.events))
        checks = InputChecks(
            self,
            placeholders,
            sources,
            guards=guards,
            input_contexts=input_contexts,
            equalities=equalities_inputs,
            simplified=_simplified,
            ignore_static=ignore_static,
        )
        self.dim_constraints = checks.dim_constraints
        checks.promises.raise_if_broken()
        if self.validator is not None and guards is None and not _simplified:
            self.validator.validate(*checks.claims())
        return [checks.as_text(lang, source_ref) for lang in langs]

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
            guards: the guards to check; None for all guards.
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
            args: the other inputs.
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
        return nontrivial_guards(self)

    def format_guards(self, verbose: bool = False) -> str:
        """The guards, one a line.

        Args:
            verbose: add the cause of each.
        """
        return "\n".join(
            f" - {guard.expr}{f' {guard.provenance}' if verbose else ''}" for guard in self.guards
        )

    def bind_symbols(self, placeholders: Sequence[Any], args: Sequence[Any]) -> dict[Any, int]:
        """The value of each symbol for other inputs.

        Args:
            placeholders: the symbolic inputs; None for those to leave out.
            args: the other inputs.

        Raises:
            ConstraintViolationError: two sizes that share a symbol differ.
        """
        return bound_symbols(placeholders, args)

    def guard_program(self, guards: Iterable[ShapeGuard] | None = None) -> GuardProgram:
        """What the inputs must satisfy, as a program: compiled Python, C, SMT-LIB.

        Args:
            guards: the guards to check; all of them where not given.
        """
        return GuardProgram.of(self, guards)

    def cleanup(self) -> None:
        """Called by torch after a trace; terms die with the environment: nothing to do."""

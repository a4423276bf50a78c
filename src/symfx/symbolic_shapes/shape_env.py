"""ShapeEnv: the symbols of a trace, what is known of them, and the guards that tracing needs.

The class is built in layers, each a module of its own that uses those below it: `core` (terms,
facts, nodes), `learning` (what the program states), `decisions` (questions that need an answer),
`symbols` and `inputs` (what is made symbolic), `sympy_questions` and `state` (the same in sympy,
under torch's names), `guard_production` (checks of other inputs).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from symfx import config
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.guard_production import GuardProduction
from symfx.symbolic_shapes.checks.programs import GuardProgram
from symfx.symbolic_shapes.environment.events import Recording
from symfx.symbolic_shapes.records import ShapeGuard
from symfx.symbolic_shapes.settings import ShapeEnvSettings, UnknownSettingError
from symfx.torch_bridge.identity import TorchShapeEnv

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["ShapeEnv"]


class ShapeEnv(Recording, GuardProduction):
    """The home of a trace's symbols, facts and guards.

    Args:
        should_record_events: note each call that changes the environment in `events`; see
            `symfx.recording`.
        tracked_fakes: the inputs, where whoever traces keeps a list of them.
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
        self._set_up_recording(should_record_events, settings)

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

    def guard_program(self, guards: Iterable[ShapeGuard] | None = None) -> GuardProgram:
        """What the inputs must satisfy, as a program: compiled Python, C, SMT-LIB.

        Args:
            guards: the guards to check; all of them where not given.
        """
        return GuardProgram.of(self, guards)

    def cleanup(self) -> None:
        """Called by torch after a trace; terms die with the environment: nothing to do."""

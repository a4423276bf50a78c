"""ShapeEnv: the symbols of a trace, the facts about them, and the guards that tracing needs.

A ShapeEnv is made of parts, in the folder environment: `Symbols` (names, sources, values at
tracing), `Knowledge` (facts and a prover), `Ledger` (guards and runtime assertions), `Inputs` (how
inputs are made symbolic) and `Recorder` (the log of calls). The class itself speaks in terms, and
makes the nodes of torch's numbers. The methods that torch calls stand in the folder torch_api, as
functions of an environment; the class is long because it lists each of them. The state that torch
reads is listed in `TorchState`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import sympy

from symfx import config
from symfx.algebra import Scalar, Table, Term
from symfx.algebra.reasoning.proofs import Proof, prove
from symfx.errors import SymfxError
from symfx.sym_node import SymNode, SymTypes, wrap_node
from symfx.symbolic_shapes.checks.dim_constraints import DimConstraints
from symfx.symbolic_shapes.checks.validation import TranslationValidator
from symfx.symbolic_shapes.dims import Dim, DimExpression
from symfx.symbolic_shapes.environment.comparison import shape_env_check_state_equal
from symfx.symbolic_shapes.environment.copying import copied
from symfx.symbolic_shapes.environment.events import ShapeEnvEvent
from symfx.symbolic_shapes.environment.inputs import Inputs
from symfx.symbolic_shapes.environment.knowledge import Knowledge
from symfx.symbolic_shapes.environment.ledger import Ledger
from symfx.symbolic_shapes.environment.recorder import Recorder
from symfx.symbolic_shapes.environment.switches import _suppress_guards
from symfx.symbolic_shapes.environment.symbols import Symbols
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.explain.data_dependent import data_dependent_error
from symfx.symbolic_shapes.explain.provenance import STATED, Provenance, current_provenance
from symfx.symbolic_shapes.records import (
    InputFact,
    RuntimeAssert,
    ShapeGuard,
    SpecializationRecord,
    SymbolInfo,
)
from symfx.symbolic_shapes.settings import ShapeEnvSettings, UnknownSettingError
from symfx.symbolic_shapes.torch_api import (
    guard_checks,
    input_symbols,
    numbers,
    questions,
    statements,
)
from symfx.symbolic_shapes.torch_api.attributes import KeptIn
from symfx.symbolic_shapes.torch_api.torch_state import TorchState
from symfx.torch_bridge.fake_cache import mode_asking_for_a_key, refuse_dispatch_cache
from symfx.torch_bridge.identity import TorchShapeEnv

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["ShapeEnv"]


class ShapeEnv(TorchState):
    """The home of a trace's symbols, facts and guards.

    Args:
        should_record_events: note each call that changes the environment in `events`; see
            `symfx.recording`.
        tracked_fakes: the inputs, where the tracer keeps a list of them.
        co_fields: the description of the traced code in logs.
        duck_shape: see `ShapeEnvSettings`; ``config.use_duck_shape`` where not given.
        settings: the other fields of `ShapeEnvSettings`, by name.

    Attributes:
        table: the terms.
        symbols: the symbols, with their sources and values at tracing.
        knowledge: the facts, and how new ones are learned.
        ledger: the guards and runtime assertions, and how new ones are recorded.
        inputs: how inputs are made symbolic.
        recorder: notes the calls that change the environment, where that is asked for.
        validator: holds the checks against the answers that tracing relied on, where
            translation validation is on.
        facts: the facts themselves.
        prover: decides conditions from the facts.
        decide: `Knowledge.decide`, whether the facts imply a condition.
        hint_of: `Knowledge.hint_of`, the value of a term at tracing.
        settle_extremum: `Knowledge.settle_extremum`.
        settled: `Knowledge.settled`, a term as simple as the facts allow.
        is_backed: `Symbols.is_backed`, whether a term has no unbacked symbols.
        is_of_data: `Symbols.is_of_data`, whether an operator made a symbol from data.
        first_name: `Knowledge.first_name`, what torch sees of a replaced symbol of data.
        nodes: the node of each term that has one.
        asked: how the program wrote each comparison: the method and both sides.
        shown_as: the sympy symbol to print instead of one that was renamed for torch.
        speaks_torch: whether torch's own export or compile made the environment: errors about
            data then say, too, what torch's own errors say.
        current_operator: the operator that is being traced, for the provenance of guards.
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
        self._settings = told = ShapeEnvSettings(**settings)
        self.current_operator: object = None
        self.speaks_torch = False
        self.nodes: dict[Term, SymNode] = {}
        self.table = Table()
        validates: bool = config.translation_validation
        self.validator = TranslationValidator(self.table, self._here) if validates else None
        self.symbols = Symbols(self.table, self._here)
        self.knowledge = Knowledge(self.symbols, told, self._here, self.validator)
        self.ledger = Ledger(self.knowledge, told, self._here, self._data_dependent)
        self.inputs = Inputs(self.knowledge, self.ledger, told, id(self), self.node_for)
        self.facts = self.knowledge.facts
        self.prover = self.knowledge.prover
        self.asked = self.ledger.asked
        self.shown_as = self.symbols.shown_as
        # Bound once: a method that passes these calls on would cost each question a hop.
        self.decide = self.knowledge.decide
        self.hint_of = self.knowledge.hint_of
        self.settle_extremum = self.knowledge.settle_extremum
        self.settled = self.knowledge.settled
        self.first_name = self.knowledge.first_name
        self.is_backed = self.symbols.is_backed
        self.is_of_data = self.symbols.is_of_data
        if type(self).evaluate_term is ShapeEnv.evaluate_term:  # no subclass has its own
            self.evaluate_term = self.ledger.value_of  # type: ignore[method-assign]
        self.tracked_fakes = tracked_fakes
        self.co_fields = co_fields or {}
        self.dim_constraints: DimConstraints | None = None
        # Kept by torch.
        self.fake_tensor_cache: dict[Any, Any] = {}
        self._spec_symbol_to_compile_symbol: dict[Any, Any] = {}
        self._shape_spec_pending_assumptions: list[Any] = []
        self._unbacked_replacements: dict[Any, Any] | None = None
        # Last, because it replaces methods of the finished environment.
        self.recorder = Recorder(self, should_record_events, settings)

    def __repr__(self) -> str:
        names = ", ".join(self.symbols.by_name)
        return f"<ShapeEnv of {names or 'no symbols'}, {len(self.guards)} guards>"

    def __deepcopy__(self, memo: dict[int, Any]) -> ShapeEnv:
        # The numbers in a graph module stay those of this environment when the module is copied.
        # Only a copy of the environment itself, for which `memo` is empty, is another one.
        return self if memo else copied(self)

    def cleanup(self) -> None:
        """Do nothing: terms die with the environment. torch calls this after a trace."""

    def _create_fx_call_function(self, op: object, args: object) -> tuple[None, bool]:
        """Give torch's own nodes, which Inductor makes on this environment, no node of a graph.

        torch validates translations by such graphs; symfx does so in its own way.
        """
        return None, False

    def _here(self) -> Provenance:
        """The current provenance: the user's line and the operator that run now."""
        return current_provenance(self.current_operator)

    def _data_dependent(self, term: Term) -> GuardOnDataDependentSymNode:
        error = data_dependent_error(self, term)
        error.question = (self, term, self._here())
        return error

    # -- settings -------------------------------------------------------------------------------

    @property
    def settings(self) -> ShapeEnvSettings:
        """The settings, as they were given."""
        self._offer_operation_cache()
        return self._settings

    def _offer_operation_cache(self) -> None:
        """Have a FakeTensorMode use symfx's operation cache, if torch's cache asks at this moment.

        torch's cache takes the settings of the environment into its key, and no other method of
        the environment is called while a key is made: so this is the place where the environment
        meets the mode.

        Raises:
            _BypassDispatchCache: the mode is making a key for torch's cache; see
                `refuse_dispatch_cache`.
        """
        mode = mode_asking_for_a_key(2)  # below it stand `settings` and this method
        if mode is not None:
            from symfx.fake_operators.cache import adopt  # costly, and for tracers alone

            adopt(mode, self)
            refuse_dispatch_cache()

    allow_scalar_outputs = KeptIn[bool]("_settings")
    allow_dynamic_output_shape_ops = KeptIn[bool]("_settings")
    assume_static_by_default = KeptIn[bool]("_settings")
    specialize_zero_one = KeptIn[bool]("_settings")
    duck_shape = KeptIn[bool]("_settings")
    prefer_deferred_runtime_asserts_over_guards = KeptIn[bool]("_settings")
    trace_asserts = KeptIn[bool]("_settings")

    # -- terms, nodes and torch's numbers -------------------------------------------------------

    def node_for(self, term: Term, hint: Scalar | None = None) -> SymNode:
        """The node of a term, made at the first call."""
        node = self.nodes.get(term)
        if node is None:
            value = term.value
            # A hint that is not at hand is computed on its first use: doing so for each partial
            # sum of n terms would cost n times n.
            if value is not None:
                hint = value
            node = self.nodes[term] = SymNode.of(self, term, hint)
        return node

    def wrap(self, term: Term) -> Any:
        """The number, torch.SymInt, torch.SymFloat or torch.SymBool of a term."""
        return wrap_node(self.node_for(term))

    def adopt(self, node: Any) -> SymNode:
        """A node of this environment for one that torch or another environment made.

        Raises:
            SymfxError: the node is not a constant, and its symbols are not of this environment.
        """
        if type(node) is SymNode:
            if node.shape_env is self:
                known: SymNode = node
                return known
            value: Any = node.constant
            if value is None:
                raise SymfxError(
                    f"{node.term} belongs to another ShapeEnv",
                    fix="trace all inputs of a program with one ShapeEnv",
                )
            return self.node_for(self.table.const(value))
        for read in ("maybe_as_int", "constant_int", "constant_bool"):
            method = getattr(node, read, None)
            value = method() if callable(method) else None
            if value is not None:
                return self.node_for(self.table.const(value))
        expr = getattr(node, "expr", None)
        # Symbols of another environment may have the names of symbols of this one.
        if getattr(node, "shape_env", None) is self and isinstance(expr, sympy.Basic):
            theirs: SymNode = self.node_for(self.read(expr))
            return theirs
        raise SymfxError(
            f"{node} cannot take part in arithmetic with symbols of this ShapeEnv",
            fix="nested ints and symbols of torch's own ShapeEnv do not mix with symfx's",
        )

    def read(self, expr: Any) -> Term:
        """The term of a sympy expression or number, with replacements applied.

        Raises:
            SymfxError: a symbol that this environment did not make.
        """
        if isinstance(expr, Term):
            return self.facts.resolve(expr)
        if isinstance(expr, (bool, int, float)):
            return self.table.const(expr)
        if isinstance(expr, SymTypes):
            return self.adopt(expr.node).term
        return self.facts.resolve(self.symbols.reader.read(expr))

    # -- questions in terms ---------------------------------------------------------------------

    def evaluate_term(
        self, term: Term, *, size_oblivious: bool = False, fallback: Scalar | None = None
    ) -> Scalar:
        """The value of a term: the one that the facts imply, else its hint, guarded.

        Args:
            term: an integer, real or boolean term.
            size_oblivious: take unbacked symbols that are sizes to be at least 2.
            fallback: the answer where the value depends on data.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        return self.ledger.value_of(term, size_oblivious=size_oblivious, fallback=fallback)

    def expect(self, condition: Term, message: str = "") -> bool:
        """Rely on a condition: a guard where it has a hint, else a runtime assertion.

        Returns:
            Whether the condition may hold. Where it does not, the caller has to stop the program.
        """
        return self.ledger.expect(condition, message)

    def constrain_range(self, term: Term, low: int | None, high: int | None) -> None:
        """Learn that a term is between two bounds, which may be infinite.

        Raises:
            ConstraintViolationError: no value is between them.
        """
        self.knowledge.constrain_range(term, low, high)

    def name_dimension(self, source: str, index: int, dim: Dim | DimExpression) -> None:
        """Give a dimension of an input a name, or an expression, before it is made symbolic.

        Args:
            source: the input's name.
            index: which dimension.
            dim: the name, with bounds if it has any; or an expression of names, with the sizes
                of the names in the example.
        """
        self.symbols.dims[(source, index)] = dim

    def state_condition(self, condition: Term, text: str) -> None:
        """Take a condition on the inputs for granted, because the user states it.

        It becomes a guard, so that other inputs are checked for it.

        Args:
            condition: the condition, which holds for the inputs at tracing.
            text: the condition as the user wrote it.
        """
        cause = Provenance(None, STATED + text)
        self.ledger.guards.append(ShapeGuard(condition, cause))
        self.knowledge.learn(condition, cause)

    @contextlib.contextmanager
    def patch_source_specialization(
        self, source: Source, check_fn: Callable[[Any], Any]
    ) -> Iterator[None]:
        """Inside, a condition on one size holds; afterwards it is forgotten.

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
        with self.knowledge.supposing(condition), self.ledger.without_guards():
            yield

    # -- guards and assertions ------------------------------------------------------------------

    guards = KeptIn[list[ShapeGuard]]("ledger")
    ignored_guards = KeptIn[list[ShapeGuard]]("ledger")
    frozen = KeptIn[bool]("ledger")
    runtime_asserts_frozen = KeptIn[bool]("ledger")

    def freeze(self) -> None:
        """Guards are settled: later questions are answered from the hints.

        An answer that would have needed a guard is logged as a warning and kept in
        `ignored_guards`. Symbols that the guards leave one value are logged, with the cause.
        """
        self.ledger.freeze()

    def freeze_runtime_asserts(self) -> None:
        """Assertions at run time are settled: a new one is logged as a warning."""
        self.ledger.runtime_asserts_frozen = True

    def error_on_new_guards(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a question that would need a guard is a `_ShapeEnvGuardError`."""
        return self.ledger.error_on_new_guards()

    def suppress_guards(self) -> contextlib.AbstractContextManager[None]:
        """Inside, questions are answered from hints and leave no guards."""
        return _suppress_guards(self)

    def _suppress_guards_enter(self) -> None:
        self.ledger.suppression.depth += 1

    def _suppress_guards_exit(self) -> None:
        self.ledger.suppression.depth -= 1

    def _suppress_guards_tls(self) -> bool:
        return self.ledger.suppression.depth > 0

    _version_counter = KeptIn[int]("ledger", "version")

    def _update_version_counter(self) -> None:
        """Raise `_version_counter`; torch calls this after it changed state directly."""
        self.ledger.raise_version()

    @property
    def num_deferred_runtime_asserts(self) -> int:
        """The number of runtime assertions; writing it changes nothing."""
        return len(self.ledger.asserts)

    @num_deferred_runtime_asserts.setter
    def num_deferred_runtime_asserts(self, value: int) -> None:
        pass

    # -- knowledge, for people and tools --------------------------------------------------------

    @property
    def epoch(self) -> int:
        """How many symbols have been replaced; cached results hold within one epoch."""
        return self.facts.epoch

    _replacements_version_counter = epoch

    @property
    def _translation_validation_enabled(self) -> bool:
        return self.validator is not None

    def symbol_table(self) -> list[SymbolInfo]:
        """The symbols in the order in which they were made, with hint and bounds."""
        table = []
        for term, record in self.symbols.records.items():
            lower, upper = self.prover.range(term) if term.sort == "int" else (None, None)
            table.append(
                SymbolInfo(
                    name=term.name,
                    term=term,
                    sources=tuple(source.name for source in record.sources),
                    hint=self.symbols.hints.get(term),
                    lower=lower,
                    upper=upper,
                    unbacked=record.unbacked,
                )
            )
        return table

    def input_facts(self) -> list[InputFact]:
        """The values that the inputs' sizes, strides and offsets must have, beside the guards."""
        return list(self.inputs.facts.values())

    def deferred_asserts(self) -> list[RuntimeAssert]:
        """The conditions on unbacked symbols that the running program has to check."""
        return list(self.ledger.asserts)

    def specialization_records(self) -> list[SpecializationRecord]:
        """The symbols that tracing pinned to one value, with the cause of each."""
        return list(self.knowledge.specializations)

    def proof(self, condition: Any) -> Proof:
        """The facts that prove a condition, or its opposite.

        Args:
            condition: a torch.SymBool, a bool, a term or a sympy condition.

        Returns:
            The answer with the facts that give it, including facts that z3 used where the
            environment has the z3 prover.

        Example:
            >>> import torch
            >>> from symfx.symbolic_shapes import ShapeEnv
            >>> env = ShapeEnv()
            >>> u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
            >>> torch._check(u >= 4); torch._check(v > u)
            >>> print(env.proof(v >= 5))
            u1 >= 5 holds, because u0 >= 4 and u1 > u0
        """
        return prove(self.facts, self.read(condition), self.prover)

    def check_equal(self, other: ShapeEnv) -> None:
        """Check that another environment knows the same and would issue the same guards.

        Raises:
            NotEqualError: the environments differ; the message names each difference.
        """
        shape_env_check_state_equal(self, other, (), lambda name, value: value)

    # -- recorded events ------------------------------------------------------------------------

    should_record_events = KeptIn[bool]("recorder", "on")
    check_recorded_events = KeptIn[bool]("recorder", "checks_replay")
    is_recording = KeptIn[bool]("recorder", "busy")
    events = KeptIn[list[ShapeEnvEvent]]("recorder")
    failed_event = KeptIn[ShapeEnvEvent | None]("recorder", "failed")

    # -- torch's methods: making symbols and numbers --------------------------------------------

    create_symbol = input_symbols.create_symbol
    create_unspecified_symbol = input_symbols.create_unspecified_symbol
    create_unspecified_symint_and_symbol = input_symbols.create_unspecified_symint_and_symbol
    _record_exclusion_constraint = input_symbols._record_exclusion_constraint
    _create_symbolic_sizes_strides_storage_offset = (
        input_symbols._create_symbolic_sizes_strides_storage_offset
    )
    create_symbolic_sizes_strides_storage_offset = (
        input_symbols.create_symbolic_sizes_strides_storage_offset
    )
    transfer_symbols_from_foreign_shape_env = input_symbols.transfer_symbols_from_foreign_shape_env

    read_registering = numbers.read_registering
    register_symbol = numbers.register_symbol
    add_backed_var_to_val = numbers.add_backed_var_to_val
    add_var_to_val = numbers.add_backed_var_to_val
    term_from_outside = numbers.term_from_outside
    create_symintnode = numbers.create_symintnode
    create_symfloatnode = numbers.create_symfloatnode
    create_symboolnode = numbers.create_symboolnode
    create_unbacked_symint = numbers.create_unbacked_symint
    create_unbacked_symfloat = numbers.create_unbacked_symfloat
    create_unbacked_symbool = numbers.create_unbacked_symbool
    is_unbacked_symint = numbers.is_unbacked_symint
    ignore_fresh_unbacked_symbols = numbers.ignore_fresh_unbacked_symbols
    _ignore_fresh_unbacked_symbols_tls = numbers._ignore_fresh_unbacked_symbols_tls
    _ignore_fresh_unbacked_symbols_set = numbers._ignore_fresh_unbacked_symbols_set

    # -- torch's methods: stating facts ---------------------------------------------------------

    _constrain_range_for_size = statements._constrain_range_for_size
    _constrain_range = statements._constrain_range
    constrain_symbol_range = statements.constrain_symbol_range
    _constrain_is_bounded = statements._constrain_is_bounded
    _constrain_unify = statements._constrain_unify
    _set_replacement = statements._set_replacement
    _find = statements._find
    _rename_unbacked_to = statements._rename_unbacked_to
    _eliminate_unbacked = statements._eliminate_unbacked
    set_real_tensor_prop_unbacked_vals = statements.set_real_tensor_prop_unbacked_vals

    # -- torch's methods: asking ----------------------------------------------------------------

    evaluate_sym_node = questions.evaluate_sym_node
    evaluate_expr = questions.evaluate_expr
    guard_or_defer_runtime_assert = questions.guard_or_defer_runtime_assert
    _maybe_evaluate_static = questions._maybe_evaluate_static
    bound_sympy = questions.bound_sympy
    simplify = questions.simplify
    replace = questions.replace
    get_axioms = questions.get_axioms
    get_implications = questions.get_implications
    size_hint = questions.size_hint
    guarding_hint_or_throw = questions.guarding_hint_or_throw
    has_guarding_hint = questions.has_guarding_hint
    optimization_hint = questions.optimization_hint
    _make_data_dependent_error = questions._make_data_dependent_error
    _default_value_range = questions._default_value_range
    _default_unspecified_value_range = questions._default_unspecified_value_range

    # -- torch's methods: checking other inputs -------------------------------------------------

    produce_guards = guard_checks.produce_guards
    produce_guards_verbose = guard_checks.produce_guards_verbose
    produce_guards_expression = guard_checks.produce_guards_expression
    evaluate_guards_expression = guard_checks.evaluate_guards_expression
    evaluate_guards_for_args = guard_checks.evaluate_guards_for_args
    evaluate_symexpr = guard_checks.evaluate_symexpr
    deserialize_symexpr = guard_checks.deserialize_symexpr
    get_pruned_guards = guard_checks.get_pruned_guards
    get_nontrivial_guards = guard_checks.get_nontrivial_guards
    format_guards = guard_checks.format_guards
    bind_symbols = guard_checks.bind_symbols
    guard_program = guard_checks.guard_program

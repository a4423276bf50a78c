"""The nodes of symbolic numbers, by term: known, asked of a tensor once, or computed once.

A torch.SymInt in symfx is a term of the environment's algebra, and arithmetic on it records
nothing. A number gets a node only when it reaches an operator's arguments or the program's output.
The tracer looks the node up by the term.

This module is long because all ways to a node share the tables of terms.
"""

from __future__ import annotations

import math
import operator
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx

from symfx.algebra import Term, as_operation
from symfx.algebra.terms.interpret import PYTHON_OPS
from symfx.algebra.terms.linear import solved_for
from symfx.algebra.terms.table import MATH_FUNCTIONS
from symfx.errors import TracingError
from symfx.proxy_tensor.spent_names import SpentNames
from symfx.proxy_tensor.stated_conditions import as_written, settled_assertions, stated
from symfx.proxy_tensor.symbolic_builtins import FORMS
from symfx.proxy_tensor.symbolic_math import choose
from symfx.sym_node import SymNode
from symfx.symbolic_shapes import statically_known_true

__all__ = ["OF_SYMBOLS", "SYMBOLIC_TYPES", "SymbolNodes"]

SYMBOLIC_TYPES = (torch.SymInt, torch.SymFloat, torch.SymBool)

_aten = torch.ops.aten

# Operations of any number of operands, which run as a chain of two at a time.
_CHAINED: dict[str, Callable[..., Any]] = {
    "mul": operator.mul,
    "fadd": operator.add,
    "fmul": operator.mul,
    "min": torch.sym_min,
    "fmin": torch.sym_min,
    "max": torch.sym_max,
    "fmax": torch.sym_max,
    "bit_and": operator.and_,
    "bit_or": operator.or_,
    "and": operator.and_,
    "or": operator.or_,
}
# The function of each other operation: torch's where it has one of symbolic numbers, else
# Python's.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **PYTHON_OPS,
    **{
        name: getattr(torch, f"_sym_{name}")
        for name in MATH_FUNCTIONS
        if hasattr(torch, f"_sym_{name}")
    },
    "to_real": torch.sym_float,
    "not": torch.sym_not,
    "where": torch.sym_ite,
}

OF_SYMBOLS: dict[Callable[..., Any], Callable[..., Any]] = {**FORMS, torch.sym_ite: choose}
"""For a function that takes no symbolic numbers, or not beside a Python number, its form."""

# The node of a tensor, an operator, its further arguments, and its result while tracing.
_Question = tuple[fx.Node, Callable[..., Any], tuple[Any, ...], Any]


class SymbolNodes:
    """The nodes of a graph whose values are symbolic numbers, by term.

    Args:
        append: appends a node to the graph: ``append(function, args, value)``.
        append_after: inserts a node after another: ``append_after(node, function, args, value)``.
        graph: returns the graph.
    """

    def __init__(
        self,
        append: Callable[[Callable[..., Any], tuple[Any, ...], Any], fx.Node],
        append_after: Callable[[fx.Node, Callable[..., Any], tuple[Any, ...], Any], fx.Node],
        graph: Callable[[], fx.Graph],
    ) -> None:
        self._append = append
        self._append_after = append_after
        self._known: dict[Term, Any] = {}
        # The question to a tensor whose answer is a term.
        self._askable: dict[Term, _Question] = {}
        # The same for strides and offsets, which are asked only for terms that sizes do not give:
        # first of inputs, else of other tensors.
        self._input_layouts: dict[Term, _Question] = {}
        self._last_resort: dict[Term, _Question] = {}
        self._layouts = ChainMap(self._input_layouts, self._last_resort)
        # Of a symbol the sizes of inputs that are multiples of it: term, factor and rest.
        self._multiples: dict[Term, list[tuple[Term, int, Term]]] = {}
        self._solving: set[Term] = set()  # the symbols that a search for such a size looks for
        self._promised: dict[Term, Callable[[], fx.Node]] = {}  # makes the node when it is needed
        #: Makes a symbol of a trace around this one an input; False where none has it.
        self.lift: Callable[[Term, Any], bool] | None = None
        self._env: Any = None
        self.names = SpentNames(graph, self._known, self._askable)
        self._repeated: set[Term] = set()  # assertions of an earlier run, made here too
        # The facts about the terms, once a term is known, and the epoch of the tables above.
        self._facts: Any = None
        self._epoch = 0

    # -- sources of terms ----------------------------------------------------------------------

    def offer_tensor(self, node: fx.Node, tensor: torch.Tensor) -> None:
        """Make a tensor a source of terms: of its sizes, and of its strides and offset.

        The graph asks the first tensor that offers a term. It asks for a stride or a storage offset
        only if the term cannot be computed from sizes. The stride of a dimension of size 1 means
        nothing, so the real stride may differ from the term; and the kernel that runs chooses the
        layout of a computed tensor. Gradients of outputs are asked only for what nothing else
        gives, because torch splits a joint graph, and its forward part has none.
        """
        is_gradient = node.op == "placeholder" and "tangents" in str(node.target)
        is_input = node.op == "placeholder" and not is_gradient
        sizes = self._last_resort if is_gradient else self._askable
        for i, size in enumerate(tensor.shape):
            self._offer(sizes, size, node, _aten.sym_size.int, (i,))
            if is_input and isinstance(size, torch.SymInt):
                self._offer_parts(size)
        if tensor.layout is torch.sparse_coo:
            self._offer_count(node, tensor)
        if tensor.layout is not torch.strided:
            return
        for i, stride in enumerate(tensor.stride()):
            if isinstance(stride, torch.SymInt):
                tells = is_input and statically_known_true(tensor.shape[i] > 1)
                layouts = self._input_layouts if tells else self._last_resort
                self._offer(layouts, stride, node, _aten.sym_stride.int, (i,))
        layouts = self._input_layouts if is_input else self._last_resort
        offset = tensor.storage_offset()
        self._offer(layouts, offset, node, _aten.sym_storage_offset.default, ())

    def _offer_parts(self, size: torch.SymInt) -> None:
        """Let the symbols in the size of an input be computed from it, as batch is from 8*batch."""
        term = self._term(size)
        if term is not None and term.op != "symbol":
            for symbol in term.free_symbols:
                solution = solved_for(term, symbol)
                if solution is not None:
                    self._multiples.setdefault(symbol, []).append((term, *solution))

    def _offer_count(self, node: fx.Node, tensor: torch.Tensor) -> None:
        """Make the values of a sparse tensor the source of their number."""
        values = tensor._values()
        count = values.shape[0]

        def make() -> fx.Node:
            kept = self._append_after(node, _aten._values.default, (node,), values)
            return self._append_after(kept, _aten.sym_size.int, (kept, 0), count)

        if isinstance(count, torch.SymInt):
            self.promise_number(count, make)

    def _term(self, number: Any) -> Term | None:
        """The term of a symbolic number; None for a constant and for a number of torch."""
        node = number.node
        if type(node) is not SymNode or node.term.op == "const":
            return None
        self._facts = node.shape_env.facts
        self._env = node.shape_env
        return node.term

    def _offer(
        self,
        questions: dict[Term, _Question],
        number: Any,
        node: fx.Node,
        how: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        if isinstance(number, SYMBOLIC_TYPES):
            term = self._term(number)
            if term is not None:
                questions.setdefault(term, (node, how, args, number))

    def offer_symbol(self, symbol: Term, node: fx.Node, dim: int | None, number: Any) -> None:
        """Make an input the source of a symbol.

        Args:
            symbol: the symbol.
            node: the node of the input.
            dim: the dimension whose size the symbol is; None for the value of the input.
            number: the size or the value while tracing.
        """
        if dim is None:
            self._known.setdefault(symbol, node)
        else:
            self._askable.setdefault(symbol, (node, _aten.sym_size.int, (dim,), number))

    def offer_number(self, number: Any, node: fx.Node) -> None:
        """Make a node the node of a symbolic number, unless the number has one."""
        term = self._term(number)
        if term is not None and node.op == "placeholder" and term.op == "symbol":
            self._known[term] = node  # of equal inputs, such as sizes of a subclass, torch's choice
        elif term is not None:
            self._known.setdefault(term, node)

    def promise_number(self, number: Any, make: Callable[[], fx.Node]) -> None:
        """Give the function that makes the node of a symbolic number when it is needed."""
        term = self._term(number)
        if term is not None:
            self._promised.setdefault(term, make)

    def _follow_renamings(self) -> None:
        """Make the source of each symbol the source of the symbol that has replaced it since.

        Where a graph is run again under a trace, its operators make new unbacked symbols, and
        torch tells the environment afterwards that they are the symbols of the first run. Those
        have no source of their own. A symbol that has one keeps it, because an assertion that
        two symbols are equal has to compute both. The symbol of a bool is known by the condition
        that it is 1.
        """
        if self._facts is None or self._facts.epoch == self._epoch:
            return
        self._epoch = self._facts.epoch
        tables: tuple[dict[Term, Any], ...] = (
            self._known, self._askable, self._promised, self._input_layouts, self._last_resort,
        )  # fmt: skip
        for table in tables:
            for term, source in list(table.items()):
                now = self._facts.resolve(term)
                if (
                    now is not term
                    and now.op in ("symbol", "eq")
                    and now.op == term.op
                    and not self._has_source(now)
                ):
                    table.setdefault(now, source)

    def follow_renaming(self, env: Any, later: sympy.Symbol, first: sympy.Symbol) -> None:
        """Make the source of an unbacked symbol that of the symbol of an earlier run, too.

        Assertions of the earlier run that its facts make trivial are recorded again: an assertion
        that two numbers are equal gave one of them a replacement. Where the graph is run again,
        the environment knows the replacement, and the program's own assertion compares a number
        with itself.

        Args:
            env: the ShapeEnv of both symbols.
            later: the symbol of this run.
            first: the one of the earlier run.
        """
        term, known_as = env.symbols.term_of(later), env.symbols.term_of(first)
        tables: tuple[dict[Term, Any], ...] = (self._known, self._askable, self._promised)
        for table in tables:
            if term in table and not self._has_source(known_as):
                table[known_as] = table[term]
        self._repeat_assertions(env, known_as)

    def _repeat_assertions(self, env: Any, first: Term) -> None:
        for record in settled_assertions(env, first):
            term = record.term
            known = all(env.symbols.is_backed(s) or self._has_source(s) for s in term.free_symbols)
            if term in self._repeated or not known or not self.can_make(term):
                continue
            self._repeated.add(term)
            condition = self._build(term)
            if not isinstance(condition, fx.Node):
                continue
            condition.meta["val"] = stated(env, term, record.expr)
            text = f"Runtime assertion failed for expression {record.expr} on node '{condition}'"
            check = self._append(_aten._assert_scalar.default, (condition, text), None)
            # They belong to the module whose operator made the number.
            maker = self._known.get(first)
            modules = maker.meta.get("nn_module_stack") if isinstance(maker, fx.Node) else None
            for node in (condition, check):
                node.meta.pop("nn_module_stack", None)
                if modules:
                    node.meta["nn_module_stack"] = modules

    # -- the node of a number ------------------------------------------------------------------

    def known(self, number: Any) -> bool:
        """Whether the number has a node, or one can be made from the sources."""
        node = number.node
        if type(node) is not SymNode:
            return False
        self._env = node.shape_env
        return self.can_make(node.term)

    def can_make(self, term: Term) -> bool:
        """Whether a term has a node, or one can be made from the sources."""
        self._follow_renamings()
        waiting, seen = [term], {term}
        while waiting:
            top = waiting.pop()
            if self._has_source(top) or top in self._layouts:
                continue
            op, args = as_operation(top)
            if op == "symbol":
                if not self._lifted(top) and self._solution(top) is None:
                    return False
                continue
            for part in args:
                if isinstance(part, Term) and part not in seen:
                    seen.add(part)
                    waiting.append(part)
        return True

    def _has_source(self, term: Term) -> bool:
        return term in self._known or term in self._askable or term in self._promised

    def _lifted(self, symbol: Term) -> bool:
        """Whether a symbol has become an input now."""
        return self.lift is not None and self._env is not None and self.lift(symbol, self._env)

    def _question(self, term: Term) -> _Question | None:
        """The question whose answer is a term; None for a term that is computed from others."""
        asked = self._askable.get(term)
        if asked is not None:
            return asked
        asked = self._layouts.get(term)
        if asked is None:
            return None
        op, args = as_operation(term)
        parts = [part for part in args if isinstance(part, Term)]
        return asked if op == "symbol" or not all(map(self.can_make, parts)) else None

    def node_of(self, number: Any) -> Any:
        """The node of a symbolic number; the value of a number that is a constant.

        Raises:
            TracingError: the number is not of this trace.
        """
        node = number.node
        if type(node) is not SymNode:
            constant = node.maybe_as_int() if node.is_int() else getattr(node, "constant", None)
            if constant is None:
                raise TracingError(
                    f"the symbolic number {number} belongs to a ShapeEnv of torch, not of symfx",
                    fix="trace with inputs of symfx.symbolic_shapes.ShapeEnv",
                )
            return constant
        term = node.term
        if term.op == "const":
            return term.args[0]
        self._env = node.shape_env
        made_as = node._origin
        if made_as is not term and made_as.op == "symbol" and node.hint is None:
            # A number that data gives has the node of its operator, also where an equation says
            # how to compute it: the graph has to check the equation.
            own = self._known.get(made_as)
            if own is not None:
                return own
        return self.node_of_term(term)

    def node_of_term(self, term: Term) -> Any:
        """The node of this very term, even if the environment has since learned its value.

        Raises:
            TracingError: the term is not of this trace.
        """
        if term not in self._known and self._env is not None:
            term = self._env.ledger.deferred.computable(term)
        self._follow_renamings()
        return self._build(term)

    def _build(self, term: Term) -> Any:
        """Record the computation of a term, its parts first, each part once."""
        known = self._known
        stack = [term]
        while stack:
            top = stack[-1]
            if top in known:
                stack.pop()
                continue
            promised = self._promised.get(top)
            if promised is not None:
                known[top] = promised()
                continue
            asked = self._question(top)
            if asked is not None:
                node, how, args, number = asked
                self.names.expect(top)
                known[top] = self._append_after(node, how, (node, *args), number)
                continue
            op, args = self._operation(top)
            if op == "const":
                known[top] = args[0]
                continue
            if op == "symbol" and self._lifted(top):
                continue
            if op == "symbol":
                solution = self._solution(top)
                if solution is not None:
                    known[top] = self._solved(*solution)
                    continue
                raise TracingError(
                    f"{top}, in {term}, cannot be computed from the inputs of the program",
                    fix="pass the tensor whose size it is as an argument, "
                    "rather than through a closure",
                )
            if op == "add":
                op, args = self._as_product(top) or (op, args)
            if op == "add":
                # A sum is recorded as `a - b`, not as `a + -1 * b`.
                signed = [_sign(part) for part in args]
                parts = [part for _, part in signed]
            else:
                signed = []
                parts = [a for a in args if isinstance(a, Term)]
            waiting = [part for part in parts if part not in known]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            if len(parts) <= 2:
                self.names.expect(top)
            if signed:
                known[top] = self._sum([(sign, known[part]) for sign, part in signed])
            else:
                known[top] = self._call(
                    op, [known[a] if isinstance(a, Term) else a for a in args], top
                )
        return known[term]

    def _operation(self, term: Term) -> tuple[str, tuple[Any, ...]]:
        """The operation that computes a term; in torch's graphs, comparisons as they were asked."""
        written = None if self._env is None else as_written(self._env, term)
        if written is not None and all(map(self.can_make, written[1])):
            return written
        return as_operation(term)

    def _solution(self, symbol: Term) -> tuple[Term, int, Term] | None:
        """The size that is a multiple of a symbol up to a rest, with the factor and the rest.

        None for a symbol that no such size determines.
        """
        if symbol in self._solving:
            return None  # a size of two such symbols determines neither
        self._solving.add(symbol)
        try:
            for solution in self._multiples.get(symbol, ()):
                if all(map(self.can_make, solution[2].free_symbols)):
                    return solution
        finally:
            self._solving.discard(symbol)
        return None

    def _solved(self, term: Term, factor: int, rest: Term) -> Any:
        """The node of n, from the size `term` that is factor*n + rest."""
        total = self._build(term)
        if rest.value != 0:
            total = self._emit(operator.sub, total, self._build(rest))
        return total if factor == 1 else self._emit(operator.floordiv, total, factor)

    def _as_product(self, total: Term) -> tuple[str, tuple[Term, ...]] | None:
        """A sum as the product that it was made from; None for other sums.

        Multiplied out, `(a + 1) * (b + 1)` would be three sums and a product.
        """
        table = total.table
        found = table.products.get(total.base)
        if found is None or not all(map(self.can_make, found[1])):
            return None
        product, factors = found
        if product is total:
            return "mul", factors
        return "add", (product, table.const(total.const - product.const))

    def _sum(self, parts: list[tuple[int, Any]]) -> Any:
        parts = sorted(parts, key=lambda part: -part[0])
        sign, total = parts[0]
        if sign < 0:
            total = self._emit(operator.neg, total)
        for sign, part in parts[1:]:
            total = self._emit(operator.add if sign > 0 else operator.sub, total, part)
        return total

    def _call(self, op: str, args: list[Any], term: Term) -> Any:
        if op == "mul" and isinstance(args[0], int):
            if args[0] == -1:
                return self._emit(operator.neg, self._call("mul", args[1:], term))
            args = [*args[1:], args[0]]
        if op in _CHAINED:
            result = args[0]
            for arg in args[1:]:
                result = self._emit(_CHAINED[op], result, arg)
            return result
        if op == "is_integer":
            return self._emit(operator.eq, args[0], self._emit(math.floor, args[0]))
        if op in _FUNCTIONS:
            return self._emit(_FUNCTIONS[op], *args)
        raise TracingError(f"{term} cannot be computed in a graph: it has no operation for {op!r}")

    def _emit(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        values = [a.meta["val"] if isinstance(a, fx.Node) else a for a in args]
        return self._append(function, args, OF_SYMBOLS.get(function, function)(*values))


def _sign(part: Term) -> tuple[int, Term]:
    """A summand's sign and the summand without it."""
    op, args = as_operation(part)
    if op == "mul" and isinstance(args[0], Term) and args[0].op == "const":
        negative = args[0].args[0] < 0
    else:
        negative = op == "const" and args[0] < 0
    return (-1, -part) if negative else (1, part)

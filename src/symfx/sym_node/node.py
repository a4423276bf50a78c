"""SymNode: the node inside a torch.SymInt, SymFloat or SymBool while symfx traces.

torch's C++ and Python call the methods by name (docs/interop.md lists them); each makes a term
of the environment's algebra. Nodes are interned by term, so that an operation costs a look-up in
the table, and a hint is computed once per term. A node never records anything in a graph: the
tracer finds a term's proxy when the term reaches an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra import Scalar, Term, as_operation
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.sym_node import memory_formats
from symfx.sym_node.arithmetic import arithmetic_methods
from symfx.sym_node.comparisons import as_asked
from symfx.sym_node.environment import Environment
from symfx.torch_bridge.bookkeeping import BOOKKEEPING_FILES
from symfx.torch_bridge.identity import TorchSymNode

__all__ = ["SymNode", "SymTypes", "to_node", "wrap_node"]

_str = str  # SymNode has a method of that name

SymTypes = (torch.SymInt, torch.SymFloat, torch.SymBool)

_PYTYPES: dict[str, type] = {"int": int, "real": float, "bool": bool}


class SymNode:
    """A term of a `ShapeEnv`'s algebra with the interface that torch calls.

    Attributes:
        shape_env: the environment that owns the term.
        pytype: ``int``, ``float`` or ``bool``.
        constant: the value of a literal, else None.
        fx_node: for torch; symfx does not use it.
    """

    __slots__ = ("__weakref__", "_epoch", "_hint", "_origin", "_shown", "_term", "constant",
                 "fx_node", "pytype", "shape_env")  # fmt: skip

    # torch tests isinstance(node, its own SymNode) in places, which has to be true.
    __class__ = TorchSymNode  # type: ignore[assignment]

    def __init__(
        self,
        expr: Any,
        shape_env: Environment[SymNode],
        pytype: type,
        hint: Any,
        constant: Scalar | None = None,
        fx_node: Any = None,
        optimized_summation: bool = False,
    ) -> None:
        """The node of a sympy expression; `of` makes the node of a term.

        Args:
            expr: the expression; symbols that the environment does not know become its own.
            shape_env: the environment.
            pytype: ``int``, ``float`` or ``bool``.
            hint: the value at tracing, None where it is not known.
            constant: the value of a literal.
            fx_node: for torch.
            optimized_summation: not used; callers of torch's class pass it.

        Raises:
            SymfxError: the expression is of another type, or the environment is None.
        """
        if shape_env is None:
            raise SymfxError(
                f"{expr} needs a ShapeEnv to belong to", fix="pass the ShapeEnv of the trace"
            )
        known = expr if constant is None else constant
        term, value = shape_env.term_from_outside(known, pytype, hint)
        self._begin(shape_env, term, value)
        self.fx_node: Any = fx_node

    @classmethod
    def of(cls, shape_env: Environment[SymNode], term: Term, hint: Scalar | None) -> SymNode:
        """The node of a term, whose hint is None where it is not known."""
        node = cls.__new__(cls)
        node._begin(shape_env, term, hint)
        return node

    @classmethod
    def _computed(cls, shape_env: Environment[SymNode], term: Term) -> SymNode:
        """The node of a constant that was computed from constant nodes: a symbolic number still.

        Where a symbol cancels, the result is a Python number. But code that computes with
        literals wrapped in nodes, as torch's does in places, gets a wrapped literal.
        """
        node = cls.of(shape_env, term, term.value)
        node.constant = None
        return node

    def _begin(self, shape_env: Environment[SymNode], term: Term, hint: Any) -> None:
        self.shape_env = shape_env
        self.pytype = _PYTYPES[term.sort]
        self.constant: Scalar | None = term.args[0] if term.op == "const" else None
        self.fx_node = None
        self._shown: tuple[Any, _str] | None = None
        self._origin = term
        self._term = term
        self._epoch = shape_env.facts.epoch
        self._hint: Any = hint

    # -- the term and its kind ------------------------------------------------------------------

    @property
    def is_wrapped_literal(self) -> bool:
        """Whether the node was made of a Python number, or computed from such nodes alone."""
        return self._origin.op == "const"

    @property
    def term(self) -> Term:
        """The term, in which every symbol with a known replacement is replaced."""
        facts = self.shape_env.facts
        if self._epoch != facts.epoch:
            self._term = facts.resolve(self._origin)
            self._epoch = facts.epoch
        return self._term

    @property
    def expr(self) -> sympy.Basic:
        """The term as sympy, a comparison as the program wrote it; built when first read.

        A number that data gives stays its own symbol, also where an equation gives it a
        replacement: torch finds the operator that makes a symbol by it, and checks the equation
        there.
        """
        term = self.term
        origin = self._origin
        if (
            term is not origin
            and origin.op == "symbol"
            and term.op != "const"
            and self.shape_env.is_of_data(origin)
        ):
            term = self.shape_env.first_name(origin)
        return as_asked(term, self.shape_env.asked.get(term))

    @property
    def _expr(self) -> sympy.Basic:
        """The term as it was made, before symbols were replaced, as sympy."""
        result: sympy.Basic = to_sympy(self._origin)
        return result

    @property
    def hint(self) -> Any:
        """The value at tracing; None where it depends on unbacked symbols."""
        if self._hint is None:
            self._hint = self.shape_env.hint_of(self.term)
        return self._hint

    def require_hint(self, fallback: Any = None) -> Any:
        """The hint, or `fallback`.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        hint = self.hint
        if hint is None:
            if fallback is None:
                return self.shape_env.guarding_hint_or_throw(self.expr)
            return fallback
        return hint

    def has_hint(self) -> bool:
        """Whether there is a hint."""
        return self.hint is not None

    def is_int(self) -> bool:
        """Whether the value is an int."""
        return self.pytype is int

    def is_float(self) -> bool:
        """Whether the value is a float."""
        return self.pytype is float

    def is_bool(self) -> bool:
        """Whether the value is a bool."""
        return self.pytype is bool

    def is_nested_int(self) -> bool:
        """Whether the value at tracing is the ragged size of a nested tensor."""
        hint = self._hint
        return isinstance(hint, torch.SymInt) and bool(hint.node.is_nested_int())

    def nested_int(self) -> int | None:
        """The id of a ragged size that is a constant: None, because a term has none."""
        return None

    def is_symbolic(self) -> bool:
        """Whether this is a node of a symbolic environment: always."""
        return True

    def is_constant(self) -> bool:
        """Whether torch's operators may put Python's number in this one's place: never."""
        return False

    def maybe_as_int(self) -> int | None:
        """The value where the term is a constant, else None."""
        term = self.term
        return int(term.args[0]) if term.op == "const" else None

    def maybe_as_float(self) -> float | None:
        """The value where the term is a real constant, else None."""
        term = self.term
        return float(term.args[0]) if term.op == "const" and term.sort == "real" else None

    def maybe_as_bool(self) -> bool | None:
        """The value where the term is a boolean constant, else None.

        None too for a condition on data that an assertion made true: torch removes assertions of
        constants from a graph, and this one has to stay.
        """
        term = self.term
        if term is not self._origin and not self.shape_env.is_backed(self._origin):
            return None
        return bool(term.args[0]) if term.op == "const" and term.sort == "bool" else None

    def str(self) -> _str:
        """The value as sympy prints it, as torch prints its own symbolic numbers.

        A dimension that the user named prints under that name. A number is as simple as the facts
        allow. torch prints the sizes at each node of a graph, so the text is kept until the next
        fact.
        """
        env = self.shape_env
        names, facts = env.shown_as, env.facts
        known = (facts.version, facts.epoch, len(names))
        if self._shown is not None and self._shown[0] == known:
            return self._shown[1]
        expr = self.expr
        if self.term.sort == "int":
            simple = env.settled(self.term)
            expr = expr if simple is self.term else to_sympy(simple)
        text = str(expr.xreplace(names) if names else expr)
        self._shown = known, text
        return text

    _graph_repr = __str__ = str

    def __repr__(self) -> _str:
        return f"SymNode({self.term}, {self.pytype.__name__}, hint={self.hint})"

    def clone(self) -> SymNode:
        """The node itself: it never changes."""
        return self

    def __copy__(self) -> SymNode:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SymNode:
        # A number never changes. Alone, or in a graph's metadata, its copy stays in the
        # environment, so that it meets the other numbers; a copied environment has its own.
        return self

    def __reduce__(self) -> Any:
        # A pickle keeps the value at tracing: terms live and die with their environment.
        if self.hint is None:
            raise SymfxError(
                f"{self.term} depends on data and cannot be pickled",
                fix="save the graph without its symbolic values (node.meta['val'])",
            )
        return self.pytype, (self.hint,)

    def with_shape_env(self, shape_env: Environment[SymNode]) -> SymNode:
        """The node of the same expression in another environment, read through its sympy view."""
        return shape_env.node_for(shape_env.read(self.expr))

    def _value_eq(self, other: Any) -> Any:
        if type(other) is SymNode:
            return bool(self.expr == other.expr) and self.pytype is other.pytype
        return NotImplemented

    def _value_hash(self) -> int:
        return hash((self.expr, self.pytype))

    # -- literals --------------------------------------------------------------------------

    def wrap_int(self, num: int) -> SymNode:
        """The node of an int."""
        return self.shape_env.node_for(self.shape_env.table.const(num))

    def wrap_float(self, num: float) -> SymNode:
        """The node of a float."""
        return self.shape_env.node_for(self.shape_env.table.const(float(num)))

    def wrap_bool(self, num: bool) -> SymNode:
        """The node of a bool."""
        return self.shape_env.node_for(self.shape_env.table.const(bool(num)))

    # -- arithmetic --------------------------------------------------------------------------

    def _other(self, other: Any) -> Term:
        """The term of another operand, whose node torch or another environment may have made."""
        if type(other) is SymNode and other.shape_env is self.shape_env:
            return other.term
        return self.shape_env.adopt(other).term

    def round(self, ndigits: int | None = None) -> SymNode:
        """Rounded half to even, to an int or, with `ndigits`, to that many digits."""
        term = self.shape_env.table.round(self.term, ndigits)
        if self.constant is not None:
            return self._computed(self.shape_env, term)
        return self.shape_env.node_for(term)

    def sym_sum(self, args: Sequence[SymNode]) -> SymNode:
        """The sum of integers."""
        env = self.shape_env
        return env.node_for(env.table.sum([self._other(a) for a in args]))

    def sym_ite(self, then_val: SymNode, else_val: SymNode) -> SymNode:
        """`then_val` where this holds, else `else_val`."""
        env = self.shape_env
        term = env.table.where(self.term, self._other(then_val), self._other(else_val))
        # torch expects a node, even where both branches are the same number.
        return self._computed(env, term) if term.op == "const" else env.node_for(term)

    # `arithmetic_methods` makes the other operations: add, sub, mul, pow, eq, …
    if TYPE_CHECKING:
        add: Callable[[SymNode], SymNode]
        eq: Callable[[SymNode], SymNode]

    # -- strides and memory formats -----------------------------------------------------------

    def _layout(
        self, rule: Callable[..., Term], sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        env = self.shape_env
        size_terms = [self._other(s) for s in sizes]
        stride_terms = [self._other(s) for s in strides]
        return env.node_for(rule(env.table, size_terms, stride_terms))

    def is_contiguous(self, sizes: Sequence[SymNode], strides: Sequence[SymNode]) -> SymNode:
        """Whether a tensor of these sizes and strides is contiguous."""
        return self._layout(memory_formats.contiguous, sizes, strides)

    def is_channels_last_contiguous_2d(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """Whether it is contiguous in the order NHWC."""
        return self._layout(memory_formats.channels_last_contiguous_2d, sizes, strides)

    def is_channels_last_contiguous_3d(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """Whether it is contiguous in the order NDHWC."""
        return self._layout(memory_formats.channels_last_contiguous_3d, sizes, strides)

    def is_channels_last_strides_2d(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """Whether the strides follow the order NHWC, gaps allowed."""
        return self._layout(memory_formats.channels_last_strides_2d, sizes, strides)

    def is_channels_last_strides_3d(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """Whether the strides follow the order NDHWC, gaps allowed."""
        return self._layout(memory_formats.channels_last_strides_3d, sizes, strides)

    def is_non_overlapping_and_dense(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """Whether the elements fill a block of memory, each in its own place."""
        env = self.shape_env
        dense = memory_formats.non_overlapping_and_dense(
            env, [self._other(s) for s in sizes], [self._other(s) for s in strides]
        )
        return env.node_for(dense)

    def is_non_overlapping_and_dense_indicator(
        self, sizes: Sequence[SymNode], strides: Sequence[SymNode]
    ) -> SymNode:
        """`is_non_overlapping_and_dense` as 0 or 1."""
        dense = self.is_non_overlapping_and_dense(sizes, strides)
        return self.shape_env.node_for(self.shape_env.table.to_int(dense.term))

    # -- questions that may guard ---------------------------------------------------------------

    def evaluate(self, size_oblivious: bool = False) -> Scalar:
        """The value; a guard keeps later inputs to it."""
        return self.shape_env.evaluate_term(self.term, size_oblivious=size_oblivious)

    def guard_int(self, file: _str, line: int) -> int:
        """The value as an int, guarded."""
        return int(self.evaluate())

    def guard_float(self, file: _str, line: int) -> float:
        """The value as a float, guarded.

        The float of one integer is guarded by this integer: ``n == 5`` says more to a person and to
        the prover than ``1/n == 0.2``.
        """
        whole = _integer_behind(self.term)
        if whole is not None and self.has_hint():
            self.shape_env.node_for(whole).evaluate()
        return float(self.evaluate())

    def guard_bool(self, file: _str, line: int) -> bool:
        """The value as a bool, guarded."""
        return bool(self.evaluate())

    def int_(self) -> int:
        """The value as an int, guarded."""
        return int(self.evaluate())

    def bool_(self) -> bool:
        """The value as a bool, guarded."""
        return bool(self.evaluate())

    def guard_size_oblivious(self, file: _str, line: int) -> bool:
        """`guard_bool`, assuming that unbacked sizes are neither 0 nor 1."""
        return bool(self.evaluate(size_oblivious=True))

    def guard_or_false(self, file: _str, line: int) -> bool:
        """`guard_bool`, but False where the answer depends on data.

        torch's C++ names the file that asks. Questions whose answer changes nothing that a graph
        can see are answered without a guard.
        """
        if file.endswith(BOOKKEEPING_FILES):
            return self.shape_env.decide(self.term) is True
        return bool(self.shape_env.evaluate_term(self.term, fallback=False))

    def guard_or_true(self, file: _str, line: int) -> bool:
        """`guard_bool`, but True where the answer depends on data."""
        return bool(self.shape_env.evaluate_term(self.term, fallback=True))

    def statically_known_true(self, file: _str, line: int) -> bool:
        """Whether the facts imply the condition; never guards."""
        return self.shape_env.decide(self.term) is True

    def expect_true(self, file: _str, line: int) -> bool:
        """Rely on the condition: guard it where it has a hint, else assert it at run time."""
        return self.shape_env.expect(self.term, f"{file}:{line}" if file else "")


#: The operations of reals that have another result for each value of their one open operand.
_ONE_TO_ONE = frozenset(("to_real", "truediv", "fadd", "fneg", "sqrt", "log", "exp"))


def _integer_behind(term: Term) -> Term | None:
    """The integer that a real number is computed from, one value for each; None for others."""
    while term.sort == "real":
        op, args = as_operation(term)
        parts = [a for a in args if isinstance(a, Term) and a.op != "const"]
        scaled = op == "fmul" and all(a.value != 0 for a in args if a.op == "const")
        if len(parts) != 1 or not (op in _ONE_TO_ONE or scaled):
            return None
        term = parts[0]
    return term if term.sort == "int" else None


for _name, _method in arithmetic_methods(SymNode).items():
    _method.__name__ = _name
    _method.__qualname__ = f"SymNode.{_name}"
    setattr(SymNode, _name, _method)


def wrap_node(x: Any) -> Any:
    """The Python number of a literal, else the torch.SymInt, SymFloat or SymBool of a node `x`."""
    constant = getattr(x, "constant", None)  # torch's nested ints have no such attribute
    if constant is not None:
        return constant
    if x.is_int():
        return torch.SymInt(x)  # type: ignore[no-untyped-call]
    if x.is_float():
        return torch.SymFloat(x)  # type: ignore[no-untyped-call]
    return torch.SymBool(x)  # type: ignore[no-untyped-call]


def to_node(self: SymNode, num: Any) -> Any:
    """The node of a number, symbolic or not, in the environment of `self`.

    Returns:
        The node; NotImplemented for an object that is no number.
    """
    if isinstance(num, SymTypes):
        return num.node
    if type(num) is bool:
        return self.wrap_bool(num)
    if type(num) is int:
        return self.wrap_int(num)
    if type(num) is float:
        return self.wrap_float(num)
    return NotImplemented

"""The methods of `SymNode` that make a term of one or two operands: arithmetic and comparisons."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from symfx.algebra import Table
from symfx.algebra.terms.table import MATH_FUNCTIONS
from symfx.sym_node.comparisons import RELATIONS
from symfx.torch_bridge.modes import note_call, spend_name

__all__ = ["arithmetic_methods"]

_Operation: TypeAlias = Callable[..., Any]

_new = object.__new__


def arithmetic_methods(node_class: type) -> dict[str, Callable[..., Any]]:
    """The methods by name, to be set on the class of the nodes.

    Args:
        node_class: `SymNode`.
    """
    methods = {
        name: _binary(node_class, name, make, compute) for name, (make, compute) in _BINARY.items()
    }
    for name, function in (("sym_min", torch.sym_min), ("sym_max", torch.sym_max)):
        methods[name] = _noted(function, methods[name])
    return methods | {
        name: _unary(name, make, stays_symbolic=name == "sym_float")
        for name, make in _UNARY.items()
    }


def _noted(function: _Operation, method: _Operation) -> Callable[[Any, Any], Any]:
    """A method of two operands that torch's tracer records as a call of a function of torch."""

    def noted(self: Any, other: Any) -> Any:
        node = method(self, other)
        if node.constant is None:
            note_call(function, (_number(self), _number(other)))
        return node

    return noted


def _number(node: Any) -> Any:
    """The number of a node: a constant itself, else a symbolic one."""
    if node.constant is not None:
        return node.constant
    kind: Any = torch.SymInt if node.pytype is int else torch.SymFloat
    return kind(node)


def _binary(
    node_class: Any, name: str, make: _Operation, compute: _Operation
) -> Callable[[Any, Any], Any]:
    """A method of two operands.

    Args:
        node_class: `SymNode`.
        name: the name of the method.
        make: makes the term, given the table and the operands' terms.
        compute: computes the hint from the operands' hints.
    """
    relation = name if name in RELATIONS else None
    divides = name in _DIVISIONS

    def method(self: Any, other: Any) -> Any:
        env = self.shape_env
        if type(other) is not node_class or other.shape_env is not env:
            other = env.adopt(other)
        names = spend_name(name, self, other) if env.speaks_torch else None
        # While no symbol is replaced, the terms are as they were: this saves a call of `term`.
        epoch = env.facts.epoch
        left = self._term if self._epoch == epoch else self.term
        right = other._term if other._epoch == epoch else other.term
        if divides and right.op != "const" and env.hint_of(right) == 0:
            raise ZeroDivisionError(f"{left} is divided by {right}, which is 0 at tracing")
        if left is right and relation is not None and left.sort == "int":
            # Autograd compares the sizes of each gradient with those of its tensor.
            result = env.table.const(relation in _TRUE_OF_EQUALS)
        else:
            result = make(env.table, left, right)
        if names is not None:
            names.name_result(result)
        if result.op == "const" and self.is_wrapped_literal and right.op == "const":
            return self._computed(env, result)
        if relation is not None and result.op == "const" and env.speaks_torch:
            # Dynamo drops a comparison from its graph only if it is a symbolic number.
            return self._computed(env, result)
        node = env.nodes.get(result)
        if node is None:
            op = result.op
            if op == "const":
                return env.node_for(result)
            if op in ("min", "max"):
                return env.node_for(env.settle_extremum(result))
            mine, theirs = self._hint, other._hint
            hint = None if mine is None or theirs is None else compute(mine, theirs)
            node = env.nodes[result] = _new(node_class)  # inlined `SymNode.of`, to save a call
            node._begin(env, result, hint)
            if relation is not None:
                env.asked.setdefault(result, (relation, left, right))
        return node

    return method


def _unary(name: str, make: _Operation, stays_symbolic: bool) -> Callable[[Any], Any]:
    """A method of one operand.

    Args:
        name: the name of the method.
        make: makes the term, given the table and the operand's term.
        stays_symbolic: whether the result is a symbolic number even where it is known. torch calls
            methods of symbolic floats on the result of ``sym_float``.
    """

    def method(self: Any) -> Any:
        env = self.shape_env
        names = spend_name(name, self) if env.speaks_torch else None
        term = make(env.table, self.term)
        if names is not None:
            names.name_result(term)
        if term.op == "const" and (stays_symbolic or self.is_wrapped_literal):
            return self._computed(env, term)
        return env.node_for(term)

    return method


def _swapped(make: _Operation) -> _Operation:
    return lambda table, a, b: make(table, b, a)


def _function(name: str) -> _Operation:
    return lambda table, a: table.function(name, a)


# A method of two operands: how a table makes the term, and how Python computes the hint.
_BINARY: dict[str, tuple[_Operation, _Operation]] = {
    "add": (Table.add, operator.add),
    "sub": (Table.sub, operator.sub),
    "mul": (Table.mul, operator.mul),
    "mod": (Table.mod, operator.mod),
    "floordiv": (Table.floordiv, operator.floordiv),
    "int_floordiv": (Table.floordiv, operator.floordiv),
    "truediv": (Table.truediv, operator.truediv),
    "int_truediv": (Table.truediv, operator.truediv),
    "float_truediv": (Table.truediv, operator.truediv),
    "pow": (Table.pow, operator.pow),
    "float_pow": (Table.pow, operator.pow),
    "pow_by_natural": (Table.pow, operator.pow),
    "eq": (Table.eq, operator.eq),
    "ne": (Table.ne, operator.ne),
    "lt": (Table.lt, operator.lt),
    "le": (Table.le, operator.le),
    "gt": (_swapped(Table.lt), operator.gt),
    "ge": (_swapped(Table.le), operator.ge),
    "sym_min": (Table.min, min),
    "sym_max": (Table.max, max),
    "and_": (Table.bit_and, operator.and_),
    "or_": (Table.bit_or, operator.or_),
    "sym_and": (Table.bit_and, operator.and_),
    "sym_or": (Table.bit_or, operator.or_),
    "xor": (Table.ne, operator.xor),  # of booleans alone
    "bitwise_and": (Table.bit_and, operator.and_),
    "bitwise_or": (Table.bit_or, operator.or_),
    "bitwise_xor": (Table.bit_xor, operator.xor),
    "lshift": (Table.lshift, operator.lshift),
    "rshift": (Table.rshift, operator.rshift),
}

#: The comparisons that hold of a number and itself.
_TRUE_OF_EQUALS = frozenset(("eq", "le", "ge"))

_DIVISIONS = frozenset(
    ("mod", "floordiv", "int_floordiv", "truediv", "int_truediv", "float_truediv")
)

_UNARY: dict[str, _Operation] = {
    "neg": Table.neg,
    "pos": lambda table, a: table.to_int(a) if a.sort == "bool" else a,
    "abs": Table.abs,
    "floor": Table.floor,
    "ceil": Table.ceil,
    "trunc": Table.trunc,
    "sym_int": Table.trunc,
    "sym_float": Table.to_real,
    "sym_not": lambda table, a: table.not_(table.to_bool(a)),
    "is_integer": Table.is_integer,
    **{f"sym_{name}": _function(name) for name in MATH_FUNCTIONS},
}  # fmt: skip

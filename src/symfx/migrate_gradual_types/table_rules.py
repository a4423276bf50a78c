"""Operators typed from the table of shape rules, as constraints.

`Typing` is one composite constraint for all of these operators. It has one case for each
combination of ranks of its tensors: in each case the table's rule runs on fresh dimension
variables, and its demands and results become constraints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    BVar,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    T,
    TVar,
)
from symfx.migrate_gradual_types.constraint_sizes import ConstraintSizes
from symfx.migrate_gradual_types.operation import op_eq, op_leq
from symfx.migrate_gradual_types.possible_ranks import DYN, Ranks, ranks_of, register_rank_rule
from symfx.migrate_gradual_types.transformation.registry import register_transformation_rule
from symfx.migrate_gradual_types.util import (
    gen_dvar,
    gen_nat_constraints,
    gen_tensor_dims,
    gen_tvar,
)
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.graphs import is_shape
from symfx.shape_rules.opaque_sizes import OpaqueSizes
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.sizes import UNKNOWN, Dim, NoTensor, Pieces, Shape, Size
from symfx.shape_rules.table import Rule

__all__ = ["ShapeOf", "Typing", "generate_typing", "outputs_of"]

#: With more combinations of ranks than this, the result is left unknown.
_MOST_COMBINATIONS = 300


@dataclass(frozen=True)
class ShapeOf:
    """The value of ``x.shape``: the dimensions of a tensor's type, as a tuple."""

    tensor: TVar


@dataclass(repr=False)
class Typing(Constraint):
    """The results of an operator have the types that its rule in the table gives.

    Args:
        rule: the rule.
        module: the module that the node calls, if any.
        args: the operator's arguments, with variables for nodes.
        kwargs: the keyword arguments.
        results: the variable of the result, or a tuple of variables; some may be ``None``.
    """

    rule: Rule
    module: torch.nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: Any

    def __repr__(self) -> str:
        return f"{self.results} = {self.rule.name}({self.args}, {self.kwargs})"

    @property
    def tensors(self) -> list[TVar]:
        """The tensor variables among the arguments, each once."""
        found: dict[TVar, None] = {}
        for value in _leaves((self.args, self.kwargs)):
            if isinstance(value, (TVar, ShapeOf)):
                found[value.tensor if isinstance(value, ShapeOf) else value] = None
        return [*found]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, dict):
        yield from _leaves([*value.values()])
    else:
        yield value


def _rebuilt(value: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        plain = list if isinstance(value, list) else tuple  # torch.fx has its own class of lists
        return plain(_rebuilt(part, leaf) for part in value)
    if isinstance(value, dict):
        return {name: _rebuilt(part, leaf) for name, part in value.items()}
    if isinstance(value, slice):
        return slice(*(_rebuilt(part, leaf) for part in (value.start, value.stop, value.step)))
    return leaf(value)


# -- from a node to a constraint ---------------------------------------------------------------


def outputs_of(n: Node, counter: int) -> tuple[Any, int]:
    """Variables for the result of a node: of a tensor, or of the items that are read, by index."""
    taken = {
        user.args[1] for user in n.users if user.op == "call_function" and _takes_item(user, n)
    }
    if n.users and len(taken) == len(n.users) and all(isinstance(i, int) for i in taken):
        indices: list[Any] = [*taken]
        items: dict[int, TVar] = {}
        for index in sorted(indices):
            items[index], counter = gen_tvar(counter)
        return items, counter
    return gen_tvar(counter)


def _takes_item(user: Node, n: Node) -> bool:
    return getattr(user.target, "__name__", "") == "getitem" and user.args[0] is n


def generate_typing(
    n: Node, rule: Rule, module: torch.nn.Module | None, symbols: dict[Node, Any], counter: int
) -> tuple[list[Constraint], int]:
    """Generate the constraint of a node whose operator has a rule in the table."""

    def argument(value: Any) -> Any:
        if not isinstance(value, Node):
            return value
        variable = symbols.get(value, value)
        if isinstance(variable, TVar) and is_shape(value):
            return ShapeOf(variable)
        return UNKNOWN if isinstance(variable, Node) else variable

    args = _rebuilt(tuple(n.args), argument)
    kwargs = _rebuilt(dict(n.kwargs), argument)
    # An item of several results is the variable of that result.
    if rule.name == "getitem" and isinstance(args[0], (tuple, dict)) and isinstance(args[1], int):
        items = args[0]
        if args[1] in (items if isinstance(items, dict) else range(-len(items), len(items))):
            symbols[n] = items[args[1]]
            return [], counter
    results, counter = _variables(n, _form_of_result(rule, module, args, kwargs), counter)
    symbols[n] = results
    return [Typing(rule, module, args, kwargs, results)], counter


#: The forms of a result before its ranks are known; a tuple of forms is a tuple of results.
_TENSOR, _SIZE, _SEVERAL = "tensor", "size", "several"


def _form_of_result(
    rule: Rule, module: torch.nn.Module | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """The form of the result for all ranks of the arguments; `_SEVERAL` if it depends on them."""
    tensors = Typing(rule, module, args, dict(kwargs), None).tensors
    ranks = range(get_max_rank(), -1, -1)
    found: Any = None
    for choice in itertools.islice(itertools.product(ranks, repeat=len(tensors)), 1000):
        result = _run_opaque(rule, module, args, kwargs, dict(zip(tensors, choice, strict=True)))
        if result is None or result is UNKNOWN:
            continue
        form = _form(result)
        if not isinstance(form, tuple):
            return form
        if found not in (None, form):
            return _SEVERAL
        found = form
    return _TENSOR if found is None else found


def _form(result: Any) -> Any:
    if isinstance(result, Shape) or result is None or isinstance(result, NoTensor):
        return _TENSOR
    if not isinstance(result, (tuple, list)):
        return _SIZE
    if type(result) not in (tuple, list):
        return _SEVERAL  # their number is unknown
    forms = tuple(_SEVERAL if item is UNKNOWN else _form(item) for item in result)
    return _SEVERAL if _SIZE in forms or _SEVERAL in forms else forms


def _variables(n: Node, form: Any, counter: int) -> tuple[Any, int]:
    """Variables for a result of this form."""
    if form == _TENSOR:
        return gen_tvar(counter)
    if form == _SIZE:
        return gen_dvar(counter)
    if form == _SEVERAL:
        return outputs_of(n, counter)
    variables = []
    for item in form:
        variable, counter = _variables(n, item, counter)
        variables.append(variable)
    return tuple(variables), counter


def _run_opaque(
    rule: Rule,
    module: torch.nn.Module | None,
    args: Any,
    kwargs: Any,
    ranks: Mapping[TVar, int],
) -> Any:
    """The rule's results for tensors of these ranks; ``None`` if it refuses them."""
    sizes = OpaqueSizes()
    shapes = {t: UNKNOWN if r == DYN else sizes.shape(r) for t, r in ranks.items()}

    def argument(value: Any) -> Any:
        if isinstance(value, TVar):
            return shapes[value]
        if isinstance(value, ShapeOf):
            shape = shapes[value.tensor]
            return tuple(shape) if isinstance(shape, Shape) else UNKNOWN
        if isinstance(value, DVar):
            return sizes.fresh("")
        return UNKNOWN if isinstance(value, BVar) else value

    try:
        return rule(sizes, _rebuilt(args, argument), _rebuilt(kwargs, argument), module)
    except IllTypedError:
        return None


# -- from a constraint to simple ones ------------------------------------------------------------


def _combinations(
    constraint: Typing, known: Mapping[TVar, Ranks] | None
) -> list[dict[TVar, int]] | None:
    """All combinations of ranks of the tensors; ``None`` if there are too many."""
    tensors = constraint.tensors
    choices = [sorted(ranks_of(tensor, known)) for tensor in tensors]
    total = 1
    for choice in choices:
        total *= len(choice)
    if total > _MOST_COMBINATIONS:
        return None
    return [dict(zip(tensors, choice, strict=True)) for choice in itertools.product(*choices)]


#: Stands for an item that a tuple does not have.
_NO_ITEM = object()


def _results(variables: Any, result: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the variable of each result with its value by the rule, or `_NO_ITEM`."""
    if isinstance(variables, (tuple, dict)):
        known = isinstance(result, (tuple, list)) and not isinstance(result, Shape)
        by_index = variables.items() if isinstance(variables, dict) else enumerate(variables)
        for index, variable in by_index:
            item = _NO_ITEM if result is _NO_ITEM else UNKNOWN
            if isinstance(result, Pieces):
                item = result[index]
            elif known:  # the program may read more items than the tuple has in this case
                item = result[index] if -len(result) <= index < len(result) else _NO_ITEM
            yield from _results(variable, item)
    elif isinstance(variables, TVar) and not (isinstance(result, Shape) or result is _NO_ITEM):
        yield variables, UNKNOWN
    else:
        yield variables, result


@register_rank_rule(Typing)
def _ranks_of_typing(constraint: Typing, known: Any) -> None:
    combinations = _combinations(constraint, known)
    if combinations is None:
        return
    allowed: dict[TVar, set[int]] = {}
    for ranks in combinations:
        result = _run_opaque(
            constraint.rule, constraint.module, constraint.args, constraint.kwargs, ranks
        )
        if result is None:
            continue
        pairs = _results(constraint.results, result)
        outs: dict[TVar, int] = {}
        for variable, value in pairs:
            if value is _NO_ITEM:
                break
            if isinstance(variable, TVar):
                outs[variable] = _rank_of_result(value)
        else:
            if any(rank > get_max_rank() for rank in outs.values()):
                continue
            if any(rank not in ranks_of(tensor, known) for tensor, rank in outs.items()):
                continue
            for tensor, rank in (*ranks.items(), *outs.items()):
                allowed.setdefault(tensor, set()).add(rank)
    tensors = [
        *constraint.tensors,
        *(v for v in _leaves(constraint.results) if isinstance(v, TVar)),
    ]
    for tensor in tensors:
        known.allow(tensor, frozenset(allowed.get(tensor, ())))


def _rank_of_result(value: Any) -> int:
    return len(value) if isinstance(value, Shape) else DYN


@register_transformation_rule(Typing)
def transform_typing(constraint: Typing, counter: int) -> tuple[Constraint, int]:
    """Rewrite to one alternative for each combination of ranks that the rule takes."""
    combinations = _combinations(constraint, None)
    if combinations is None:
        return T(), counter
    cases: list[Constraint] = []
    for ranks in combinations:
        case, counter = _one_case(constraint, ranks, counter)
        if case is not None:
            cases.append(case)
    return (Disj(cases) if cases else F()), counter


def _one_case(
    constraint: Typing, ranks: Mapping[TVar, int], counter: int
) -> tuple[Constraint | None, int]:
    counter += 1
    sizes = ConstraintSizes(counter)
    parts: list[Constraint] = []
    shapes: dict[TVar, Any] = {}
    for tensor, rank in ranks.items():
        if rank == DYN:
            shapes[tensor] = UNKNOWN
            parts.append(BinConstraintT(tensor, Dyn, op_eq))
            continue
        dims, counter = gen_tensor_dims(rank, counter)
        shapes[tensor] = sizes.shape(dims)
        parts += [BinConstraintT(tensor, TensorType(dims), op_eq), *gen_nat_constraints(dims)]

    def argument(value: Any) -> Any:
        if isinstance(value, TVar):
            return shapes[value]
        if isinstance(value, ShapeOf):
            shape = shapes[value.tensor]
            return tuple(shape) if isinstance(shape, Shape) else UNKNOWN
        if isinstance(value, DVar):
            return Size(sizes, value)
        return UNKNOWN if isinstance(value, BVar) else value

    args, kwargs = (_rebuilt(part, argument) for part in (constraint.args, constraint.kwargs))
    try:
        result = constraint.rule(sizes, args, kwargs, constraint.module)
    except IllTypedError:
        return None, counter
    for variable, value in _results(constraint.results, result):
        if value is _NO_ITEM:
            return None, counter
        part = _result_is(sizes, variable, value)
        if part is None:
            return None, counter
        parts.append(part)
    return Conj([*parts, *sizes.constraints]), counter


def _result_is(sizes: ConstraintSizes, variable: Any, value: Any) -> Constraint | None:
    if isinstance(variable, DVar):
        if not isinstance(value, Dim):
            return BinConstraintD(variable, Dyn, op_eq)
        is_ = BinConstraintD(variable, sizes.dimension(value), op_eq)
        return Conj([is_, BinConstraintD(0, variable, op_leq)])
    if isinstance(value, Shape):
        return sizes.type_is(variable, value) if len(value) <= get_max_rank() else None
    return BinConstraintT(variable, Dyn, op_eq)

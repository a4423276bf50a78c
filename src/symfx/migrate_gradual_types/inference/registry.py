"""The registry of inference rules, and the variables of a node's arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

from torch.fx import Node
from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import Constraint, DVar, TVar
from symfx.migrate_gradual_types.util import gen_tensor_dims, gen_tvar
from symfx.shape_rules.errors import GradualError, RankBoundError
from symfx.shape_rules.graphs import where_of
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.registry import Registry

__all__ = [
    "NUMBERED",
    "RULES",
    "NotCovered",
    "Symbols",
    "Written",
    "argument_of",
    "dimension_of",
    "dims_by_rank",
    "new_tensor",
    "register_inference_rule",
    "tensor_of",
    "within_bound",
]

#: The variable of each node: of a tensor, a size or a condition.
Symbols: TypeAlias = dict[Node, Any]
#: The result of a rule: its constraints, and the number last given to a variable.
Written: TypeAlias = tuple[list[Constraint], int]
_R = TypeVar("_R", bound=Callable[..., Any])
#: The keys are what nodes call: a function, the name of a method, a class of modules.
RULES: Registry[Any, Callable[..., Written]] = Registry("an inference rule")
#: The ranks whose dimensions are numbered; those of other ranks are named.
NUMBERED = range(1, 5)


def register_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the inference rule of an operator.

    Args:
        call_target: a function, the name of a method, or a class of modules.

    Raises:
        DuplicateRuleError: the operator has an inference rule.
    """

    return RULES.registering(call_target)


class NotCovered(GradualError, NotImplementedError):
    """A rule does not cover this use of its operator; the table of shape rules may."""

    def __init__(self) -> None:
        super().__init__(
            "the rule does not cover this use of its operator",
            fix="let ConstraintGenerator choose: it turns to the table of shape rules",
        )


def argument_of(n: Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a node, given by position or by name."""
    return n.args[position] if len(n.args) > position else n.kwargs.get(name, default)


def tensor_of(symbols: Symbols, node: Any) -> TVar:
    """The variable of an argument that is a tensor.

    Raises:
        NotCovered: the argument is not a tensor.
    """
    found = symbols.get(node) if isinstance(node, Node) else None
    if not isinstance(found, TVar):
        raise NotCovered
    return found


def dimension_of(symbols: Symbols, value: Any) -> Any:
    """The variable of a size, or its number.

    Raises:
        NotCovered: the value is not a size.
    """
    found = symbols.get(value) if isinstance(value, Node) else value
    if isinstance(found, bool) or not (isinstance(found, (DVar, int)) or found == Dyn):
        raise NotCovered
    return found


def new_tensor(n: Node, symbols: Symbols, counter: int) -> tuple[TVar, int]:
    """Enter a new variable for the tensor that a node computes."""
    symbols[n], counter = gen_tvar(counter)
    return symbols[n], counter


def dims_by_rank(
    counter: int, lists: int = 1, least: int = 0
) -> tuple[Iterator[tuple[int, list[list[DVar]]]], int]:
    """For each rank from `least` on, `lists` lists of as many fresh dimensions; the new number."""
    cases: list[tuple[int, list[list[DVar]]]] = []
    name = counter
    for rank in range(least, get_max_rank() + 1):
        if rank not in NUMBERED:
            made = [[DVar(f"{name}r{rank}.{j}.{i}") for i in range(rank)] for j in range(lists)]
        else:
            made = []
            for _ in range(lists):
                dims, counter = gen_tensor_dims(rank, counter)
                made.append(dims)
        cases.append((rank, made))
    # A bound below 4 leaves no gaps either: the next node has the number it always has.
    counter += lists * sum(rank for rank in NUMBERED if rank > get_max_rank())
    return iter(cases), counter


def within_bound(rank: int, node: Node) -> None:
    """A node has no more dimensions than the bound allows.

    Raises:
        RankBoundError: it has.
    """
    if rank > get_max_rank():
        raise RankBoundError(
            f"{node.name} has {rank} dimensions, the bound is {get_max_rank()}",
            where=where_of(node),
            fix=f"raise the bound: symfx.shape_rules.set_max_rank({rank})",
        )

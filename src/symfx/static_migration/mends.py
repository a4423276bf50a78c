"""A hint for the mend: one rearrangement of an argument with which the program fits.

Each candidate (a permutation, ``transpose``, ``squeeze``, ``unsqueeze`` or ``flatten`` in front of
the operator that fails) is tried by typing the mended program. A graph that ends at the failing
operator is traced again with the mend in it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch.fx import Graph, GraphModule, Node

from symfx.shape_rules.element_types import is_in_place
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape
from symfx.static_migration.analysis import GraphRun
from symfx.static_migration.expressions import expression_of
from symfx.static_migration.printing import text_of

__all__ = ["Mend", "Mender"]

#: Operators on elements: a mended operand may be stretched to the other, and not both.
_ELEMENTWISE = frozenset(
    {
        *("add", "iadd", "add_", "sub", "isub", "mul", "imul", "mul_", "truediv", "div", "where"),
        *("masked_fill", "masked_fill_", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_"),
        *("minimum", "maximum", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "lerp"),
    }
)
#: Seconds for all candidates together.
_BUDGET = 3.0
#: The orders of dimensions that are tried first, by rank; any other order follows.
_USUAL_ORDERS: dict[int, list[tuple[int, ...]]] = {
    2: [(1, 0)],
    3: [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)],
    4: [(0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3), (0, 1, 3, 2)],
    5: [(0, 2, 1, 3, 4), (0, 4, 1, 2, 3), (0, 2, 3, 4, 1), (0, 1, 2, 4, 3)],
}


@dataclass(frozen=True)
class Mend:
    """A call of methods in front of one argument of a node.

    Args:
        position: the position of the node in its graph.
        argument: the name of the argument.
        calls: the methods, each with its arguments.
        reason: the reason for the mend, in words; it may be empty.
    """

    position: int
    argument: str
    calls: tuple[tuple[str, tuple[int, ...]], ...]
    reason: str

    def insert(self, graph: Graph, node: Node) -> list[Node]:
        """Put the calls in front of a node, and return the nodes that were made."""
        used = next(each for each in node.all_input_nodes if each.name == self.argument)
        made: list[Node] = []
        with graph.inserting_before(node):
            for method, args in self.calls:
                made.append(graph.call_method(method, ((made or [used])[-1], *args)))
        node.replace_input_with(used, made[-1])
        return made

    def hint(self, expression: str) -> str:
        """The mend as the program would write it, with the reason."""
        calls = [f".{method}({', '.join(map(str, args))})" for method, args in self.calls]
        if self.calls[0][0] == "squeeze" and expression.endswith(f".un{calls[0][1:]}"):
            shorter = expression.removesuffix(f".un{calls[0][1:]}")
            return f"a dimension too many: {shorter} without un{calls[0][1:]}?"
        written = expression + "".join(calls)
        return f"{self.reason}: {written}?" if self.reason else f"{written}?"


class Mender:
    """Looks for a mend of one operator.

    Args:
        graph: the graph.
        run: runs a graph with the module that it belongs to, or ``None`` for that of `graph`.
        accept: whether a run without failure is what a mended program should be.
        retrace: the graph of the program, traced with a mend; ``None`` if `graph` is whole.
    """

    def __init__(
        self,
        graph: Graph,
        run: Callable[[Graph, GraphModule | None], GraphRun],
        accept: Callable[[Graph, GraphModule | None, GraphRun], bool],
        retrace: Callable[[Mend], GraphModule | None] | None = None,
    ) -> None:
        self._graph = graph
        self._run = run
        self._accept = accept
        self._retrace = retrace

    def hint(self, node: Node, result: GraphRun) -> str:
        """The first mend of a node with which the program fits, in words; empty for none.

        Args:
            node: the operator that fails.
            result: the run that failed, or that is to be mended.
        """
        position = [*self._graph.nodes].index(node)
        end = time.monotonic() + _BUDGET
        for used, mend in _candidates(node, position, result):
            if time.monotonic() > end:
                break
            if self._fits(mend, node):
                shape = text_of(result.sizes, result.values[used])
                return mend.hint(expression_of(used, node) or f"the tensor {shape}")
        return ""

    def _fits(self, mend: Mend, node: Node) -> bool:
        args, kwargs = node.args, node.kwargs
        made = mend.insert(self._graph, node)
        try:
            run = self._run(self._graph, None)
            if run.failed is not None and run.failed[0] in (*made, node):
                return False
            if not _is_plausible(node, made, run):
                return False
            if self._retrace is None:
                return run.failed is None and self._accept(self._graph, None, run)
        finally:
            node.args, node.kwargs = args, kwargs
            for each in reversed(made):
                self._graph.erase_node(each)
        module = self._retrace(mend)
        if module is None:
            return False
        run = self._run(module.graph, module)
        return run.failed is None and self._accept(module.graph, module, run)


def _is_plausible(node: Node, made: Sequence[Node], run: GraphRun) -> bool:
    """Whether the shapes are known, and an operator on elements stretches no operand but one."""
    if any(not isinstance(run.values.get(each), Shape) for each in made):
        return False
    result = run.values.get(node)
    given = [run.values.get(each) for each in node.all_input_nodes]
    shapes = [shape for shape in given if isinstance(shape, Shape)]
    if result is UNKNOWN:
        return False
    if len(shapes) < 2 or not isinstance(result, Shape) or _name(node) not in _ELEMENTWISE:
        return True
    whole = result if result else max(shapes, key=len)  # a loss is one number
    return any(str(shape) == str(whole) for shape in shapes) and (
        bool(result) or len({*map(str, shapes)}) == 1
    )


def _name(node: Node) -> str:
    target = node.target
    root = node.graph.owning_module
    if node.op == "call_module" and root is not None:
        return type(root.get_submodule(str(target))).__name__
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def _candidates(node: Node, position: int, result: GraphRun) -> Iterator[tuple[Node, Mend]]:
    """The mends of the arguments of a node, the likely ones first."""
    name = _name(node)
    if name in _NEVER:
        return
    given = [each for each in node.all_input_nodes if isinstance(result.values.get(each), Shape)]
    ranks = [len(result.values[each]) for each in given]
    kinds = [_channels_first, _one_removed, _one_inserted, _swapped, _flat, _two_inserted]
    if name in _ELEMENTWISE:
        kinds.insert(3, kinds.pop())
    changed = node.args[0] if is_in_place(node) and node.args else None
    for kind in kinds:
        for used in given:
            if used is changed:
                continue  # the program needs the tensor itself
            shape = result.values[used]
            highest = len(given) > 1 and len(shape) == max(ranks)
            if highest and kind in (_one_inserted, _two_inserted) and name not in _PAIRING:
                continue  # a rank higher than that of all operands is not what is missing
            found = [*kind(shape, len(given) == 1)]
            if kind is _one_inserted and name in _ELEMENTWISE and len(given) == 2:
                other = result.values[given[0] if used is given[1] else given[1]]
                found.sort(
                    key=lambda each: each != _inserted(_behind_mismatch(shape, other), shape)
                )
            for reason, calls in found:
                yield used, Mend(position, used.name, calls, reason)


_Call = tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]
_Calls = Iterator[_Call]
#: Operators whose error another order of dimensions would only hide.
_NEVER = frozenset(
    {
        *("view", "reshape", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        *("PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
    }
)
#: Operators that compare each row of one tensor with each of another.
_PAIRING = frozenset({"cosine_similarity", "pairwise_distance"})


def _channels_first(shape: Shape, alone: bool) -> _Calls:
    if len(shape) == 4:
        yield f"{_text(shape[3])} is last", (("permute", (0, 3, 1, 2)),)


def _one_removed(shape: Shape, alone: bool) -> _Calls:
    for i in reversed(range(len(shape))):
        if isinstance(shape[i], int) and shape[i] == 1:
            yield f"dimension {i} has size 1", (("squeeze", (i,)),)


def _one_inserted(shape: Shape, alone: bool) -> _Calls:
    rank = len(shape)
    for i in (0, rank, *range(1, rank)) if alone else (rank, *reversed(range(rank))):
        yield _inserted(i, shape)


def _inserted(i: int, shape: Shape) -> _Call:
    place = -1 if i == len(shape) and shape else i
    return "a dimension is missing", (("unsqueeze", (place,)),)


def _behind_mismatch(shape: Shape, other: Shape) -> int:
    """The place behind the last dimension that does not broadcast.

    The dimensions behind it stay where they are: a mask [n, 1, t] of scores [n, 4, t, t] becomes
    [n, 1, 1, t], not [n, 1, t, 1].
    """
    aligned = zip(reversed(range(len(shape))), reversed(shape), reversed(other), strict=False)
    for i, mine, its in aligned:
        if str(mine) != str(its) and mine != 1 and its != 1:
            return i + 1
    return len(shape)


def _swapped(shape: Shape, alone: bool) -> _Calls:
    rank = len(shape)
    orders: list[tuple[int, ...]] = [*_USUAL_ORDERS.get(rank, ())]
    if rank == 4:
        orders += [order for order in itertools.permutations(range(4)) if order[0] == 0]
    for order in dict.fromkeys(orders):
        moved = [i for i in range(rank) if order[i] != i]
        if len(moved) == 2:
            yield "", (("transpose", (moved[0], moved[1])),)
        elif moved:
            is_last = order[-1] == 1 and rank > 3
            yield (f"{_text(shape[1])} is not last" if is_last else ""), (("permute", order),)


def _flat(shape: Shape, alone: bool) -> _Calls:
    if len(shape) > 2:
        yield "the dimensions after the first are not flat", (("flatten", (1,)),)


def _two_inserted(shape: Shape, alone: bool) -> _Calls:
    for i in (-1, *range(len(shape))):
        yield "two dimensions are missing", (("unsqueeze", (i,)), ("unsqueeze", (i,)))


def _text(size: Dim) -> str:
    return str(size if isinstance(size, int) else size.value)

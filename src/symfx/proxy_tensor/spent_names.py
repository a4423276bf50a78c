"""The names that torch's traces give to operations on sizes, and so take from later nodes.

torch records a node for each operation that the program and torch's own composite functions compute
with sizes, and drops the nodes without users at the end. symfx records only the nodes that are
needed. If it takes the same names meanwhile, the nodes of both graphs have equal names.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from torch import fx

from symfx.algebra import Term
from symfx.torch_bridge.fx_graphs import free_name

__all__ = ["SpentNames"]

#: The names of nodes in torch's traces, for the methods whose nodes have other names.
_NAMES_IN_TORCH = {
    "int_floordiv": "floordiv",
    "int_truediv": "truediv",
    "float_truediv": "truediv",
    "float_pow": "pow",
    "pow_by_natural": "pow",
    "sym_and": "and_",
    "sym_or": "or_",
    "bitwise_and": "and_",
    "bitwise_or": "or_",
    "bitwise_xor": "xor",
}


class SpentNames:
    """The names that were taken in a graph, and those that are kept for a node that may follow.

    Args:
        graph: the function that returns the graph.
        known: the terms that have a node.
        sizes: the terms that are the size of a tensor.
    """

    def __init__(
        self, graph: Callable[[], fx.Graph], known: Container[Term], sizes: Container[Term]
    ) -> None:
        self._graph = graph
        self._known = known
        self._sizes = sizes
        self._seen: set[Term] = set()  # the terms that operations have read or made
        self._kept: dict[Term, str] = {}
        self._last = ""
        self._next: str | None = None

    def spend(self, method: str, operands: tuple[Any, ...]) -> SpentNames | None:
        """Take the name of an operation on symbolic numbers, and those of sizes that it reads.

        Args:
            method: the name of the method.
            operands: the nodes of the operands.

        Returns:
            This object, whose `name_result` takes the result; None where torch has no node.
        """
        if method == "mul" and any(node.constant == 1 for node in operands):
            return None
        names = self._graph()._graph_namespace
        for node in operands:
            term = node.term
            if term.op != "const" and term not in self._seen:
                self._seen.add(term)
                if term in self._sizes and term not in self._known:
                    self._kept[term] = free_name(names, "sym_size_int")
        self._last = free_name(names, _NAMES_IN_TORCH.get(method, method))
        return self

    def name_result(self, result: Term) -> None:
        """Keep the name that was taken last for the node of the operation's result."""
        if result.op != "const" and result not in self._seen:
            self._seen.add(result)
            if result not in self._known:
                self._kept[result] = self._last

    def expect(self, term: Term) -> None:
        """Announce that the next node is that of a term."""
        self._next = self._kept.get(term)

    def name_of_next(self, base: str) -> str:
        """The name for the next node: the one that was kept for it, if it has this base."""
        kept, self._next = self._next, None
        if kept is None or kept.rstrip("0123456789").rstrip("_") != base.replace(".", "_"):
            return base
        self._graph()._graph_namespace._used_names.discard(kept)
        return kept

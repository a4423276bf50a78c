"""Interpreters that trace a graph again, node by node, and decompose some operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx
from torch._ops import HigherOrderOperator

from symfx.proxy_tensor import slots
from symfx.proxy_tensor.active_mode import decompose
from symfx.proxy_tensor.mode import ProxyTorchDispatchMode, Table
from symfx.proxy_tensor.tracer import PythonKeyTracer
from symfx.proxy_tensor.tracing import make_fx

__all__ = ["DecompositionInterpreter", "selective_decompose"]


class DecompositionInterpreter(fx.Interpreter):
    """An interpreter that records the operators of a graph into another, decomposed by a table.

    Args:
        module: the graph to run.
        new_graph: the graph to record into. Attributes keep their names, so the new graph
            belongs into a module with the attributes of `module`.
        decomposition_table: for each operator to decompose, the function that computes it.
        kwargs: see `torch.fx.Interpreter`.

    Example:
        >>> g = make_fx(lambda x: torch.nn.functional.silu(x))(torch.ones(3))
        >>> table = torch._decomp.get_decompositions([torch.ops.aten.silu])
        >>> into = fx.Graph()
        >>> _ = DecompositionInterpreter(g, into, decomposition_table=table).run(torch.ones(3))
        >>> torch.ops.aten.silu.default in [n.target for n in into.nodes]
        False
    """

    def __init__(
        self,
        module: fx.GraphModule,
        new_graph: fx.Graph,
        decomposition_table: Table | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, **kwargs)
        self.new_graph = new_graph
        self.tracer = PythonKeyTracer()
        self.tracer.graph = new_graph
        self.tracer.root = module
        self.decomposition_table = decomposition_table or {}
        self.mode = ProxyTorchDispatchMode(
            self.tracer, "real", decomposition_table=self.decomposition_table
        )

    def _tracked(self, value: Any, node: fx.Node) -> Any:
        proxy = fx.Proxy(node, self.tracer)
        return slots.track_tensor_tree(value, proxy, constant=None, tracer=self.tracer)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An input of the new graph."""
        return self._tracked(
            super().placeholder(target, args, kwargs), self.new_graph.placeholder(target)
        )

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The same attribute in the new graph."""
        return self._tracked(
            super().get_attr(target, args, kwargs), self.new_graph.get_attr(target)
        )

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The output of the new graph."""
        out = super().output(target, args, kwargs)
        self.new_graph.output(self.tracer.create_arg(out))
        return out

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph and record it."""
        with self.mode:
            return super().run(*args, **kwargs)


class _SelectiveInterpreter(fx.Interpreter):
    """An interpreter under which the running trace decomposes the operators of some nodes."""

    def __init__(
        self, module: fx.GraphModule, chosen: Callable[[fx.Node], bool], table: Table | None
    ) -> None:
        super().__init__(module)
        self._chosen = chosen
        self._table = table

    def run_node(self, n: fx.Node) -> Any:
        if self._chosen(n):
            with decompose(self._table):
                return super().run_node(n)
        return super().run_node(n)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        operators = (
            user.target
            for node in self.module.graph.find_nodes(op="get_attr", target=target)  # type: ignore[union-attr, operator]
            for user in node.users
        )
        if isinstance(value, fx.GraphModule) and any(
            isinstance(o, HigherOrderOperator) for o in operators
        ):
            # The nodes of a subgraph are chosen one by one as well.
            return _SelectiveInterpreter(value, self._chosen, self._table).run
        return value


def selective_decompose(
    joint_gm: fx.GraphModule,
    *args: Any,
    decomposition: Table | None,
    should_decompose: Callable[[fx.Node], bool],
    trace_joint_graph: bool,
) -> fx.GraphModule:
    """Trace a graph again, and decompose the operators of some of its nodes.

    Args:
        joint_gm: the graph.
        args: the inputs to trace it on.
        decomposition: for each operator to decompose, the function that computes it.
        should_decompose: returns whether a node of the graph, or of a subgraph, is decomposed.
        trace_joint_graph: whether the graph is a joint graph of forward and backward: then its
            inputs are two lists, which the new graph calls ``primals`` and ``tangents``.

    Example:
        >>> g = make_fx(lambda x: torch.nn.functional.silu(x).relu())(torch.ones(3))
        >>> table = torch._decomp.get_decompositions([torch.ops.aten.silu, torch.ops.aten.relu])
        >>> h = selective_decompose(
        ...     g, torch.ones(3), decomposition=table,
        ...     should_decompose=lambda n: n.name == "silu", trace_joint_graph=False)
        >>> [n.name for n in h.graph.nodes if n.op == "call_function"]
        ['sigmoid', 'mul', 'relu']
    """

    def run(*inputs: Any) -> Any:
        return _SelectiveInterpreter(joint_gm, should_decompose, decomposition).run(*inputs)

    def run_joint(primals: list[Any], tangents: list[Any]) -> Any:
        return run(primals, tangents)

    return make_fx(run_joint if trace_joint_graph else run, decomposition_table={})(*args)

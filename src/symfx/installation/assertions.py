"""Runtime assertions of exported graphs: each condition is asserted once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from symfx.proxy_tensor.inputs import is_symfx_env
from symfx.sym_node.comparisons import as_asked

__all__ = ["as_asserted", "asserting_once"]

#: torch's mark of an assertion whose message is the user's.
_WRITTEN_BY_USER = "_fx_runtime_assert_preserve"


def asserting_once(insert: Callable[..., None]) -> Callable[..., None]:
    """torch's `insert_deferred_runtime_asserts`, without a second assertion of a condition.

    A graph that is traced again has the assertions of its first trace, and torch inserts those of
    the environment. torch drops the second ones by the expressions of the conditions, which tell
    nothing where the environment has learned by the assertion that the condition is true.
    """

    @functools.wraps(insert)
    def either(gm: fx.GraphModule, shape_env: Any, *args: Any, **kwargs: Any) -> None:
        insert(gm, shape_env, *args, **kwargs)
        if is_symfx_env(shape_env):
            _drop_repeated(gm.graph)

    return either


def as_asserted(expression_of: Callable[[fx.Node], Any]) -> Callable[[fx.Node], Any]:
    """torch's `_get_sym_val`, with a condition in the words in which the environment asserts it.

    torch skips the assertions that the graph states already, by the expressions of conditions. A
    fact that the program states may replace a symbol: after `u0 + u1 == 5`, the condition `u1 >= 0`
    is `5 - u0 >= 0`, and the fact itself is `True`. The assertions keep their first words.
    """

    @functools.wraps(expression_of)
    def either(node: fx.Node) -> Any:
        value = node.meta.get("val", node.meta.get("example_value"))
        if isinstance(value, torch.SymBool) and is_symfx_env(value.node.shape_env):
            env, origin = value.node.shape_env, value.node._origin
            if any(asserted.term == origin for asserted in env.deferred_asserts()):
                return as_asked(origin, env.asked.get(origin))
        return expression_of(node)

    return either


def _drop_repeated(graph: fx.Graph) -> None:
    """Erase assertions with the condition of an earlier one, and numbers that they left.

    torch has replaced the node of the condition already, so that its operands may have no use.
    """
    before = len(graph.nodes)
    asserted: set[Any] = set()
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten._assert_scalar.default):
        condition = node.args[0]
        if not isinstance(condition, fx.Node):
            continue
        compares = _module_of(condition) == "_operator" and not condition.kwargs
        said = (condition.target, *condition.args) if compares else condition
        if said in asserted and not node.users and _WRITTEN_BY_USER not in node.meta:
            graph.erase_node(node)
        asserted.add(said)
    if len(graph.nodes) < before:
        for node in reversed(graph.nodes):
            if not node.users and _module_of(node) == "_operator":
                graph.erase_node(node)


def _module_of(node: fx.Node) -> str | None:
    return getattr(node.target, "__module__", None)

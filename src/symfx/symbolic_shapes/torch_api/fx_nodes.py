"""Nodes of an FX graph, and the symbols that they define."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from symfx.errors import SymfxError
from symfx.symbolic_shapes.torch_api.bindings import resolve_unbacked_bindings
from symfx.symbolic_shapes.torch_api.free_symbols import free_unbacked_symbols
from symfx.torch_bridge.releases import BINDINGS_ARE_RECORDED

__all__ = [
    "_get_placeholder_expr",
    "bind_symbols",
    "eval_guards",
    "find_symbol_binding_fx_nodes",
    "fx_placeholder_targets",
    "fx_placeholder_vals",
    "is_accessor_node",
    "is_symbol_binding_fx_node",
]

_ACCESSOR_PACKETS = tuple(
    getattr(torch.ops.aten, f"sym_{measure}")
    for measure in ("size", "stride", "storage_offset", "numel")
)
_ACCESSORS = frozenset(
    (
        *_ACCESSOR_PACKETS[:3],
        *(getattr(packet, name) for packet in _ACCESSOR_PACKETS for name in packet.overloads()),
    )
)
_ACCESSOR_METHODS = frozenset(("size", "stride", "storage_offset", "item"))


def is_accessor_node(node: torch.fx.Node) -> bool:
    """Whether a node asks a tensor for a size, a stride, its offset, or its only number."""
    if node.op == "call_function":
        return node.target in _ACCESSORS
    if node.op != "call_method" or node.target not in _ACCESSOR_METHODS:
        return False
    of = node.args[0] if node.args else None
    return isinstance(of, torch.fx.Node) and isinstance(of.meta.get("example_value"), torch.Tensor)


def is_symbol_binding_fx_node(node: torch.fx.Node) -> sympy.Symbol | None:
    """The symbol that a node defines; None where it defines none.

    A placeholder whose value is a symbol defines it; another node defines an unbacked symbol only,
    and from torch 2.14 on only one that its ``meta["unbacked_bindings"]`` has.
    """
    value = node.meta.get("val")
    if not isinstance(value, torch.SymInt) or not isinstance(value.node.expr, sympy.Symbol):
        return None
    symbol = value.node.expr
    if node.op == "placeholder":
        return symbol
    if BINDINGS_ARE_RECORDED:
        env = value.node.shape_env
        bound = resolve_unbacked_bindings(env, node.meta.get("unbacked_bindings"))
        return symbol if bound and symbol in bound else None
    return symbol if free_unbacked_symbols(symbol) else None


def find_symbol_binding_fx_nodes(graph: torch.fx.Graph) -> dict[sympy.Symbol, torch.fx.Node]:
    """The first node that defines each symbol of a graph."""
    found: dict[sympy.Symbol, torch.fx.Node] = {}
    for node in graph.nodes:
        symbol = is_symbol_binding_fx_node(node)
        if symbol is not None:
            found.setdefault(symbol, node)
    return found


def fx_placeholder_vals(gm: torch.fx.GraphModule) -> list[Any]:
    """The symbolic inputs of a graph module, in order."""
    return [node.meta["val"] for node in gm.graph.nodes if node.op == "placeholder"]


def fx_placeholder_targets(gm: torch.fx.GraphModule) -> list[str]:
    """The names of a graph module's inputs, in order."""
    return [str(node.target) for node in gm.graph.nodes if node.op == "placeholder"]


def _environment(gm: torch.fx.GraphModule) -> Any:
    env = getattr(gm, "shape_env", None)
    if env is None:
        raise SymfxError(
            "the graph module has no ShapeEnv",
            fix='trace it with make_fx(..., tracing_mode="symbolic")',
        )
    return env


def eval_guards(gm: torch.fx.GraphModule, *args: Any, ignore_static: bool = True) -> bool:
    """Whether a traced graph serves other inputs.

    Args:
        gm: a graph module that was traced with symbolic shapes.
        args: the inputs.
        ignore_static: do not look at sizes that are constants.

    Raises:
        SymfxError: the graph was not traced with symbolic shapes.
    """
    env = _environment(gm)
    placeholders = fx_placeholder_vals(gm)
    return bool(env.evaluate_guards_for_args(placeholders, args, ignore_static=ignore_static))


def bind_symbols(gm: torch.fx.GraphModule, *args: Any) -> dict[sympy.Symbol, int]:
    """The value of each symbol of a traced graph for other inputs.

    Args:
        gm: a graph module that was traced with symbolic shapes.
        args: the inputs.

    Raises:
        SymfxError: the graph was not traced with symbolic shapes.
        ConstraintViolationError: two sizes that share a symbol differ.
    """
    values: dict[sympy.Symbol, int] = _environment(gm).bind_symbols(fx_placeholder_vals(gm), args)
    return values


def _get_placeholder_expr(sym_node: Any) -> sympy.Basic:
    """The expression of an input when it was made, with the renaming of a second run applied."""
    expr: sympy.Basic = sym_node._expr
    return sym_node.shape_env.unbacked_renamings.get(expr, expr)

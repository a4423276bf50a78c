"""Small operations on a graph that keep everything else in it as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from symfx.optimization.graphs.effects import Effect, effect_of

__all__ = ["clean", "fresh_name", "install", "replace", "succeed"]


def replace(old: fx.Node, new: fx.Node) -> None:
    """Let the users of one node use another, and take the first out if then nobody needs it."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    if not old.users:
        old.graph.erase_node(old)


def succeed(olds: Sequence[fx.Node], new: fx.Node, name: str) -> None:
    """Put a new node in the place of old ones, which go, and give it the name of one of them.

    Args:
        olds: in the order of the graph; the last one's users get the new node.
        new: the new node.
        name: of an old node. No other can have been given it: a graph gives no name twice.
    """
    for old in reversed(olds):
        replace(old, new)
    new.name = name


def install(
    module: fx.GraphModule, node: fx.Node, new: nn.Module, args: Sequence[Any], suffix: str
) -> fx.Node:
    """Put a call of a new module behind a node, whose place it is to take.

    The module keeps the name of the one that the node calls, provided that nothing else in the
    graph sees it under that name; otherwise it gets a name of its own, at the top.

    Returns:
        the new node; the old one is still there.
    """
    path = str(node.target) if node.op == "call_module" else None
    if path is None or not _is_alone(module, node, path):
        path = fresh_name(module, (path or node.name).replace(".", "_") + f"_{suffix}")
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
    with module.graph.inserting_after(node):
        return module.graph.call_module(path, tuple(args))


def _is_alone(module: fx.GraphModule, node: fx.Node, path: str) -> bool:
    """Does no other node reach the module at ``path``, or one that it is part of?"""
    for other in module.graph.nodes:
        if other is node or other.op not in ("call_module", "get_attr"):
            continue
        target = str(other.target)
        if target == path or target.startswith(path + ".") or path.startswith(target + "."):
            return False
    parent = module.get_submodule(path.rpartition(".")[0])
    if type(parent) is nn.Module or parent is module:
        return True  # torch.fx makes these itself, a new one for each name
    # The same container under two names.
    same = [name for name, part in module.named_modules(remove_duplicate=False) if part is parent]
    return len(same) == 1


def fresh_name(module: nn.Module, name: str) -> str:
    """The name, or with a number behind it, if the module has such an attribute already."""
    found, number = name, 1
    while hasattr(module, found):
        found, number = f"{name}_{number}", number + 1
    return found


def clean(module: fx.GraphModule) -> fx.GraphModule:
    """A module of the graph alone: without dead nodes, and modules and tensors nobody asks for."""
    modules = dict(module.named_modules())
    for node in reversed(list(module.graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        effect = effect_of(node, modules)
        keeps = getattr(node.target, "symfx_keeps", False) or node.is_impure()
        if effect in (Effect.FRESH, Effect.VIEW) and not keeps:
            module.graph.erase_node(node)
    module.graph.lint()
    result = fx.GraphModule(module, module.graph, type(module).__name__)
    result.training = module.training
    return result

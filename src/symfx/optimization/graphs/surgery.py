"""Small edits of a graph: replace a node, install a module, remove unused nodes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

from symfx.optimization.graphs.effects import effect_of
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["clean", "drop_dead", "fresh_name", "inlined", "install", "replace", "succeed"]


def replace(old: fx.Node, new: fx.Node) -> None:
    """Let the users of a node use another; erase the first if it has no users left."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    if not old.users:
        old.graph.erase_node(old)


def succeed(olds: Sequence[fx.Node], new: fx.Node, name: str) -> None:
    """Replace old nodes by a new one, and give it the name of one of them.

    Args:
        olds: in the order of the graph; the users of the last one use the new node.
        new: the new node.
        name: of an old node. No other node has it, since a graph gives each name once.
    """
    for old in reversed(olds):
        replace(old, new)
    new.name = name


def install(
    module: fx.GraphModule, node: fx.Node, new: nn.Module, args: Sequence[Any], suffix: str
) -> fx.Node:
    """Insert a call of a new module behind a node that it is to replace.

    The new module gets the name of the module that the node calls, if no other node of the graph
    uses that name; otherwise it gets a new name in the root module.

    Returns:
        the new node; the old one is still in the graph.
    """
    path = str(node.target) if node.op == "call_module" else None
    if path is None or not _is_alone(module, node, path):
        path = fresh_name(module, (path or node.name).replace(".", "_") + f"_{suffix}")
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)
    with module.graph.inserting_after(node):
        return module.graph.call_module(path, tuple(args))


def _is_alone(module: fx.GraphModule, node: fx.Node, path: str) -> bool:
    """Whether no other node uses the module at ``path``, or one that contains it."""
    for other in module.graph.nodes:
        if other is node or other.op not in ("call_module", "get_attr"):
            continue
        target = str(other.target)
        if target == path or target.startswith(path + ".") or path.startswith(target + "."):
            return False
    parent = module.get_submodule(path.rpartition(".")[0])
    if type(parent) is nn.Module or parent is module:
        return True  # torch.fx makes one of these for each name
    # Its container may stand under two names.
    same = [name for name, part in module.named_modules(remove_duplicate=False) if part is parent]
    return len(same) == 1


def fresh_name(module: nn.Module, name: str) -> str:
    """The name, with a number behind it if the module has an attribute of that name."""
    found, number = name, 1
    while hasattr(module, found):
        found, number = f"{name}_{number}", number + 1
    return found


def inlined(module: fx.GraphModule, kind: type[nn.Module]) -> fx.GraphModule:
    """A copy of a graph with the nodes of a graph inside in the place of each call of it.

    Args:
        module: the graph; itself is returned if it has no such call.
        kind: the class of the modules that are called. Each of them returns a tuple of values, as
            its attribute ``graph_module`` computes them.
    """
    modules = dict(module.named_modules())
    calls: dict[fx.Node, Any] = {
        node: modules[str(node.target)]
        for node in module.graph.nodes
        if node.op == "call_module" and isinstance(modules[str(node.target)], kind)
    }
    if not calls:
        return module
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    held: dict[str, Tensor | nn.Module] = {}

    def copied(node: fx.Node, known: dict[fx.Node, Any], owner: nn.Module) -> fx.Node:
        if node.op in ("call_module", "get_attr"):
            held[str(node.target)] = operator.attrgetter(str(node.target))(owner)
        return graph.node_copy(node, known.__getitem__)

    for node in module.graph.nodes:
        if node in calls:
            inner: fx.GraphModule = calls[node].graph_module
            own: dict[fx.Node, Any] = {}
            arguments = iter(node.args)
            for each in inner.graph.nodes:
                if each.op == "placeholder":
                    own[each] = copies[next(arguments)]
                elif each.op != "output":
                    own[each] = copied(each, own, inner)
            values: Any = inner.graph.output_node().args[0]
            copies[node] = tuple(own[value] for value in values)
        elif node.target is operator.getitem and node.args[0] in calls:
            copies[node] = copies[node.args[0]][node.args[1]]
        else:
            copies[node] = copied(node, copies, module)
    result = fx.GraphModule(held, graph, type(module).__name__)
    result.training = module.training
    return result


def drop_dead(module: fx.GraphModule) -> None:
    """Erase the nodes of a graph whose values no node uses, and which have no effect."""
    modules = dict(module.named_modules())
    for node in reversed(list(module.graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        effect = effect_of(node, modules)
        keeps = getattr(node.target, "symfx_keeps", False) or node.is_impure()
        if effect in (Effect.FRESH, Effect.VIEW) and not keeps:
            module.graph.erase_node(node)


def clean(module: fx.GraphModule) -> fx.GraphModule:
    """The graph without dead nodes, in a module without unused modules and tensors."""
    drop_dead(module)
    module.graph.lint()
    result = fx.GraphModule(module, module.graph, type(module).__name__)
    result.training = module.training
    return result

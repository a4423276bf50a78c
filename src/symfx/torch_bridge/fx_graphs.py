"""Graphs of torch.fx: nodes appended quickly, modules pickled node by node, trees as inputs."""

from __future__ import annotations

import builtins
import functools
import inspect
import linecache
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._compile import _disable_dynamo
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import _symbolic_trace
from torch.fx import graph_module as graph_modules
from torch.fx._lazy_graph_module import _LazyGraphModule
from torch.fx.graph import _illegal_names, _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

__all__ = [
    "TracedModule",
    "append_call",
    "append_input",
    "become_attribute",
    "class_name_of",
    "forget_wrapped_functions_that_are_gone",
    "free_name",
    "graph_module",
    "remove_unused",
    "set_metadata",
    "take_pytree_inputs",
    "takes_pytree_inputs",
]


def append_call(
    graph: fx.Graph,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
) -> fx.Node:
    """Append a call of a function whose arguments are nodes and literals.

    `Graph.create_node` walks all arguments to warn about symbolic numbers among them. The
    tracer has already replaced those by nodes.
    """
    name = free_name(graph._graph_namespace, name)
    return _append(graph, fx.Node(graph, name, "call_function", target, args, kwargs))


def append_named(
    graph: fx.Graph,
    op: str,
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
) -> fx.Node:
    """Append a node of any kind whose arguments are nodes and literals, with a name if it is free.

    What ``graph.create_node`` does also checks the arguments for nodes of other graphs.
    """
    name = _new_name(graph._graph_namespace, name)
    return _append(graph, fx.Node(graph, name, op, target, args, kwargs))


def free_name(namespace: Any, name: str) -> str:
    """What ``namespace.create_name(name, None)`` gives, which takes most names apart once more."""
    used, counts = namespace._used_names, namespace._base_count
    number = counts.get(name)
    if number is None or name not in used or name[-1].isdigit():
        found: str = namespace.create_name(name, None)
        return found
    found = name
    while found in used:
        number += 1
        found = f"{name}_{number}"
    used.add(found)
    counts[name] = number
    return found


def append_input(graph: fx.Graph, op: str, target: str, default: tuple[Any, ...] = ()) -> fx.Node:
    """Append a ``placeholder`` with its default, or a ``get_attr`` node."""
    name = _new_name(graph._graph_namespace, _target_as_name(graph, target))
    return _append(graph, fx.Node(graph, name, op, target, default, {}))


def _target_as_name(graph: fx.Graph, target: str) -> str:
    """What ``graph._target_to_str(target)`` gives: most targets as they are."""
    if target.islower() and target.isascii() and not target.startswith("__"):
        return target
    return graph._target_to_str(target)


def _new_name(namespace: Any, candidate: str) -> str:
    """What ``namespace.create_name(candidate, None)`` gives, which takes each name apart."""
    used, counts = namespace._used_names, namespace._base_count
    if candidate in used or not (candidate.isidentifier() and candidate.isascii()):
        found: str = namespace.create_name(candidate, None)
        return found
    base, _, number = candidate.rpartition("_")
    if base and number.isdigit():
        counts[base] = int(number)
    elif candidate in _illegal_names:
        taken: str = namespace.create_name(candidate, None)
        return taken
    else:
        counts.setdefault(candidate, 0)
    used.add(candidate)
    return candidate


def _append(graph: fx.Graph, node: fx.Node) -> fx.Node:
    graph._graph_namespace.associate_name_with_obj(node.name, node)
    graph._insert(node)
    graph._find_nodes_lookup_table.insert(node)
    graph._len += 1
    return node


def set_metadata(node: fx.Node, meta: dict[str, Any]) -> None:
    """Assign ``node.meta``, without the search of the graph's tables that fx makes for it."""
    object.__setattr__(node, "meta", meta)


def become_attribute(node: fx.Node, target: str) -> None:
    """Make a node without arguments a ``get_attr`` node, with the name that a new one would get.

    The node keeps its users, its metadata and its place.
    """
    graph = node.graph
    # Each assignment to a node would take it out of this table, and put it back.
    graph._find_nodes_lookup_table.remove(node)
    wanted = _target_as_name(graph, target)
    plain = wanted.replace(".", "_")
    if not (plain.isidentifier() and plain.isascii()):
        plain = wanted  # fx makes one underscore of several such characters
    name = _new_name(graph._graph_namespace, plain)
    graph._graph_namespace._rename_object(node, name)
    for key, value in (("op", "get_attr"), ("target", target), ("name", name)):
        object.__setattr__(node, key, value)
    graph._find_nodes_lookup_table.insert(node)


def remove_unused(graph: fx.Graph, may_have_effect: Callable[[fx.Node], bool]) -> None:
    """Remove the nodes of a graph that have no users, and those that get none by that.

    `Graph.eliminate_dead_code` checks the whole graph before, and asks about every node.

    Args:
        graph: the graph, in order.
        may_have_effect: whether a node without users has to stay.
    """
    for node in reversed(graph.nodes):
        if not node.users and not may_have_effect(node):
            graph.erase_node(node)


def graph_module(root: torch.nn.Module, graph: fx.Graph, name: str) -> fx.GraphModule:
    """A module that runs a graph; its Python code is generated when it is first needed."""
    return TracedModule(root, graph, name)


def compile_now(module: fx.GraphModule) -> None:
    """Generate and compile the Python code of a module, also of one that puts it off."""
    _LazyGraphModule.force_recompile(module)


class _Forward:
    """The method ``forward`` of a module whose code is not compiled yet.

    torch's own stands in its file, which Dynamo skips, and Dynamo would refuse to trace it.
    """

    def __get__(self, module: Any, kind: type) -> Any:
        if module is None:
            return kind._lazy_forward  # type: ignore[attr-defined]
        module.real_recompile()
        return module.forward


_FORWARD = _Forward()


class TracedModule(_LazyGraphModule):
    """A graph module that is pickled node by node, so that loading it gives the same graph.

    torch pickles a graph's code instead, and traces the code again. In neither case does the
    pickle hold the environment of symbols or the nodes' example values.
    """

    @classmethod
    def recompile(cls) -> None:  # type: ignore[override]
        """Have the code compiled when it is next needed."""
        cls.forward = _FORWARD  # type: ignore[assignment]

    @classmethod
    def _needs_recompile(cls) -> bool:
        return inspect.getattr_static(cls, "forward") is _FORWARD

    @_disable_dynamo  # `torch.compile` meets the first run of a module, which compiles its code
    def _real_recompile(self) -> Any:
        made = super()._real_recompile()
        # torch keeps the source of all generated code for tracebacks, also when it has gone.
        forward: Any = type(self).forward
        weakref.finalize(forward, _forget_source, forward.__code__.co_filename).atexit = False
        # Dynamo captures the branches of `torch.cond` only if their code is there.
        for part in self.children():
            if isinstance(part, fx.GraphModule):
                compile_now(part)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        body = {k: v for k, v in self.__dict__.items() if k not in ("_graph", "shape_env")}
        nodes = [
            (
                node.op,
                node.name,
                _by_name(node.target),
                fx.node.map_aggregate(node.args, _by_name),
                fx.node.map_aggregate(node.kwargs, _by_name),
                {k: _by_name(node.meta[k]) for k in _KEPT_METADATA if k in node.meta},
            )
            for node in self.graph.nodes
        ]
        return _traced_module_from, (type(self).__name__, body, nodes, self.graph._codegen)


def _forget_source(filename: str) -> None:
    linecache.cache.pop(filename, None)
    graph_modules._loader.eval_cache.pop(filename, None)


_KEPT_METADATA = ("stack_trace", "nn_module_stack", "torch_fn", "seq_nr", "original_aten")


@dataclass(frozen=True, slots=True)
class _Named:
    """The name of a value that cannot be pickled by itself.

    Such are nodes and operators, and memory formats in the older protocol that `torch.save` uses.
    """

    kind: str
    path: tuple[str, ...]


def _by_name(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return _Named("node", (value.name,))
    if isinstance(value, OpOverload):
        name = value._schema.name.split("::")[1]
        return _Named("operator", (value.namespace, name, value._overloadname))
    if isinstance(value, HigherOrderOperator):
        return _Named("operator", ("higher_order", value._name))
    if isinstance(value, (torch.memory_format, torch.layout)):
        return _Named("constant", (str(value).removeprefix("torch."),))
    return value


def _traced_module_from(
    name: str,
    body: dict[str, Any],
    nodes: list[tuple[Any, ...]],
    codegen: Any,
) -> fx.GraphModule:
    """Rebuild the module from the parts of `TracedModule.__reduce__`."""
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}

    def found(value: Any) -> Any:
        if not isinstance(value, _Named):
            return value
        if value.kind == "node":
            return made[value.path[0]]
        home = torch if value.kind == "constant" else torch.ops
        return functools.reduce(getattr, value.path, home)

    for op, node_name, target, args, kwargs, meta in nodes:
        node = graph.create_node(
            op,
            found(target),
            fx.node.map_aggregate(args, found),
            fx.node.map_aggregate(kwargs, found),
            node_name,
        )
        node.meta.update({k: found(v) for k, v in meta.items()})
        made[node_name] = node
    graph._codegen = codegen
    root = torch.nn.Module()
    root.__dict__.update(body)
    module = TracedModule(root, graph, name)
    module.meta = body.get("meta", {})
    module.training = body["training"]
    return module


def forget_wrapped_functions_that_are_gone() -> None:
    """Repair torch.fx's list of functions that `torch.fx.wrap` makes leaves.

    Loading a pickled graph module with a wrapped function of another module lists that function
    by its full name among the globals of the generated code, which lack that name. From then on
    every trace of torch.fx in the process would end in a KeyError.
    """
    listed = _symbolic_trace._wrapped_fns_to_patch
    for key, namespace in list(listed.items()):
        name = key[1]
        if name not in namespace and not hasattr(builtins, name):
            del listed[key]


def take_pytree_inputs(graph: fx.Graph, names: list[str], spec: pytree.TreeSpec) -> None:
    """Let the graph's code take arguments with the structure of a tree, and flatten them."""
    graph._codegen = _PyTreeCodeGen(_PyTreeInfo(names, spec, None))


def takes_pytree_inputs(graph: fx.Graph, out_spec: pytree.TreeSpec | None = None) -> bool:
    """Whether `take_pytree_inputs` was called.

    Args:
        graph: the graph.
        out_spec: the structure of the outputs, which the code rebuilds from now on.
    """
    codegen = graph._codegen
    if not isinstance(codegen, _PyTreeCodeGen):
        return False
    if out_spec is not None:
        codegen.pytree_info = codegen.pytree_info._replace(out_spec=out_spec)
    return True


def class_name_of(f: Callable[..., Any]) -> str:
    """The name of the class of a function's graph, which texts of the graph begin with."""
    if isinstance(f, torch.nn.Module):
        return type(f).__name__
    # torch wraps functions of any number of arguments, as AOTAutograd's are, in a lambda.
    code = getattr(inspect.unwrap(f), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return "<lambda>"
    name: str = f.__name__
    return name

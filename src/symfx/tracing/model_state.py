"""The state of a model: its parameters, its buffers, and other tensors that it holds.

The graph has them as attributes. Tracing and verifying leave them unchanged.
"""

from __future__ import annotations

import contextlib
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from symfx.tracing.held_state import HeldState

__all__ = [
    "Attributes",
    "Effects",
    "MethodModule",
    "detach_written_buffers",
    "gradients_of",
    "module_of",
    "preserved",
    "untouched",
    "written_tensors",
]


_OF_PLAIN_MODULE = frozenset(dir(torch.nn.Module))
_OF_EMPTY_MODULE: dict[str, Any] = vars(torch.nn.Module())
_CONTAINERS = (dict, set, OrderedDict)


class MethodModule(torch.nn.Module):
    """A method of a module, wrapped as a module, so that `functional_call` takes it."""

    def __init__(self, owner: torch.nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.owner = owner
        self.function = function
        self.training = owner.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.function(self.owner, *args, **kwargs)


def module_of(model: Callable[..., Any]) -> torch.nn.Module | None:
    """The module whose state a model uses: the model, or the module that it is a method of."""
    if isinstance(model, torch.nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) and inspect.ismethod(model) else None


class Attributes:
    """Tensors as parameters and buffers of a module.

    Args:
        root: the module.
    """

    def __init__(self, root: torch.nn.Module) -> None:
        #: For each qualified name of a module: the module, and the name that it got.
        self._modules: dict[str, tuple[torch.nn.Module, str]] = {"": (root, "")}

    def add(self, name: str, tensor: torch.Tensor) -> str:
        """Add a tensor.

        Args:
            name: the wanted qualified name; submodules are made for its parts.
            tensor: the tensor.

        Returns:
            The qualified name that the tensor got; see `_free_name`.
        """
        path, _, leaf = name.rpartition(".")
        parent, target = self._module(path)
        own = _free_name(parent, leaf, below=False)
        # The tensors and their names are a module's already, so that nothing is left to check.
        held: dict[str, Any] = (
            parent._parameters if isinstance(tensor, torch.nn.Parameter) else parent._buffers
        )
        held[own] = tensor
        return f"{target}.{own}" if target else own

    def _module(self, path: str) -> tuple[torch.nn.Module, str]:
        known = self._modules.get(path)
        if known is not None:
            return known
        above, _, part = path.rpartition(".")
        parent, target = self._module(above)
        own = _free_name(parent, part, below=True)
        module = parent._modules.get(own)
        if module is None:
            module = parent._modules[own] = _empty_module()
        self._modules[path] = found = module, f"{target}.{own}" if target else own
        return found


def _empty_module() -> torch.nn.Module:
    """What ``torch.nn.Module()`` makes, which assigns each attribute in a way of its own."""
    module = torch.nn.Module.__new__(torch.nn.Module)
    vars(module).update(
        {k: v.copy() if type(v) in _CONTAINERS else v for k, v in _OF_EMPTY_MODULE.items()}
    )
    return module


def _free_name(parent: torch.nn.Module, name: str, *, below: bool) -> str:
    """The name, with underscores after it if it is taken: a GraphModule has a ``graph`` already.

    Args:
        parent: the module that is to have the attribute.
        name: the wanted name.
        below: whether a submodule is wanted, so that an existing one of that name is used.
    """
    kind = type(parent)
    while (
        (name in _OF_PLAIN_MODULE if kind is torch.nn.Module else hasattr(kind, name))
        or name in parent._parameters
        or name in parent._buffers
        or name in parent._modules
        or name in vars(parent)
    ):
        if below and name in parent._modules:
            break
        name += "_"
    return name


def gradients_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The gradients that tensors have: for each its identity and how often it was written."""
    with torch._C.DisableTorchFunction():  # a mode would see two calls for each parameter
        return {
            name: (id(tensor.grad), tensor.grad._version)
            for name, tensor in tensors.items()
            if isinstance(tensor, torch.Tensor) and tensor.is_leaf and tensor.grad is not None
        }


def writes(
    graph_module: torch.fx.GraphModule,
) -> Iterator[tuple[torch.fx.Node, torch.fx.Node, torch.Tensor]]:
    """The writes of a graph to its attributes, directly or through a view.

    Yields:
        The node that writes, the ``get_attr`` node of the tensor, and the tensor.
    """
    targets = {node.target for node in graph_module.graph.nodes if node.op == "call_function"}
    if not any(target._schema.is_mutable for target in targets if hasattr(target, "_schema")):
        return
    owners: dict[torch.fx.Node, tuple[torch.fx.Node, torch.Tensor]] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            held = operator.attrgetter(str(node.target))(graph_module)
            if isinstance(held, torch.Tensor):
                owners[node] = node, held
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        touched = [owners[argument] for argument in node.all_input_nodes if argument in owners]
        if schema.is_mutable:
            for attribute, tensor in touched:
                yield node, attribute, tensor
        if touched and any(result.alias_info is not None for result in schema.returns):
            owners[node] = touched[0]


def written_tensors(graph_module: torch.fx.GraphModule) -> list[torch.Tensor]:
    """The tensors among a graph's attributes that the graph writes to, each once."""
    return list({id(tensor): tensor for _, _, tensor in writes(graph_module)}.values())


def detach_written_buffers(graph_module: torch.fx.GraphModule) -> None:
    """Keep a graph's writes to buffers out of autograd.

    A model writes its running averages under ``no_grad``, which a graph below autograd does not
    contain: without the detach the buffers would require gradients after a run.
    """
    exposed = {
        attribute: tensor
        for writer, attribute, tensor in writes(graph_module)
        if not isinstance(tensor, torch.nn.Parameter)
        and (tensor.is_floating_point() or tensor.is_complex())
        and len(writer.all_input_nodes) > 1
        and str(writer.target).split(".")[1].endswith("_")
    }
    for attribute in exposed:
        with graph_module.graph.inserting_after(attribute):
            detached = graph_module.graph.call_function(torch.ops.aten.detach.default, (attribute,))
        detached.meta = dict(attribute.meta)
        for user in list(attribute.users):
            if user is not detached:
                user.replace_input_with(attribute, detached)


@contextlib.contextmanager
def preserved(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Restore the values of these tensors at the end."""
    unique = {id(tensor): tensor for tensor in tensors}
    before = [(tensor, tensor.detach().clone()) for tensor in unique.values()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                if tensor.shape != value.shape:
                    tensor.resize_(value.shape)
                if not torch.equal(tensor, value):
                    tensor.copy_(value)


@dataclass
class Effects:
    """What a run of a model changes beside its result.

    Attributes:
        changes: what it does to Python state, such as ``changes the list log``.
        gradients: the names of the tensors whose gradients it changes.
        modules: the modules that the model can reach, by name; known from the start.
    """

    changes: list[str] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)
    modules: dict[str, torch.nn.Module] = field(default_factory=dict)


@contextlib.contextmanager
def untouched(
    model: Callable[..., Any], also: Sequence[torch.Tensor] = (), *, modules_alone: bool = False
) -> Iterator[Effects]:
    """Restore a model at the end, after it ran inside.

    Restored are the values of its buffers, of plain tensors that it holds or closes over, and of
    ``also``; all gradients; and its Python state (see `HeldState`), or with ``modules_alone`` the
    attributes of its modules: what a run of the model itself does to lists is the user's.

    Yields:
        The effects that were undone; filled in at the end. Buffers are left out, because a graph
        updates them.
    """
    held = HeldState(model)
    named = {**held.parameters, **{f"tensor {i}": t for i, t in enumerate(held.tensors)}}
    gradients = [(name, tensor, tensor.grad) for name, tensor in named.items() if tensor.is_leaf]
    kept = [grad for _, _, grad in gradients if grad is not None]
    plain = [t for t in [*held.tensors, *kept, *also] if t.layout is torch.strided]
    effects = Effects(modules=held.modules)
    versions = [grad._version for grad in kept]
    try:
        with preserved(plain):
            yield effects
    finally:
        changed = {id(g) for g, v in zip(kept, versions, strict=True) if g._version != v}
        for name, tensor, grad in gradients:
            if tensor.grad is not grad or id(grad) in changed:
                effects.gradients.append(name)
                tensor.grad = grad
        effects.changes += held.restore(modules_alone=modules_alone)

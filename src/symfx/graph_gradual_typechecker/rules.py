"""The typing of one node: by the table, or by a rule whose results PyTorch defines."""

from __future__ import annotations

import functools
import operator
from typing import Any

import torch
from torch.fx import Node
from torch.fx.tensor_type import Dyn, TensorType, is_consistent, is_more_precise

from symfx.graph_gradual_typechecker.checker_sizes import (
    CheckerSizes,
    type_of,
    value_of,
)
from symfx.graph_gradual_typechecker.registry import register_inference_rule
from symfx.graph_gradual_typechecker.types import (
    broadcast_types,
    expand_to_tensor_dim,
    get_greatest_upper_bound,
)
from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.element_types import SHAPED_BY_DTYPE, ElementTypes, operator_of, typed
from symfx.shape_rules.errors import GradualError, IllTypedError
from symfx.shape_rules.graphs import where_of
from symfx.shape_rules.opaque_sizes import OpaqueSizes
from symfx.shape_rules.sizes import UNKNOWN, Shape
from symfx.shape_rules.table import Rule, known_rules, lookup

__all__ = [
    "adaptiveavgpool2d_inference_rule",
    "add_inference_rule",
    "bn2d_inference_rule",
    "conv2d_inference_rule",
    "first_argument",
    "flatten_inference_rule",
    "get_attr_inference_rule",
    "get_parameter",
    "linear_inference_rule",
    "maxpool2d_inference_rule",
    "relu_inference_rule",
    "reshape_inference_rule",
    "transpose_inference_rule",
    "typed_from_table",
]


def get_parameter(traced: Any, target: str) -> torch.nn.Parameter:
    """The parameter, or another attribute, that a ``get_attr`` node names.

    Raises:
        AttributeError: the module has no such attribute.
    """
    path, _, name = target.rpartition(".")
    owner = traced.get_submodule(path)
    if not hasattr(owner, name):
        raise AttributeError(f"{type(owner).__name__} has no attribute {name!r} (for {target!r})")
    return getattr(owner, name)  # type: ignore[no-any-return]


def first_argument(n: Node) -> Node:
    """The first argument of a node.

    Raises:
        GradualError: the first argument is not a node.
    """
    given = n.args[0] if n.args else next(iter(n.kwargs.values()), None)
    if not isinstance(given, Node):
        raise GradualError(
            f"the first argument of {n.name} is {given!r}, not a node of the graph",
            where=where_of(n),
        )
    return given


def _meets(n: Node, computed: Any) -> Any:
    """Combine the computed type with the annotation."""
    annotated = Dyn if n.type is None else n.type
    try:
        n.type = get_greatest_upper_bound(computed, annotated)
    except IllTypedError:
        raise IllTypedError(
            f"{n.name} has the type {computed}, but is annotated with {annotated}",
            where=where_of(n),
            fix="correct the annotation, or the program",
        ) from None
    return n.type


def typed_from_table(n: Node, module: Any = None, *, root: Any = None, values: Any = None) -> Any:
    """Compute the type of a node by the table of shape rules."""
    found, called = _lookup(n, module, root)
    if found is None:
        raise GradualError(f"the table has no rule for {n.target}", where=where_of(n))
    values = {} if values is None else values
    sizes = CheckerSizes()
    _expand_first(n, found, called)
    dtypes = ElementTypes(root) if operator_of(n) in SHAPED_BY_DTYPE else None

    def value(node: Node) -> Any:
        known = _value(sizes, node, values)
        return known if dtypes is None else typed(known, dtypes.of(node))

    args, kwargs = arguments_of(n, value)
    try:
        result = found(sizes, args, kwargs, called)
    except IllTypedError as error:
        raise IllTypedError(
            error.what,
            where=where_of(n),
            fix=f"its inputs are {_inputs(n)}",
        ) from None
    values[n] = result
    return _meets(n, type_of(result))


def _inputs(n: Node) -> str:
    return ", ".join(f"{node.name}: {node.type}" for node in n.all_input_nodes)


def _lookup(n: Node, module: Any, root: Any) -> tuple[Rule | None, Any]:
    if module is None:
        return lookup(n, root)
    table = known_rules()
    return next((table[cls] for cls in type(module).__mro__ if cls in table), None), module


def _value(sizes: CheckerSizes, node: Node, values: dict[Node, Any]) -> Any:
    known = values.get(node, UNKNOWN)
    if known is UNKNOWN or isinstance(known, Shape):
        return value_of(sizes, node.type)  # an annotation may be more precise
    return known


def _expand_first(n: Node, rule: Rule, module: Any) -> None:
    """Give an unknown first argument the rank that the operator or the annotation determines."""
    given = n.args[0] if n.args else None
    if not isinstance(given, Node) or given.type not in (None, Dyn):
        return
    if rule.rank is not None:
        given.type = expand_to_tensor_dim(Dyn, rule.rank)
    elif isinstance(n.type, TensorType) and len(n.all_input_nodes) == 1:
        rank = len(n.type.dims)
        sizes = OpaqueSizes()
        try:
            result = rule(sizes, (sizes.shape(rank), *n.args[1:]), n.kwargs, module)
        except IllTypedError:
            return
        if isinstance(result, Shape) and len(result) == rank:
            given.type = expand_to_tensor_dim(Dyn, rank)


@register_inference_rule(torch.add)
@register_inference_rule(operator.add)
def add_inference_rule(n: Node) -> Any:
    """Type a sum: two types broadcast, and the sum has the less precise of them.

    ``[1, 2, Dyn]`` and ``[1, 2, 1]`` make ``[1, 2, Dyn]``. ``node.meta`` keeps whether the operands
    were expanded, under ``"broadcast"``, and their new types, under their names.

    Raises:
        IllTypedError: the operands do not broadcast.
    """
    left, right = n.args[:2]
    if not isinstance(left, Node) or not isinstance(right, Node):
        return typed_from_table(n)
    t1, t2 = left.type, right.type
    for number, tensor in ((t1, t2), (t2, t1)):
        if number is int and isinstance(tensor, TensorType):
            n.type = tensor
            return n.type
    new1, new2 = broadcast_types(t1, t2)
    n.meta["broadcast"] = stretched = new1 != t1 or new2 != t2
    if stretched:
        n.meta[str(left)], n.meta[str(right)] = new1, new2
    if not is_consistent(new1, new2):
        raise IllTypedError(
            f"{left.name}, of type {t1}, and {right.name}, of type {t2}, do not broadcast",
            where=where_of(n),
            fix="make the sizes equal, or 1, from the last dimension on",
        )
    n.type = new2 if is_more_precise(new1, new2) else new1
    return n.type


@register_inference_rule(getattr)
def get_attr_inference_rule(n: Node, traced: Any) -> Any:
    """Type an attribute: a tensor such as ``x.T`` by its shape, anything else ``Dyn``."""
    return typed_from_table(n, root=traced)


@register_inference_rule(torch.transpose)
def transpose_inference_rule(n: Node) -> Any:
    """Type a transpose.

    Raises:
        IllTypedError: the tensor has no such dimensions.
    """
    return typed_from_table(n)


@register_inference_rule(torch.reshape)
def reshape_inference_rule(n: Node) -> TensorType:
    """Type a reshape: the given shape, with -1 unknown.

    Raises:
        IllTypedError: the numbers of elements do not fit. They must be equal if all dimensions are
            known; otherwise one must be a multiple of the other.
    """
    given = first_argument(n).type
    wanted = n.args[1] if len(n.args) > 1 else n.kwargs["shape"]
    if not isinstance(wanted, (tuple, list)) or not all(isinstance(s, int) for s in wanted):
        return typed_from_table(n)  # type: ignore[no-any-return]
    target = TensorType(tuple(Dyn if size == -1 else size for size in wanted))
    if given != Dyn and given is not None:
        if not isinstance(given, TensorType):
            raise IllTypedError(f"{given} is not a tensor type", where=where_of(n))
        sizes = [d for d in given.dims if isinstance(d, int)]
        old = functools.reduce(operator.mul, sizes, 1)
        new = functools.reduce(operator.mul, wanted, 1)
        static = len(sizes) == len(given.dims)
        if old == 0 or new == 0:
            fits = not static or -1 in wanted or old == new
        elif static and -1 not in wanted:
            fits = old == new
        else:
            fits = old % new == 0 or new % old == 0
        if not fits:
            raise IllTypedError(
                f"{n.name} reshapes {given} to {target}: the numbers of elements do not fit",
                where=where_of(n),
            )
    n.type = target
    return target


@register_inference_rule(torch.nn.BatchNorm2d)
def bn2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type a batch normalization: input and output have one type of rank 4.

    Raises:
        IllTypedError: the type has other channels than the module, or another rank.
    """
    expanded = expand_to_tensor_dim(Dyn if n.type is None else n.type, 4)
    if not is_consistent(expanded.dims[1], module_instance.num_features):
        raise IllTypedError(
            f"{n.name} has {module_instance.num_features} channels, but is annotated with {n.type}",
            where=where_of(n),
        )
    n.type = expanded
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.Conv2d)
def conv2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type a convolution.

    Raises:
        IllTypedError: the input has other channels, or another rank.
    """
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.ReLU)
def relu_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type a ReLU: input and output have one type."""
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.MaxPool2d)
def maxpool2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type a max pooling."""
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.Linear)
def linear_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type a linear layer."""
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.AdaptiveAvgPool2d)
def adaptiveavgpool2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """Type an adaptive pooling."""
    return typed_from_table(n, module_instance)


@register_inference_rule(torch.flatten)
def flatten_inference_rule(n: Node) -> Any:
    """Type a flattening."""
    return typed_from_table(n)

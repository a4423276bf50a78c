"""A gradual type checker for graphs, and the inference of symbolic shapes.

`GraphTypeChecker` walks a graph once and writes the type of each node's value into ``node.type``,
as precisely as the annotations allow; what it cannot know is ``Dyn``. `Refine` then puts variables
where types say ``Dyn`` and collects which of them are equal.

Both type operators from the table of `symfx.shape_rules`; the rules that stand here are those whose
results PyTorch fixed, and the registries take rules of the user's own, which come first.
"""

from __future__ import annotations

import functools
import itertools
import operator
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import sympy
import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.fx.tensor_type import Dyn, TensorType, is_consistent, is_more_precise

from symfx.checker_domain import (
    CheckDomain,
    Held,
    dimension_of,
    released,
    shape_of,
    type_of,
    value_of,
)
from symfx.refinement_types import Equality
from symfx.shape_rules.dims import UNKNOWN, Dim, Shape, Size
from symfx.shape_rules.errors import GradualError, IllTypedError
from symfx.shape_rules.graphs import annotation_of, graph_of, parameter_of, where_of
from symfx.shape_rules.opaque import OpaqueDomain
from symfx.shape_rules.operators.windows import per_dimension, window
from symfx.shape_rules.table import Rule, lookup
from symfx.unification import Var

__all__ = [
    "GraphTypeChecker",
    "Refine",
    "adaptiveavgpool2d_check",
    "adaptiveavgpool2d_inference_rule",
    "add_inference_rule",
    "all_eq",
    "bn2d_inference_rule",
    "broadcast_types",
    "calculate_out_dimension",
    "conv2d_inference_rule",
    "conv_refinement_rule",
    "conv_rule",
    "element_wise_eq",
    "expand_to_tensor_dim",
    "first_two_eq",
    "flatten_check",
    "flatten_inference_rule",
    "flatten_refinement_rule",
    "get_attr_inference_rule",
    "get_greatest_upper_bound",
    "get_parameter",
    "linear_check",
    "linear_inference_rule",
    "linear_refinement_rule",
    "maxpool2d_check",
    "maxpool2d_inference_rule",
    "register_algebraic_expressions_inference_rule",
    "register_inference_rule",
    "register_refinement_rule",
    "relu_inference_rule",
    "reshape_inference_rule",
    "transpose_inference_rule",
]

_R = TypeVar("_R", bound=Callable[..., Any])
_Registry = dict[Any, Callable[..., Any]]

_INFERENCE: _Registry = {}
_REFINEMENT: _Registry = {}
_ALGEBRAIC: _Registry = {}


def _registrar(registry: _Registry, kind: str, target: Any) -> Callable[[_R], _R]:
    def register(function: _R) -> _R:
        if target in registry:
            raise GradualError(
                f"{getattr(target, '__name__', target)} has {kind} rule already",
                where=f"the rule {getattr(function, '__name__', function)}",
            )
        registry[target] = function
        return function

    return register


def register_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the typing rule of an operator, before the table's.

    Args:
        call_target: a function, the name of a method, or a class of modules. The rule takes the
            node (for modules, the module too; for ``getattr``, the GraphModule) and sets its type.

    Raises:
        GradualError: the operator has a rule here.
    """
    return _registrar(_INFERENCE, "a typing", call_target)


def register_refinement_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the refinement rule of an operator: from a node to a list of `Equality`."""
    return _registrar(_REFINEMENT, "a refinement", call_target)


def register_algebraic_expressions_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the algebraic rule of an operator: it writes sizes as expressions."""
    return _registrar(_ALGEBRAIC, "an algebraic", call_target)


# -- types ----------------------------------------------------------------------------------------


def expand_to_tensor_dim(t: Any, n: int) -> TensorType:
    """A type as one of a tensor of rank `n`.

    Raises:
        IllTypedError: it has another rank, or is no tensor type.

    Example:
        >>> expand_to_tensor_dim(Dyn, 2)
        TensorType[(Dyn, Dyn)]
    """
    if t == Dyn:
        return TensorType((Dyn,) * n)
    if not isinstance(t, TensorType):
        raise IllTypedError(f"{t} is no tensor type")
    if len(t.dims) != n:
        raise IllTypedError(f"a tensor of rank {n} is wanted, {t} has rank {len(t.dims)}")
    return t


def broadcast_types(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Two types stretched to one rank, with 1 replaced by the other's dimension.

    Raises:
        IllTypedError: one of them is no tensor type.

    Example:
        >>> broadcast_types(TensorType((4, 1)), TensorType((3,)))
        (TensorType[(4, 3)], TensorType[(4, 3)])
    """
    for t in (t1, t2):
        if t == Dyn or isinstance(t, Var):
            return t1, t2
        if not isinstance(t, TensorType):
            raise IllTypedError(f"the types {t1} and {t2} do not broadcast: {t} is no tensor type")
    rank = max(len(t1.dims), len(t2.dims))
    one, other = ([1] * (rank - len(t.dims)) + [*t.dims] for t in (t1, t2))
    pairs = [
        (b, b) if a == 1 else (a, a) if b == 1 else (a, b) for a, b in zip(one, other, strict=True)
    ]
    return TensorType(tuple(a for a, _ in pairs)), TensorType(tuple(b for _, b in pairs))


def get_greatest_upper_bound(type1: Any, type2: Any) -> Any:
    """What two types together say: in each dimension the more precise of the two.

    Raises:
        IllTypedError: they contradict each other.

    Example:
        >>> get_greatest_upper_bound(TensorType((2, Dyn)), TensorType((Dyn, 3)))
        TensorType[(2, 3)]
    """
    if type1 == Dyn:
        return type2
    if type2 == Dyn:
        return type1
    if isinstance(type1, (tuple, list)) and isinstance(type2, (tuple, list)):
        return tuple(itertools.starmap(get_greatest_upper_bound, zip(type1, type2, strict=True)))
    if not isinstance(type1, TensorType) or not isinstance(type2, TensorType):
        return None
    if not is_consistent(type1, type2):
        raise IllTypedError(f"the types {type1} and {type2} contradict each other")
    pairs = zip(type1.dims, type2.dims, strict=True)
    return TensorType(tuple(a if is_more_precise(a, b) else b for a, b in pairs))


def calculate_out_dimension(d_in: Any, module_instance: Any, index: int) -> Any:
    """What the window of a two-dimensional layer leaves of a dimension.

    Args:
        d_in: the dimension: a number, a sympy symbol or ``Dyn``.
        module_instance: a convolution or pooling layer.
        index: 0 for the height, 1 for the width.

    Raises:
        IllTypedError: the dimension is none of these.
    """
    if d_in == Dyn:
        return Dyn
    if not isinstance(d_in, (int, sympy.Expr)):
        raise IllTypedError(
            f"{d_in!r} is no dimension, for {module_instance}: give a number, a symbol or Dyn"
        )
    m = module_instance
    stride = m.kernel_size if m.stride is None else m.stride
    settings = (m.kernel_size, m.padding, stride, m.dilation)
    kernel, padding, step, dilation = (per_dimension(value, 2)[index] for value in settings)
    domain = CheckDomain()
    return dimension_of(window(domain.size(d_in), kernel, padding, step, dilation))


def _checked(rule_of: type[torch.nn.Module], tensor_type: Any, module: Any) -> TensorType:
    from symfx.shape_rules.table import rules

    domain = CheckDomain()
    result = rules()[rule_of](domain, (shape_of(domain, tensor_type),), {}, module)
    return TensorType(tuple(map(dimension_of, result)))


def maxpool2d_check(typ: TensorType, module_instance: Any) -> TensorType:
    """The type that max pooling gives of a tensor of rank 3 or 4.

    Raises:
        IllTypedError: it takes no such tensor.
    """
    return _checked(torch.nn.MaxPool2d, typ, module_instance)


def adaptiveavgpool2d_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type that adaptive pooling gives of a tensor of rank 3 or 4.

    Raises:
        IllTypedError: it takes no such tensor.
    """
    return _checked(torch.nn.AdaptiveAvgPool2d, tensor_type, module_instance)


def linear_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type that a linear layer gives of a tensor.

    Raises:
        IllTypedError: its last dimension is not `in_features`.
    """
    return _checked(torch.nn.Linear, tensor_type, module_instance)


def flatten_check(tensor_type: TensorType, start_dim: int, end_dim: int) -> TensorType:
    """The type of a flattened tensor.

    Raises:
        IllTypedError: there are no such dimensions.
    """
    from symfx.shape_rules.operators.layout import flatten

    domain = CheckDomain()
    result = flatten(domain, shape_of(domain, tensor_type), start_dim, end_dim)
    return TensorType(tuple(map(dimension_of, result)))


def get_parameter(traced: Any, target: str) -> torch.nn.Parameter:
    """The parameter, or other attribute, that a ``get_attr`` node names.

    Raises:
        AttributeError: there is none.
    """
    path, _, name = target.rpartition(".")
    owner = traced.get_submodule(path)
    if not hasattr(owner, name):
        raise AttributeError(f"{type(owner).__name__} has no attribute {name!r} (for {target!r})")
    return getattr(owner, name)  # type: ignore[no-any-return]


# -- typing rules ---------------------------------------------------------------------------------


def _first(n: Node) -> Node:
    given = n.args[0] if n.args else next(iter(n.kwargs.values()), None)
    if not isinstance(given, Node):
        raise GradualError(
            f"{n.name} takes {given!r}, which no node of the graph computes", where=where_of(n)
        )
    return given


def _meets(n: Node, computed: Any) -> Any:
    """Combine what was computed with what is annotated."""
    annotated = Dyn if n.type is None else n.type
    try:
        n.type = get_greatest_upper_bound(computed, annotated)
    except IllTypedError:
        raise IllTypedError(
            f"{n.name} has the type {computed}, but is annotated with {annotated}",
            where=where_of(n),
            fix="correct the annotation, or what it is computed from",
        ) from None
    return n.type


def _typed_from_table(n: Node, module: Any = None, *, root: Any = None, values: Any = None) -> Any:
    """Type a node by the table."""
    found, called = _lookup(n, module, root)
    if found is None:
        raise GradualError(f"there is no rule for {n.target}", where=where_of(n))
    values = {} if values is None else values
    domain = CheckDomain()
    _expand_first(n, found, called)
    args, kwargs = _with_values(n, lambda node: _value(domain, node, values))
    try:
        result = found(domain, args, kwargs, called)
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
    from symfx.shape_rules.table import rules

    if module is None:
        return lookup(n, root)
    table = rules()
    return next((table[cls] for cls in type(module).__mro__ if cls in table), None), module


def _with_values(n: Node, value: Callable[[Node], Any]) -> tuple[Any, Any]:
    """A node's arguments with values in place of nodes."""

    def hold(node: Node) -> Any:
        return Held(value(node))

    held: Any = map_arg((n.args, n.kwargs), hold)
    return released(held[0]), released(held[1])


def _value(domain: CheckDomain, node: Node, values: dict[Node, Any]) -> Any:
    known = values.get(node, UNKNOWN)
    if known is UNKNOWN or isinstance(known, Shape):
        return value_of(domain, node.type)  # the annotation may say more than was computed
    return known


def _expand_first(n: Node, rule: Rule, module: Any) -> None:
    """Give an unknown first argument the rank that the operator, or the annotation, fixes."""
    given = n.args[0] if n.args else None
    if not isinstance(given, Node) or given.type not in (None, Dyn):
        return
    if rule.rank is not None:
        given.type = expand_to_tensor_dim(Dyn, rule.rank)
    elif isinstance(n.type, TensorType) and len(n.all_input_nodes) == 1:
        rank = len(n.type.dims)
        domain = OpaqueDomain()
        try:
            result = rule(domain, (domain.shape(rank), *n.args[1:]), n.kwargs, module)
        except IllTypedError:
            return
        if isinstance(result, Shape) and len(result) == rank:
            given.type = expand_to_tensor_dim(Dyn, rank)


@register_inference_rule(torch.add)
@register_inference_rule(operator.add)
def add_inference_rule(n: Node) -> Any:
    """Two types broadcast; the sum has the less precise of them.

    ``[1, 2, Dyn]`` and ``[1, 2, 1]`` make ``[1, 2, Dyn]``. What the operands were stretched to is
    kept in ``node.meta``, under ``"broadcast"`` and the operands' names.

    Raises:
        IllTypedError: the operands do not broadcast.
    """
    left, right = n.args[:2]
    if not isinstance(left, Node) or not isinstance(right, Node):
        return _typed_from_table(n)
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
    """``x.shape`` and other attributes: what is no tensor has the type ``Dyn``."""
    return _typed_from_table(n, root=traced)


@register_inference_rule(torch.transpose)
def transpose_inference_rule(n: Node) -> Any:
    """Two dimensions change places.

    Raises:
        IllTypedError: there are no such dimensions.
    """
    return _typed_from_table(n)


@register_inference_rule(torch.reshape)
def reshape_inference_rule(n: Node) -> TensorType:
    """The shape that is asked for, -1 in it unknown.

    Raises:
        IllTypedError: the numbers of elements do not fit: equal where all dimensions are known,
            one a multiple of the other where some are not.
    """
    given = _first(n).type
    wanted = n.args[1] if len(n.args) > 1 else n.kwargs["shape"]
    if not isinstance(wanted, (tuple, list)) or not all(isinstance(s, int) for s in wanted):
        return _typed_from_table(n)  # type: ignore[no-any-return]
    target = TensorType(tuple(Dyn if size == -1 else size for size in wanted))
    if given != Dyn and given is not None:
        if not isinstance(given, TensorType):
            raise IllTypedError(f"{given} is no tensor type", where=where_of(n))
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
    """Input and output have one type, of rank 4, and the module's channels.

    Raises:
        IllTypedError: they have not.
    """
    expanded = expand_to_tensor_dim(Dyn if n.type is None else n.type, 4)
    if not is_consistent(expanded.dims[1], module_instance.num_features):
        raise IllTypedError(
            f"{n.name} has {module_instance.num_features} channels, but is annotated with {n.type}",
            where=where_of(n),
        )
    n.type = expanded
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.Conv2d)
def conv2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """The channels are the convolution's; its window moves over height and width.

    Raises:
        IllTypedError: the input has other channels, or another rank.
    """
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.ReLU)
def relu_inference_rule(n: Node, module_instance: Any) -> Any:
    """Input and output have one type."""
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.MaxPool2d)
def maxpool2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """The window moves over height and width."""
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.Linear)
def linear_inference_rule(n: Node, module_instance: Any) -> Any:
    """The last dimension goes from `in_features` to `out_features`."""
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.nn.AdaptiveAvgPool2d)
def adaptiveavgpool2d_inference_rule(n: Node, module_instance: Any) -> Any:
    """Height and width become what the module says."""
    return _typed_from_table(n, module_instance)


@register_inference_rule(torch.flatten)
def flatten_inference_rule(n: Node) -> Any:
    """A run of dimensions becomes their product."""
    return _typed_from_table(n)


# -- the checker ---------------------------------------------------------------------------------


class GraphTypeChecker:
    """Types the nodes of a graph, one after the other.

    Args:
        env: not used; it is there because PyTorch's checker takes it.
        traced: the GraphModule. Annotations are what ``node.type`` says before.

    Attributes:
        unknown_operators: the nodes whose operator nobody knows, typed ``Dyn``, with its name.

    Example:
        >>> class Program(torch.nn.Module):
        ...     def forward(self, x: TensorType((2, Dyn)), y: TensorType((Dyn, 3))):
        ...         return torch.matmul(x, y)
        >>> traced = torch.fx.symbolic_trace(Program())
        >>> GraphTypeChecker({}, traced).type_check()
        True
        >>> [node.type for node in traced.graph.nodes][-1]
        TensorType[(2, 3)]
    """

    def __init__(self, env: dict[str, Any], traced: GraphModule) -> None:
        self.env = env
        self.traced = traced
        self.unknown_operators: dict[Node, str] = {}
        self._values: dict[Node, Any] = {}

    def type_check(self) -> bool:
        """Type all nodes.

        Returns:
            True; what is wrong is raised. Operators that are not known are named in a warning.

        Raises:
            IllTypedError: a node's operator does not take the types of its arguments.
            GradualError: the graph is empty or cyclic.
        """
        self.unknown_operators = {}
        self._values = {}
        for node in graph_of(self.traced).nodes:
            self.type_check_node(node)
        if self.unknown_operators:
            names = ", ".join(sorted(set(self.unknown_operators.values())))
            warnings.warn(
                f"no shape rule for {names}: typed Dyn (symfx.shape_rules.rule adds one)",
                stacklevel=2,
            )
        return True

    def type_check_node(self, n: Node) -> Any:
        """Type one node, whose arguments are typed; returns its type."""
        n.type = Dyn if n.type is None else annotation_of(n)
        if n.op == "placeholder":
            return n.type
        if n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
            return n.type
        if n.op == "get_attr":
            value = parameter_of(self.traced, str(n.target))
            if isinstance(value, torch.Tensor):
                n.type = TensorType(tuple(value.shape))
            return n.type
        if n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            if type(module) in _INFERENCE:
                return _INFERENCE[type(module)](n, module)
        elif n.target is getattr:
            return _typed_from_table(n, root=self.traced, values=self._values)
        elif n.target in _INFERENCE:
            return _INFERENCE[n.target](n)
        rule, called = lookup(n, self.traced)
        if rule is None:
            name = (
                type(called).__qualname__
                if called is not None
                else n._pretty_print_target(n.target)
            )
            self.unknown_operators[n] = name
            return n.type
        return _typed_from_table(n, called, root=self.traced, values=self._values)


# -- refinement -----------------------------------------------------------------------------------


def _dims_of_both(n: Node) -> tuple[Any, Any] | None:
    given = _first(n).type
    if isinstance(given, TensorType) and isinstance(n.type, TensorType):
        return given.dims, n.type.dims
    return None


def _leading(n: Node, count: int | None) -> list[Equality]:
    both = _dims_of_both(n)
    return (
        [Equality(*pair) for pair in zip(*(d[:count] for d in both), strict=False)] if both else []
    )


@register_refinement_rule(torch.nn.Conv2d)
def conv_refinement_rule(n: Node) -> list[Equality]:
    """The batch is one."""
    return _leading(n, 1)


@register_refinement_rule(torch.nn.Linear)
def linear_refinement_rule(n: Node) -> list[Equality]:
    """All dimensions are one but the last."""
    both = _dims_of_both(n)
    return _leading(n, len(both[0]) - 1) if both else []


@register_refinement_rule(torch.nn.BatchNorm2d)
@register_refinement_rule(torch.nn.ReLU)
def all_eq(n: Node) -> list[Equality]:
    """All dimensions of input and output are one."""
    return _leading(n, None)


@register_refinement_rule(torch.nn.AdaptiveAvgPool2d)
@register_refinement_rule(torch.nn.MaxPool2d)
def first_two_eq(n: Node) -> list[Equality]:
    """The first two dimensions of input and output are one: batch and channels."""
    return _leading(n, 2)


@register_refinement_rule(torch.add)
@register_refinement_rule(operator.add)
def element_wise_eq(n: Node) -> list[Equality]:
    """A dimension that two operands have in common is the result's too.

    An unknown dimension beside a known one says nothing: it may be 1.
    """
    nodes = n.args[:2]
    types = [node.type if isinstance(node, Node) else None for node in nodes]
    if not all(isinstance(t, TensorType) for t in (*types, n.type)):
        return []
    one, other = broadcast_types(*types)
    assert isinstance(n.type, TensorType)
    triples = zip(one.dims, other.dims, n.type.dims, strict=False)
    return [Equality(a, c) for a, b, c in triples if a == b]


@register_refinement_rule(torch.flatten)
def flatten_refinement_rule(n: Node) -> list[Equality]:
    """The dimensions before and behind those that are flattened are one."""
    both = _dims_of_both(n)
    if both is None:
        return []
    old, new = both
    names = ("start_dim", "end_dim")
    start, end = (
        n.args[i + 1] if len(n.args) > i + 1 else n.kwargs.get(name, default)
        for i, (name, default) in enumerate(zip(names, (0, -1), strict=True))
    )
    bounds: list[Any] = [start, end]
    first, last = (i % len(old) for i in bounds)
    behind = len(old) - last - 1
    pairs = [*zip(new[:first], old[:first], strict=True)]
    if behind:
        pairs += zip(new[-behind:], old[-behind:], strict=True)
    return [Equality(*pair) for pair in pairs]


@register_algebraic_expressions_inference_rule(torch.nn.Conv2d)
def conv_rule(n: Node, module_instance: Any) -> TensorType | None:
    """Height and width as expressions of the input's."""
    both = _dims_of_both(n)
    if both is None:
        return None
    given, result = both
    moved = (calculate_out_dimension(given[2 + i], module_instance, i) for i in (0, 1))
    n.type = TensorType((*result[:2], *moved))
    return n.type


class Refine:
    """Symbolic inference: variables for what is unknown, and which of them are equal.

    Args:
        traced: a GraphModule that was type-checked.

    Attributes:
        constraints: the equalities, in the order of the graph.
    """

    def __init__(self, traced: GraphModule) -> None:
        self.constraints: list[Equality] = []
        self.traced = traced
        self.symbol_iter = itertools.count()

    def refine(self) -> bool:
        """Collect the equalities of all nodes; returns True."""
        for node in graph_of(self.traced).nodes:
            self.refine_node(node)
        return True

    def symbolic_relations(self) -> bool:
        """Write sizes as expressions of sympy symbols where they are computed; returns True."""
        for node in graph_of(self.traced).nodes:
            self.infer_symbolic_relations(node)
        return True

    def replace_dyn_with_fresh_var(self, typ: Any) -> Any:
        """A type with a new variable in place of every ``Dyn``."""
        return _mapped(typ, lambda t: Var(next(self.symbol_iter)) if t == Dyn else t)

    def convert_to_sympy_symbols(self, typ: Any) -> Any:
        """A type with a sympy symbol in place of every variable."""
        return _mapped(typ, lambda t: sympy.Symbol(str(t)) if isinstance(t, Var) else t)

    def refine_node(self, n: Node) -> Any:
        """Put variables into one node's type, and collect its equalities."""
        if n.type is None:
            n.type = Dyn
        n.type = self.replace_dyn_with_fresh_var(n.type)
        if n.op in ("call_function", "call_method", "call_module"):
            module = self.traced.get_submodule(str(n.target)) if n.op == "call_module" else None
            own = _REFINEMENT.get(n.target if module is None else type(module))
            self.constraints += own(n) if own is not None else self._from_table(n)
        elif n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
        return n.type

    def _from_table(self, n: Node) -> list[Equality]:
        """What the table's rule makes equal, with sizes known only by which they are."""
        rule, module = lookup(n, self.traced)
        if rule is None or not isinstance(n.type, TensorType):
            return []
        written: dict[int, Any] = {}
        found: list[Equality] = []

        def dimension(size: Dim) -> Any:
            return written.get(id(size)) if isinstance(size, Size) else size

        def demanded(a: Dim, b: Dim) -> None:
            one, other = dimension(a), dimension(b)
            if one is not None and other is not None:
                found.append(Equality(one, other))

        domain = OpaqueDomain(demanded)
        kept: list[Size] = []  # ids are of living objects

        def value(node: Node) -> Any:
            if not isinstance(node.type, TensorType):
                return UNKNOWN
            sizes: list[Dim] = []
            for dim in node.type.dims:
                size: Dim = dim if isinstance(dim, int) else Size(domain, None)
                if isinstance(size, Size):
                    written[id(size)] = dim
                    kept.append(size)
                sizes.append(size)
            return Shape(sizes)

        result = rule(domain, *_with_values(n, value), module)
        if isinstance(result, Shape) and len(result) == len(n.type.dims):
            for size, dim in zip(result, n.type.dims, strict=True):
                given = dimension(size)
                if given is not None and (given != dim or isinstance(given, Var)):
                    found.append(Equality(given, dim))
        return found

    def infer_symbolic_relations(self, n: Node) -> Any:
        """Write one node's type with sympy, sizes as expressions where its rule computes them."""
        n.type = self.convert_to_sympy_symbols(n.type)
        if n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
        elif n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            if type(module) in _ALGEBRAIC:
                return _ALGEBRAIC[type(module)](n, module)
        elif n.op == "call_function" and n.target in _ALGEBRAIC:
            return _ALGEBRAIC[n.target](n)
        return n.type


def _mapped(typ: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(typ, TensorType):
        return TensorType(tuple(_mapped(dim, leaf) for dim in typ.dims))
    if isinstance(typ, (tuple, list)):
        return type(typ)(_mapped(part, leaf) for part in typ)
    return leaf(typ)

"""The constraints of a program: for each node of its graph, how its type follows from others.

`ConstraintGenerator` walks the graph. The operators that gradual typing began with have inference
rules of their own here, in the composite constraints of `constraint`; every other operator is
typed from the table of `symfx.shape_rules` by a `Typing` constraint. An operator that neither
knows is typed ``Dyn``, and its name is kept.

A rule takes a node, the module it calls (rules of modules only), the variable of each node so far,
the constraints so far, and the number last given to a variable. It enters the variable of its node
and returns its constraints and the new number. The numbers of the nodes' variables are PyTorch's:
they do not depend on the bound on ranks.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F_
from torch.fx import Graph, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintD,
    BinConstraintT,
    CalcConv,
    CalcMaxPool,
    CalcProduct,
    CanReshape,
    Conj,
    Constraint,
    DGreatestUpperBound,
    Disj,
    DVar,
    F,
    GetItem,
    GetItemTensor,
    IndexSelect,
    T,
    TGreatestUpperBound,
    Transpose,
    TVar,
)
from symfx.migrate_gradual_types.operation import (
    op_add,
    op_consistency,
    op_div,
    op_eq,
    op_gt,
    op_leq,
    op_lt,
    op_matching,
    op_mul,
    op_neq,
    op_precision,
    op_sub,
)
from symfx.migrate_gradual_types.typing_rule import generate_typing, outputs_of
from symfx.migrate_gradual_types.util import (
    gen_bvar,
    gen_dvar,
    gen_nat_constraints,
    gen_tensor_dims,
    gen_tvar,
)
from symfx.shape_rules.errors import GradualError, RankBoundError
from symfx.shape_rules.graphs import annotation_of, graph_of, is_shape, parameter_of, where_of
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.table import lookup

__all__ = [
    "ConstraintGenerator",
    "adaptive_inference_rule",
    "add_layer_norm_constraints",
    "add_linear_constraints",
    "arange_inference_rule",
    "assert_inference_rule",
    "batchnorm_inference_rule",
    "bmm_inference_rule",
    "broadcasting_inference_rule",
    "conv2d_inference_rule",
    "cumsum_inference_rule",
    "embedding_inference_rule",
    "embedding_inference_rule_functional",
    "eq_inference_rule",
    "equality_inference_rule",
    "expand_inference_rule",
    "flatten_inference_rule",
    "full_inference_rule",
    "gen_broadcasting_constraints",
    "gen_embedding_rules",
    "gen_layer_norm_constraints",
    "generate_flatten_constraints",
    "get_attr_inference_rule",
    "getitem_inference_rule",
    "gt_inference_rule",
    "index_select_inference_rule",
    "layer_norm_functional",
    "layer_norm_inference_rule",
    "linear_constraints",
    "linear_inference_rule",
    "lt_inference_rule",
    "masked_fill_inference_rule",
    "maxpool_inference_rule",
    "neq_inference_rule",
    "range_check",
    "register_inference_rule",
    "relu_inference_rule",
    "reshape_inference_rule",
    "size_inference_rule",
    "tensor_inference_rule",
    "torch_dim_inference_rule",
    "torch_linear_inference_rule",
    "transpose_inference_rule",
    "type_inference_rule",
    "view_inference_rule",
]

#: The variable of each node: of a tensor, a size or a condition.
Symbols: TypeAlias = dict[Node, Any]
_Result: TypeAlias = tuple[list[Constraint], int]
_R = TypeVar("_R", bound=Callable[..., Any])
_RULES: dict[Any, Callable[..., _Result]] = {}
#: The ranks whose dimensions are numbered; those of other ranks are named.
_NUMBERED = range(1, 5)


def register_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the inference rule of an operator.

    Args:
        call_target: a function, the name of a method, or a class of modules.

    Raises:
        GradualError: the operator has a rule here.
    """

    def register(function: _R) -> _R:
        if call_target in _RULES:
            raise GradualError(
                f"{call_target} has an inference rule already",
                where=f"the rule {getattr(function, '__name__', function)}",
            )
        _RULES[call_target] = function
        return function

    return register


class NotCovered(Exception):
    """A rule does not apply to this use of its operator; the table may."""


# -- words for what follows ----------------------------------------------------------------------


def _type_is(tensor: Any, is_: Any) -> BinConstraintT:
    return BinConstraintT(tensor, TensorType(is_) if isinstance(is_, list) else is_, op_eq)


def _both_unknown(*tensors: Any) -> Conj:
    return Conj([_type_is(tensor, Dyn) for tensor in tensors])


def _argument(n: Node, position: int, name: str, default: Any = None) -> Any:
    return n.args[position] if len(n.args) > position else n.kwargs.get(name, default)


def _tensor(symbols: Symbols, node: Any) -> TVar:
    """The variable of an argument that must be a tensor."""
    found = symbols.get(node) if isinstance(node, Node) else None
    if not isinstance(found, TVar):
        raise NotCovered
    return found


def _dimension(symbols: Symbols, value: Any) -> Any:
    """The variable of a size, or a number."""
    found = symbols.get(value) if isinstance(value, Node) else value
    if isinstance(found, bool) or not (isinstance(found, (DVar, int)) or found == Dyn):
        raise NotCovered
    return found


def _new_tensor(n: Node, symbols: Symbols, counter: int) -> tuple[TVar, int]:
    symbols[n], counter = gen_tvar(counter)
    return symbols[n], counter


def _dims_by_rank(
    counter: int, lists: int = 1, least: int = 0
) -> tuple[Iterator[tuple[int, list[list[DVar]]]], int]:
    """For every rank, so many lists of that many fresh dimensions; and the new number."""
    cases: list[tuple[int, list[list[DVar]]]] = []
    name = counter
    for rank in range(least, get_max_rank() + 1):
        if rank not in _NUMBERED:
            made = [[DVar(f"{name}r{rank}.{j}.{i}") for i in range(rank)] for j in range(lists)]
        else:
            made = []
            for _ in range(lists):
                dims, counter = gen_tensor_dims(rank, counter)
                made.append(dims)
        cases.append((rank, made))
    # A bound below 4 leaves no gaps either: the next node has the number it always has.
    counter += lists * sum(rank for rank in _NUMBERED if rank > get_max_rank())
    return iter(cases), counter


def _case(tensors: Sequence[tuple[Any, list[Any]]], *demands: Constraint) -> Conj:
    """Tensors with these dimensions, none of them negative, and what else holds."""
    types = [_type_is(tensor, dims) for tensor, dims in tensors]
    named = {dim: None for _, dims in tensors for dim in dims if isinstance(dim, DVar)}
    return Conj([*types, *demands, *gen_nat_constraints(named)])


# -- operators that keep the shape ------------------------------------------------------------


@register_inference_rule(F_.gelu)
@register_inference_rule(F_.dropout)
@register_inference_rule(F_.softmax)
@register_inference_rule("detach")
@register_inference_rule("to")
@register_inference_rule("int")
@register_inference_rule("long")
@register_inference_rule("contiguous")
@register_inference_rule(torch.ones)
@register_inference_rule(torch.zeros)
def equality_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the input's shape; for ``torch.ones(a, b)`` the arguments are the shape."""
    sizes = n.args
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if n.args and isinstance(n.args[0], Node) and isinstance(symbols.get(n.args[0]), TVar):
        if n.target in (torch.ones, torch.zeros) and n.args[0] in _shapes(symbols):
            raise NotCovered
        given = symbols[n.args[0]]
        output, counter = _new_tensor(n, symbols, counter)
        return [_type_is(given, output)], counter
    if n.target not in (torch.ones, torch.zeros) or not sizes:
        raise NotCovered
    dims = [_dimension(symbols, size) for size in sizes]
    output, counter = _new_tensor(n, symbols, counter)
    return [_type_is(output, dims)], counter


def _shapes(symbols: Symbols) -> set[Node]:
    """The nodes whose value is the shape of a tensor, not the tensor."""
    return {node for node in symbols if is_shape(node)}


@register_inference_rule(torch.nn.Dropout)
@register_inference_rule(torch.nn.ReLU)
def relu_inference_rule(
    n: Node,
    module_instance: torch.nn.Module,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """The output has the input's type."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    output, counter = _new_tensor(n, symbols, counter)
    return [_type_is(given, output)], counter


@register_inference_rule("type_as")
def type_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the second tensor's type, with which the first is consistent."""
    given, other = (_tensor(symbols, arg) for arg in n.args[:2])
    output, counter = _new_tensor(n, symbols, counter)
    return [BinConstraintT(given, other, op_consistency), _type_is(output, other)], counter


@register_inference_rule(torch.cumsum)
def cumsum_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the input's type, which must have the dimension that is summed along."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    along = _argument(n, 1, "dim")
    if not isinstance(along, int):
        raise NotCovered
    output, counter = _new_tensor(n, symbols, counter)
    ranks, counter = _dims_by_rank(counter)
    cases = [
        _case([(given, dims), (output, dims)], range_check(along, max(rank, 1)))
        for rank, [dims] in ranks
    ]
    return [Disj([_both_unknown(given, output), Disj(cases)])], counter


def range_check(i: int, n: int) -> T | F:
    """Whether `i` counts a dimension of a tensor of rank `n`, from the front or the back."""
    return T() if -n <= i < n else F()


@register_inference_rule(F_.layer_norm)
def layer_norm_functional(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the input's type; its last dimensions are those that are normalised."""
    shape = _argument(n, 1, "normalized_shape")
    if not isinstance(shape, (tuple, list)) or not all(isinstance(s, int) for s in shape):
        raise NotCovered
    return gen_layer_norm_constraints(n, shape, symbols, counter)


@register_inference_rule(torch.nn.LayerNorm)
def layer_norm_inference_rule(
    n: Node,
    module_instance: torch.nn.LayerNorm,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """As `layer_norm_functional`, of a module."""
    return gen_layer_norm_constraints(n, module_instance.normalized_shape, symbols, counter)


def gen_layer_norm_constraints(
    n: Node, normalized_shape: Sequence[int], symbols: Symbols, counter: int
) -> _Result:
    """The constraints of a layer normalisation over these last dimensions."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    output, counter = _new_tensor(n, symbols, counter)
    ranks, counter = _dims_by_rank(counter)
    cases = [
        _case(
            [(given, dims), (output, dims)],
            *add_layer_norm_constraints(dims, list(normalized_shape)),
        )
        for _, [dims] in ranks
    ]
    return [Disj([_both_unknown(given, output), Disj(cases)])], counter


def add_layer_norm_constraints(
    input_dim: Sequence[Any], normalized_dim: Sequence[int]
) -> list[Constraint]:
    """The last dimensions of a tensor are consistent with those that are normalised."""
    if len(normalized_dim) > len(input_dim):
        return [F()]
    last = zip(reversed(input_dim), reversed(normalized_dim), strict=False)
    return [BinConstraintD(dim, size, op_consistency) for dim, size in last]


# -- linear maps -----------------------------------------------------------------------------


@register_inference_rule(torch.nn.Linear)
def linear_inference_rule(
    n: Node,
    module_instance: torch.nn.Linear,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """The last dimension goes from `in_features` to `out_features`."""
    features = module_instance.in_features, module_instance.out_features
    return linear_constraints(n, *features, symbols, counter)


@register_inference_rule(torch._C._nn.linear)
def torch_linear_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """As `linear_inference_rule`, of a weight: it has the features as its two dimensions."""
    weight = _tensor(symbols, _argument(n, 1, "weight"))
    [out, in_], counter = gen_tensor_dims(2, counter)
    linear, counter = linear_constraints(n, in_, out, symbols, counter)
    return [_type_is(weight, [out, in_]), *linear], counter


def linear_constraints(
    n: Node, in_features: Any, out_features: Any, symbols: Symbols, counter: int
) -> _Result:
    """The constraints of a linear map of the last dimension."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    output, counter = _new_tensor(n, symbols, counter)
    ranks, counter = _dims_by_rank(counter, lists=2, least=1)
    cases = [
        _case(
            [(given, dims), (output, mapped)],
            *add_linear_constraints(dims, mapped, in_features, out_features),
        )
        for _, [dims, mapped] in ranks
    ]
    return [Disj([_both_unknown(given, output), Disj(cases)])], counter


def add_linear_constraints(
    dims1: Sequence[Any], dims2: Sequence[Any], in_features: Any, out_features: Any
) -> list[Constraint]:
    """All dimensions but the last are equal; that is consistent with the features.

    Raises:
        GradualError: the two have different ranks.
    """
    if len(dims1) != len(dims2):
        raise GradualError(
            f"a linear map keeps the rank, but {dims1} has {len(dims1)} dimensions and {dims2} "
            f"has {len(dims2)}",
            fix="give as many dimensions for the output as for the input",
        )
    *batch, last = zip(dims1, dims2, strict=True)
    return [
        *(BinConstraintD(one, other, op_eq) for one, other in batch),
        BinConstraintD(last[0], in_features, op_consistency),
        BinConstraintD(last[1], out_features, op_eq),
    ]


@register_inference_rule(torch.bmm)
def bmm_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Two tensors of rank 3: batches agree, as do the columns of one and the rows of the other."""
    one, other = (
        _tensor(symbols, _argument(n, i, name)) for i, name in ((0, "input"), (1, "mat2"))
    )
    output, counter = _new_tensor(n, symbols, counter)
    a, counter = gen_tensor_dims(3, counter)
    b, counter = gen_tensor_dims(3, counter)
    batch, counter = gen_dvar(counter)
    known = Conj(
        [
            _type_is(one, a),
            _type_is(other, b),
            _type_is(output, [batch, a[1], b[2]]),
            BinConstraintD(a[0], b[0], op_consistency),
            BinConstraintD(a[2], b[1], op_consistency),
            DGreatestUpperBound(batch, a[0], b[0]),
        ]
    )
    return [
        Disj(
            [
                _both_unknown(one, other, output),
                Conj([_type_is(one, Dyn), _type_is(other, b), _type_is(output, [b[0], Dyn, b[2]])]),
                Conj([_type_is(other, Dyn), _type_is(one, a), _type_is(output, [a[0], a[1], Dyn])]),
                known,
            ]
        )
    ], counter


@register_inference_rule(F_.embedding)
def embedding_inference_rule_functional(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the input's dimensions and the width of the weight."""
    weight = _tensor(symbols, _argument(n, 1, "weight"))
    dims, counter = gen_tensor_dims(2, counter)
    looked_up, counter = gen_embedding_rules(n, symbols, dims[1], counter)
    return [_type_is(weight, dims), *looked_up], counter


@register_inference_rule(torch.nn.Embedding)
def embedding_inference_rule(
    n: Node,
    module_instance: torch.nn.Embedding,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """As `embedding_inference_rule_functional`, of a module."""
    return gen_embedding_rules(n, symbols, module_instance.embedding_dim, counter)


def gen_embedding_rules(n: Node, symbols: Symbols, embedding_dim: Any, counter: int) -> _Result:
    """The constraints of looking rows of this width up."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    output, counter = _new_tensor(n, symbols, counter)
    name, cases = counter, []
    for rank in range(get_max_rank()):
        if rank in _NUMBERED[:3]:
            dims, counter = gen_tensor_dims(rank, counter)
        else:
            dims = [DVar(f"{name}r{rank}.{i}") for i in range(rank)]
        cases.append(_case([(given, dims), (output, [*dims, embedding_dim])]))
    return [Disj([_both_unknown(given, output), Disj(cases)])], counter


# -- windows -----------------------------------------------------------------------------------


def _images(
    n: Node, symbols: Symbols, counter: int
) -> tuple[TVar, TVar, list[DVar], list[Constraint], int]:
    """A tensor that is unknown or has four dimensions, and the variable of the result."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    output, counter = _new_tensor(n, symbols, counter)
    dims, counter = gen_tensor_dims(4, counter)
    return given, output, dims, [BinConstraintT(given, TensorType(dims), op_matching)], counter


@register_inference_rule(torch.nn.Conv2d)
def conv2d_inference_rule(
    n: Node,
    module_instance: torch.nn.Conv2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """The channels are the convolution's; a window moves over the last two dimensions."""
    m = module_instance
    if isinstance(m.padding, str):
        raise NotCovered
    given, output, dims, matching, counter = _images(n, symbols, counter)
    window = (m.kernel_size, m.padding, m.stride, m.dilation)
    return [
        *matching,
        BinConstraintD(m.in_channels, dims[1], op_consistency),
        CalcConv(output, given, m.out_channels, *window, dims),
        *gen_nat_constraints(dims),
    ], counter


@register_inference_rule(torch.nn.MaxPool2d)
def maxpool_inference_rule(
    n: Node,
    module_instance: torch.nn.MaxPool2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """A window moves over the last two dimensions."""
    m = module_instance
    if m.ceil_mode or m.return_indices:
        raise NotCovered
    given, output, dims, matching, counter = _images(n, symbols, counter)
    window = (m.kernel_size, m.padding, m.stride, m.dilation)
    pooled = CalcMaxPool(output, given, *window, dims)
    return [*matching, pooled, *gen_nat_constraints(dims)], counter


@register_inference_rule(torch.nn.AdaptiveAvgPool2d)
def adaptive_inference_rule(
    n: Node,
    module_instance: torch.nn.AdaptiveAvgPool2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """The last two dimensions become what the module says; ``None`` leaves one as it is."""
    _, output, dims, matching, counter = _images(n, symbols, counter)
    size: Any = module_instance.output_size
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    last = [dim if given_ is None else given_ for dim, given_ in zip(dims[2:], pair, strict=True)]
    return [*matching, _type_is(output, [*dims[:2], *last]), *gen_nat_constraints(dims)], counter


@register_inference_rule(torch.nn.BatchNorm2d)
def batchnorm_inference_rule(
    n: Node,
    module_instance: torch.nn.BatchNorm2d,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> _Result:
    """The output has the input's type; its channels are those that the module has statistics of."""
    given, output, dims, matching, counter = _images(n, symbols, counter)
    channels = BinConstraintD(dims[1], module_instance.num_features, op_consistency)
    return [
        *matching,
        Conj([_type_is(given, output), channels]),
        *gen_nat_constraints(dims),
    ], counter


# -- shapes rearranged ----------------------------------------------------------------------------


@register_inference_rule("transpose")
def transpose_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Two dimensions change places."""
    given = _tensor(symbols, n.args[0])
    one, other = _argument(n, 1, "dim0"), _argument(n, 2, "dim1")
    if not isinstance(one, int) or not isinstance(other, int):
        raise NotCovered
    output, counter = _new_tensor(n, symbols, counter)
    cases = [Transpose(r, given, one, other, output) for r in range(1, get_max_rank() + 1)]
    return [Disj([_both_unknown(given, output), Disj(cases)])], counter


@register_inference_rule("index_select")
def index_select_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """One dimension becomes as long as the vector of indices."""
    given = _tensor(symbols, n.args[0])
    along, indices = _argument(n, 1, "dim"), _tensor(symbols, _argument(n, 2, "index"))
    if not isinstance(along, int):
        raise NotCovered
    output, counter = _new_tensor(n, symbols, counter)
    [length], counter = gen_tensor_dims(1, counter)

    def selected(by: Any) -> Disj:
        every = range(1, get_max_rank() + 1)
        return Disj([IndexSelect(rank, given, by, along, output) for rank in every])

    cases = [
        Conj([_type_is(indices, [length]), selected(length)]),
        Conj([_type_is(indices, Dyn), selected(Dyn)]),
        # An unknown tensor of which rows are selected stays unknown.
        Conj([_both_unknown(given, output), Disj([_type_is(indices, t) for t in ([length], Dyn)])]),
    ]
    return [Disj(cases)], counter


@register_inference_rule(torch.flatten)
def flatten_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """A run of dimensions becomes their product."""
    given = _tensor(symbols, _argument(n, 0, "input"))
    start, end = _argument(n, 1, "start_dim", 0), _argument(n, 2, "end_dim", -1)
    if not isinstance(start, int) or not isinstance(end, int):
        raise NotCovered
    output, counter = _new_tensor(n, symbols, counter)
    ranks, counter = _dims_by_rank(counter)
    cases: list[Constraint] = []
    for rank, [dims] in ranks:
        if rank:
            cases.append(_flattened(start, end, given, output, dims))
        elif {start, end} <= {0, -1}:
            cases.append(Conj([_type_is(given, []), _type_is(output, [1])]))
    return [Disj([_both_unknown(given, output), *cases])], counter


def generate_flatten_constraints(
    start_dim: int, end_dim: int, input: TVar, flattened: TVar, n: int, counter: int
) -> tuple[Conj, int]:
    """The constraints of flattening a tensor of rank `n` from one dimension to another."""
    dims, counter = gen_tensor_dims(n, counter)
    return _flattened(start_dim, end_dim, input, flattened, dims), counter


def _flattened(start: int, end: int, given: TVar, output: TVar, dims: list[DVar]) -> Conj:
    rank = len(dims)
    first, last = (i + rank if i < 0 else i for i in (start, end))
    product = CalcProduct(first, last + 1, output, dims)
    return Conj([_type_is(given, dims), product, *gen_nat_constraints(dims)])


@register_inference_rule(torch.reshape)
def reshape_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the shape that is asked for; -1 in it is unknown."""
    target = _argument(n, 1, "shape")
    if not isinstance(target, (tuple, list)):
        raise NotCovered
    given = _tensor(symbols, _argument(n, 0, "input"))
    dims = [Dyn if size == -1 else _dimension(symbols, size) for size in target]
    _within_bound(len(dims), n)
    output, counter = _new_tensor(n, symbols, counter)
    return [_type_is(output, dims), CanReshape(given, TensorType(dims))], counter


@register_inference_rule("reshape")
@register_inference_rule("view")
def view_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the shape that is asked for; -1 in it is what remains."""
    given = _tensor(symbols, n.args[0])
    sizes = n.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if n.kwargs or any(isinstance(size, torch.dtype) for size in sizes):
        raise NotCovered
    wanted = [None if size == -1 else _dimension(symbols, size) for size in sizes]
    _within_bound(len(wanted), n)
    output, counter = _new_tensor(n, symbols, counter)
    dims: list[Any] = []
    for asked in wanted:
        remaining, counter = gen_dvar(counter) if asked is None else (asked, counter)
        dims.append(remaining)
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in dims]
    return [_type_is(output, dims), CanReshape(given, TensorType(dims)), *known], counter


@register_inference_rule("expand")
def expand_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output is the input broadcast to the shape that is asked for, and has its rank."""
    given = _tensor(symbols, n.args[0])
    sizes = n.args[1:]
    if (
        n.kwargs
        or not sizes
        or any(size == -1 or not isinstance(size, (Node, int)) for size in sizes)
    ):
        raise NotCovered
    wanted = [_dimension(symbols, size) for size in sizes]
    output, counter = _new_tensor(n, symbols, counter)
    shape, counter = gen_tvar(counter)
    broadcast, counter = gen_broadcasting_constraints(given, shape, symbols, counter, output)
    dims, counter = gen_tensor_dims(len(wanted), counter)
    return [
        *broadcast,
        _type_is(output, dims),
        *gen_nat_constraints(dims),
        _type_is(shape, wanted),
        *gen_nat_constraints(dim for dim in wanted if isinstance(dim, DVar)),
    ], counter


# -- broadcasting ----------------------------------------------------------------------------


def gen_broadcasting_constraints(
    e1: TVar, e2: TVar, symbols: Symbols, counter: int, output_var: TVar
) -> _Result:
    """The output is what two tensors broadcast to: stretched, they are consistent."""
    one, counter = gen_tvar(counter)
    other, counter = gen_tvar(counter)
    return [
        TGreatestUpperBound(output_var, one, other),
        ApplyBroadcasting(one, other, e1, e2),
        BinConstraintT(one, other, op_consistency),
    ], counter


@register_inference_rule(operator.mul)
@register_inference_rule(torch.ne)
@register_inference_rule("ne")
@register_inference_rule(torch.add)
@register_inference_rule(operator.add)
def broadcasting_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Two tensors broadcast; a tensor and a number have the tensor's type; sizes compute."""
    if len(n.args) < 2:
        raise NotCovered
    sides = [symbols.get(arg) if isinstance(arg, Node) else arg for arg in n.args[:2]]
    tensors = [side for side in sides if isinstance(side, TVar)]
    if any(isinstance(arg, Node) and is_shape(arg) for arg in n.args[:2]):
        raise NotCovered
    if len(tensors) == 2:
        output, counter = _new_tensor(n, symbols, counter)
        return gen_broadcasting_constraints(tensors[0], tensors[1], symbols, counter, output)
    if len(tensors) == 1 and any(isinstance(side, (int, float)) for side in sides):
        output, counter = _new_tensor(n, symbols, counter)
        return [_type_is(output, tensors[0])], counter
    sizes = [side for side in sides if isinstance(side, (DVar, int))]
    signs = {operator.mul: op_mul, operator.add: op_add, torch.add: op_add}
    if tensors or len(sizes) != 2 or n.target not in signs:
        raise NotCovered
    variables_first = sorted(sizes, key=lambda size: isinstance(size, int))
    symbols[n], counter = gen_dvar(counter)
    value = BinConstraintD(variables_first[0], variables_first[1], signs[n.target])
    return [_computed(symbols[n], value, sizes)], counter


def _computed(result: DVar, value: BinConstraintD, parts: Sequence[Any]) -> Conj:
    """A size that is computed: known where its parts are, and no negative number."""
    variables = [part for part in parts if isinstance(part, DVar)]
    unknown = Disj([BinConstraintD(part, Dyn, op_eq) for part in variables])
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in (*variables, result)]
    return Conj(
        [
            BinConstraintD(0, result, op_leq),
            Disj(
                [
                    Conj([unknown, BinConstraintD(result, Dyn, op_eq)]),
                    Conj([*known, BinConstraintD(result, value, op_eq)]),
                ]
            ),
        ]
    )


@register_inference_rule("masked_fill_")
def masked_fill_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output is what the tensor and the mask broadcast to."""
    given, mask = _tensor(symbols, n.args[0]), _tensor(symbols, _argument(n, 1, "mask"))
    output, counter = _new_tensor(n, symbols, counter)
    return gen_broadcasting_constraints(given, mask, symbols, counter, output)


# -- sizes, and what is made of them -----------------------------------------------------------


@register_inference_rule(getattr)
def get_attr_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """``x.device`` stands for the tensor; ``x.shape`` has its type."""
    if n.args[1] not in ("device", "shape"):
        raise NotCovered
    given = _tensor(symbols, n.args[0])
    output, counter = _new_tensor(n, symbols, counter)
    return [_type_is(given, output)], counter


@register_inference_rule("size")
def size_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """``x.size()`` has the tensor's type, ``x.size(0)`` is one of its dimensions."""
    given = _tensor(symbols, n.args[0])
    index = _argument(n, 1, "dim")
    if index is None:
        output, counter = _new_tensor(n, symbols, counter)
        return [_type_is(given, output)], counter
    if not isinstance(index, int):
        raise NotCovered
    return _one_dimension(n, given, index, symbols, counter)


def _one_dimension(n: Node, given: TVar, index: int, symbols: Symbols, counter: int) -> _Result:
    symbols[n], counter = gen_dvar(counter)
    size = symbols[n]
    ranks = range(1, get_max_rank() + 1)
    picked = Disj([GetItem(rank, index, size, given) for rank in ranks])
    unknown = Conj([_type_is(given, Dyn), BinConstraintD(size, Dyn, op_eq)])
    return [Disj([unknown, Conj([picked, BinConstraintD(0, size, op_leq)])])], counter


@register_inference_rule(operator.getitem)
def getitem_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Of a shape one dimension; of a tensor, by a tuple, what the index leaves of it."""
    source, index = n.args
    given = _tensor(symbols, source)
    assert isinstance(source, Node)
    if isinstance(index, int):
        if not is_shape(source) and source.op != "placeholder":
            raise NotCovered
        if isinstance(source.type, TensorType) and not is_shape(source):
            raise NotCovered  # a row of a tensor
        return _one_dimension(n, given, index, symbols, counter)
    plain = (type(None), slice, int, type(Ellipsis))
    if not isinstance(index, tuple) or is_shape(source) or n.all_input_nodes != [source]:
        raise NotCovered
    if not all(isinstance(entry, plain) for entry in index):
        raise NotCovered
    output, counter = _new_tensor(n, symbols, counter)
    ranks = range(get_max_rank() + 1)
    cases = [GetItemTensor(rank, index, output, given) for rank in ranks]
    return [Disj([_both_unknown(given, output), *cases])], counter


@register_inference_rule("dim")
def torch_dim_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The rank of a tensor."""
    given = _tensor(symbols, n.args[0])
    symbols[n], counter = gen_dvar(counter)
    rank_of = symbols[n]
    ranks, counter = _dims_by_rank(counter)
    cases = [
        Conj([_type_is(given, dims), BinConstraintD(rank_of, rank, op_eq)])
        for rank, [dims] in ranks
    ]
    unknown = Conj([_type_is(given, Dyn), BinConstraintD(rank_of, Dyn, op_eq)])
    return [Disj([unknown, Disj(cases)])], counter


@register_inference_rule(torch.tensor)
def tensor_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """A tensor of data that stands in the program: a number makes one of rank 0.

    A number takes part in arithmetic as numbers do, so it gets no variable and no constraint.
    """
    return [], counter


@register_inference_rule(torch.full)
def full_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """The output has the shape that is asked for."""
    sizes = _argument(n, 0, "size")
    if not isinstance(sizes, (tuple, list)):
        raise NotCovered
    dims = [_dimension(symbols, size) for size in sizes]
    output, counter = _new_tensor(n, symbols, counter)
    return [_type_is(output, dims)], counter


@register_inference_rule(torch.arange)
def arange_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """A vector as long as the number of steps."""
    if len(n.args) != 1 or {"start", "end", "step"} & set(n.kwargs):
        raise NotCovered
    end = _dimension(symbols, n.args[0])
    length, counter = gen_dvar(counter)
    output, counter = _new_tensor(n, symbols, counter)
    steps = BinConstraintD(BinConstraintD(end, 0, op_sub), 1, op_div)
    unknown = [BinConstraintD(dim, Dyn, op_eq) for dim in (end, length)]
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in (end, length)]
    return [
        _type_is(output, [length]),
        Disj([Conj(unknown), Conj([*known, BinConstraintD(length, steps, op_eq)])]),
    ], counter


# -- conditions -------------------------------------------------------------------------------


@register_inference_rule(operator.gt)
def gt_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Of sizes a condition; of tensors the type that they broadcast to."""
    return _comparison(n, symbols, counter, op_gt)


@register_inference_rule(operator.lt)
def lt_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Of sizes a condition; of tensors the type that they broadcast to."""
    return _comparison(n, symbols, counter, op_lt)


@register_inference_rule(operator.eq)
def eq_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """Of sizes a condition; of tensors the type that they broadcast to."""
    return _comparison(n, symbols, counter, op_eq)


def _comparison(n: Node, symbols: Symbols, counter: int, op: str) -> _Result:
    sides = [symbols.get(arg) if isinstance(arg, Node) else arg for arg in n.args]
    left, right = sides
    if isinstance(left, TVar) and isinstance(right, TVar):
        if any(is_shape(arg) for arg in n.all_input_nodes):
            raise NotCovered
        output, counter = _new_tensor(n, symbols, counter)
        return gen_broadcasting_constraints(left, right, symbols, counter, output)
    argument = n.args[0]
    if not isinstance(argument, Node):
        raise NotCovered
    ends_here = all(user.op == "output" for user in n.users)
    if isinstance(left, TVar) and isinstance(right, int) and op == op_gt and ends_here:
        # What nothing else uses is a condition in a branch: the argument was a size after all.
        warnings.warn(
            f"{argument} is compared with {right} in node {n}: it is taken for a size from here "
            "on, not for a tensor",
            stacklevel=2,
        )
        left, counter = gen_dvar(counter)
        symbols[argument] = left
    if not isinstance(left, DVar) or not isinstance(right, (DVar, int)):
        raise NotCovered
    symbols[n], counter = gen_bvar(counter)
    return [BinConstraintD(symbols[n], BinConstraintD(left, right, op), op_eq)], counter


@register_inference_rule(operator.ne)
def neq_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """A shape is not the one that is written: the condition that a dimension differs.

    True where the tensor has the rank of the tuple and one of its known dimensions differs from
    what is written.
    """
    given, written = n.args
    if not isinstance(written, tuple):
        raise NotCovered
    tensor = _tensor(symbols, given)
    wanted = [_dimension(symbols, size) for size in written]
    dims, counter = gen_tensor_dims(4 if len(wanted) == 3 else len(wanted), counter)
    dims = dims[: len(wanted)]
    symbols[n], counter = gen_bvar(counter)
    differ = [
        Conj([BinConstraintD(a, b, op_neq) for a, b in ((one, Dyn), (dim, Dyn), (one, dim))])
        for one, dim in zip(wanted, dims, strict=True)
    ]
    condition = Conj([_type_is(tensor, dims), Disj(differ)])
    return [BinConstraintD(symbols[n], condition, op_eq)], counter


@register_inference_rule(torch.fx._symbolic_trace._assert_is_none)
def assert_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> _Result:
    """A check of the tracer's own says nothing of shapes.

    Raises:
        GradualError: something uses its result, which it has none of.
    """
    if n.users:
        raise GradualError(
            f"{next(iter(n.users)).name} uses {n.name}, which has no value", where=where_of(n)
        )
    return [], counter


def _within_bound(rank: int, node: Node) -> None:
    if rank > get_max_rank():
        raise RankBoundError(
            f"{node.name} has {rank} dimensions, the bound is {get_max_rank()}",
            where=where_of(node),
            fix=f"raise the bound: symfx.shape_rules.set_max_rank({rank})",
        )


# -- whole programs ---------------------------------------------------------------------------


class ConstraintGenerator:
    """Walks a graph and writes its constraints down.

    Args:
        traced: a GraphModule, or the root that is being traced.
        graph: the graph so far, where `traced` has none.

    Attributes:
        symbol_dict: the variable of each node.
        unknown_operators: what nothing is known of, and was typed ``Dyn``: node and name.
    """

    def __init__(self, traced: torch.nn.Module, graph: Graph | None = None) -> None:
        self.traced = traced
        self.traced_params = dict(traced.named_parameters())
        self.constraints: list[Constraint] = []
        self.symbol_dict: Symbols = {}
        self.unknown_operators: dict[Node, str] = {}
        found = getattr(traced, "graph", None)
        self.graph: Graph | None = found if isinstance(found, Graph) else graph

    def generate_constraints(self, counter: int = 0) -> tuple[Conj, int]:
        """Write down the constraints of all nodes.

        Args:
            counter: the number last given to a variable.

        Returns:
            Their conjunction, and the new number. They are kept in `constraints` as well.

        Raises:
            GradualError: there is no graph, or it is empty or cyclic.
            RankBoundError: an annotation has more dimensions than the bound allows.
        """
        self.constraints = []
        for node in graph_of(self.traced, self.graph).nodes:
            written, counter = self.generate_constraints_node(node, counter)
            self.constraints += written
        return Conj(self.constraints), counter

    def generate_constraints_node(self, n: Node, counter: int) -> _Result:
        """Write down the constraints of one node; those it uses come before it."""
        if n.op == "placeholder":
            return self._placeholder(n, counter)
        if n.op == "get_attr":
            return self._attribute(n, counter)
        if n.op == "output":
            return [], counter
        if n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            found, arguments = _RULES.get(type(module)), (n, module)
        else:
            found, arguments = _RULES.get(n.target), (n,)  # type: ignore[assignment]
        if found is not None:
            try:
                return found(*arguments, self.symbol_dict, self.constraints, counter)
            except NotCovered:
                self.symbol_dict.pop(n, None)
        return self._from_table(n, counter)

    def _placeholder(self, n: Node, counter: int) -> _Result:
        annotation: Any = annotation_of(n)
        if annotation is int:
            self.symbol_dict[n], counter = gen_dvar(counter)
            return [BinConstraintD(0, self.symbol_dict[n], op_leq)], counter
        if annotation is torch.nn.Parameter and "example_value" in n.meta:
            annotation = TensorType(tuple(n.meta["example_value"].size()))
        if not isinstance(annotation, TensorType):
            annotation = Dyn  # what says nothing of shapes: torch.Tensor, Optional, no annotation
        else:
            _within_bound(len(annotation.dims), n)
            for dim in annotation.dims:
                if dim != Dyn and (isinstance(dim, bool) or not isinstance(dim, int)):
                    raise GradualError(
                        f"{n.name} is annotated with {annotation}, where {dim!r} is no dimension",
                        where=f"the annotation of {n.name}",
                        fix="write an int or Dyn",
                    )
        tensor, counter = _new_tensor(n, self.symbol_dict, counter)
        precise = BinConstraintT(annotation, tensor, op_precision)
        return [precise, BinConstraintT(tensor, get_max_rank(), op_leq)], counter

    def _attribute(self, n: Node, counter: int) -> _Result:
        value = parameter_of(self.traced, str(n.target))
        if not isinstance(value, torch.Tensor) or not value.dim():
            return [], counter
        output, counter = _new_tensor(n, self.symbol_dict, counter)
        return [_type_is(output, [*value.shape])], counter

    def _from_table(self, n: Node, counter: int) -> _Result:
        entry, module = lookup(n, self.traced)
        if entry is None:
            name = (
                type(module).__qualname__
                if module is not None
                else n._pretty_print_target(n.target)
            )
            self.unknown_operators[n] = name
            self.symbol_dict[n], counter = outputs_of(n, counter)
            return [], counter
        return generate_typing(n, entry, module, self.symbol_dict, counter)

"""The dtypes of the values of a graph, as far as its operators and inputs tell them.

Some shapes depend on dtypes: a boolean tensor among indices is a mask, which selects by data;
``x.view(torch.int16)`` has two elements for each of a float32; class indices as targets of a loss
have another shape than probabilities.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.fx import Node

from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import parameter_of
from symfx.shape_rules.sizes import Shape

__all__ = [
    "FLOATING",
    "SHAPED_BY_DTYPE",
    "Call",
    "Element",
    "ElementTypes",
    "Known",
    "category",
    "operator_of",
    "promoted",
    "typed",
]

#: A dtype; the class of a number of the program; a tuple of these for several results; ``None``
#: for a value of unknown dtype.
Known: TypeAlias = Any


@dataclass(frozen=True)
class Element:
    """A value among the arguments of an operator.

    Args:
        dtype: its dtype, or the class of a number.
        rank: the rank of a tensor; ``None`` if it is unknown.
    """

    dtype: Known
    rank: int | None = None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operators whose result is boolean.
_BOOLEAN = _words(
    """
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ not_equal greater greater_equal less
    less_equal isnan isinf isfinite isposinf isneginf isreal isclose isin logical_not logical_and
    logical_or logical_xor signbit bool
    """
)
#: Operators whose result has the dtype of their first tensor.
_KEEPING = _words(
    """
    getitem view reshape _unsafe_view flatten unflatten ravel view_as reshape_as transpose swapaxes
    swapdims t adjoint permute movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to
    repeat tile repeat_interleave clone contiguous detach alias cpu cuda split chunk unbind
    tensor_split unsafe_split unsafe_chunk split_with_sizes select narrow slice index index_select
    gather take take_along_dim masked_select masked_fill masked_scatter tril triu flip fliplr flipud
    roll rot90 diagonal diag diag_embed unfold relu relu6 neg negative positive neg_ sign floor ceil
    round trunc pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d max_pool1d max_pool2d max_pool3d
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    lp_pool1d lp_pool2d lp_pool3d max_unpool1d max_unpool2d max_unpool3d interpolate upsample
    pixel_shuffle pixel_unshuffle channel_shuffle dropout dropout1d dropout2d dropout3d
    alpha_dropout gelu silu mish elu selu celu leaky_relu hardtanh hardswish hardsigmoid softplus
    softsign tanhshrink hardshrink softshrink logsigmoid rrelu threshold prelu glu layer_norm
    rms_norm group_norm batch_norm instance_norm local_response_norm normalize fold im2col col2im
    grid_sample grid_sampler_2d grid_sampler_3d affine_grid cummax cummin msort amax amin
    new_zeros new_ones new_empty new_full zeros_like ones_like empty_like rand_like randn_like
    full_like randint_like scatter scatter_add scatter_reduce index_copy index_add index_fill
    index_put index_reduce select_scatter slice_scatter diagonal_scatter square clip
    """
)
#: Operators whose result has the dtype to which their tensors are promoted.
_PROMOTING = _words(
    """
    add sub subtract mul multiply rsub floordiv floor_divide mod remainder fmod pow maximum minimum
    fmax fmin iadd isub imul ifloordiv imod ipow and_ or_ xor iand ior ixor invert not_ __and__
    __or__ __xor__ __invert__ bitwise_and bitwise_or bitwise_xor bitwise_not lshift rshift where
    lerp cat concat concatenate stack hstack vstack dstack column_stack row_stack addcmul clamp
    clamp_min clamp_max heaviside hypot gcd lcm outer ger inner mm bmm matmul __matmul__ mv dot
    vdot addmm
    baddbmm addmv addbmm addr einsum tensordot kron cross linear bilinear conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention
    """
)
#: As `_PROMOTING`; integers become floats of the default dtype.
FLOATING = _words(
    """
    truediv div divide true_divide itruediv exp exp2 expm1 log log10 log1p log2 sqrt rsqrt sin cos
    tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid reciprocal erf erfc erfinv lgamma
    digamma atan2 arctan2 logit sinc deg2rad rad2deg logsumexp softmax log_softmax softmin i0
    polygamma mvlgamma special_i0 xlogy
    """
)
#: Operators that add or multiply along dimensions: integers become int64.
_SUMMING = _words("sum nansum prod cumsum cumprod trace")
#: Operators whose result is indices.
_INDICES = _words(
    """
    argmax argmin argsort nonzero argwhere searchsorted bucketize multinomial randperm one_hot
    count_nonzero bincount histc_ tril_indices triu_indices
    """
)
#: Operators of which the first result keeps the dtype, and the second is indices.
_WITH_INDICES = _words(
    """
    max min sort topk kthvalue mode median nanmedian cummax cummin max_pool1d max_pool2d max_pool3d
    max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d
    """
)
#: Methods that cast, by name.
_CASTS = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "char": torch.int8,
    "byte": torch.uint8,
    "bool": torch.bool,
}
#: Functions that make tensors of the default dtype.
_MAKING = _words("zeros ones empty rand randn linspace logspace eye empty_strided hann_window")
#: Layers without weights that keep the dtype of their input, if it is a float.
_KEEPING_LAYERS = (nn.ReLU, nn.ReLU6, nn.Flatten, nn.Unflatten, nn.Identity)
#: Layers with several results.
_SEVERAL_RESULTS = (nn.RNNBase, nn.LSTMCell, nn.MultiheadAttention)
#: Python's operators that change their first operand.
_IN_PLACE = _words(
    "iadd isub imul ifloordiv imod ipow itruediv iand ior ixor setitem index_put copy"
)
#: Operators of which a boolean argument is an operand, and no setting.
_KEEPS_BOOL = _words("and_ or_ xor where fill add mul sub")
#: Of `FLOATING`, the operators of several operands.
_OF_SEVERAL = _words("truediv div divide true_divide itruediv atan2 arctan2 xlogy")
#: Operators whose results have other shapes for other dtypes of their arguments.
SHAPED_BY_DTYPE = _words(
    "getitem setitem index index_put view cross_entropy CrossEntropyLoss nll_loss NLLLoss"
)
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_COMPLEX = {real: whole for whole, real in _REAL.items()} | {whole: whole for whole in _REAL}


def operator_of(node: Node) -> str:
    """The name of the operator that a node calls, without namespace: ``add`` of ``x.add_(y)``."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def typed(value: Any, dtype: Known) -> Any:
    """A value of a graph with dtypes on its shapes."""
    if isinstance(value, Shape):
        return value.of(dtype) if isinstance(dtype, torch.dtype) else value
    if isinstance(value, dict) and isinstance(dtype, dict):
        return {key: typed(part, dtype.get(key)) for key, part in value.items()}
    if type(value) in (tuple, list):
        parts = dtype if isinstance(dtype, tuple) else (dtype,) * len(value)
        if len(parts) == len(value):
            return tuple(map(typed, value, parts))
    return value


def promoted(values: list[Element]) -> Known:
    """The dtype that an operator computes in; ``None`` if the known dtypes and ranks leave it open.

    Numbers, and tensors of rank 0, count less than other tensors of the same category.
    """
    tensors = [v for v in values if isinstance(v.dtype, torch.dtype)]
    numbers = [_NUMBERS[v.dtype]() for v in values if v.dtype in _NUMBERS]
    if not tensors or len(numbers) + len(tensors) < len(values):
        return None
    if all(v.dtype == tensors[0].dtype for v in tensors):
        ranked = [tensors]
    else:  # an unknown rank may be 0 or not
        open_ranks = [
            [v] if v.rank is not None else [Element(v.dtype, rank) for rank in (0, 1)]
            for v in tensors
        ]
        ranked = [[*choice] for choice in itertools.product(*open_ranks)]
    results: set[torch.dtype | None] = set()
    for choice in ranked:
        with_dimensions = _promoted([v.dtype for v in choice if v.rank != 0])
        without = _promoted([v.dtype for v in choice if v.rank == 0])
        results.add(_combined(with_dimensions, _combined(without, _promoted(numbers))))
    return results.pop() if len(results) == 1 else None


_NUMBERS: dict[Any, Callable[[], torch.dtype]] = {
    bool: lambda: torch.bool,
    int: lambda: torch.int64,
    float: torch.get_default_dtype,
    complex: lambda: torch.complex64,
}


def _promoted(dtypes: list[torch.dtype]) -> torch.dtype | None:
    return functools.reduce(torch.promote_types, dtypes) if dtypes else None


def _combined(main: torch.dtype | None, other: torch.dtype | None) -> torch.dtype | None:
    """The dtype of a group of values, and of a group that counts less."""
    if main is None or other is None:
        return main or other
    return torch.promote_types(main, other) if category(other) > category(main) else main


def category(dtype: torch.dtype) -> int:
    """The place of a dtype among bool, integers, floats and complex numbers."""
    if dtype.is_complex:
        return 3
    if dtype.is_floating_point:
        return 2
    return 0 if dtype == torch.bool else 1


# -- the dtypes of results -------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call of an operator, with an `Element` in place of each tensor and each size.

    Args:
        name: the name of the operator.
        target: the operator.
        args: the positional arguments.
        kwargs: the keyword arguments.
        in_place: the first tensor is changed, and keeps its dtype.
    """

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    in_place: bool = False

    @functools.cached_property
    def elements(self) -> list[Element]:
        """The tensors and numbers among the arguments, those in lists too."""
        return [*_elements((*self.args, *self.kwargs.values()))]

    @property
    def first(self) -> Known:
        """The dtype of the first tensor."""
        return self.elements[0].dtype if self.elements else None

    @property
    def asked(self) -> torch.dtype | None:
        """The dtype that the arguments name."""
        given = (*self.args, *self.kwargs.values())
        return next((value for value in given if isinstance(value, torch.dtype)), None)

    def argument(self, place: int, name: str) -> Any:
        """One argument, given by its place or its name; ``None`` if it is left out."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name)


def _elements(value: Any) -> Iterator[Element]:
    if isinstance(value, Element):
        yield value
    elif isinstance(value, (bool, int, float, complex)):
        yield Element(type(value))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _elements(part)


def _result_of(call: Call) -> Known:
    """The dtype of the result of an operator; a tuple for several results."""
    name, first = call.name, call.first
    if call.in_place and name not in ("requires_grad",):
        return first
    for names, result in _FAMILIES:
        if name in names:
            return result(call)
    if name in _CASTS:
        return _CASTS[name]
    if name in ("to", "type", "_to_copy", "type_as"):
        other = call.argument(1, "other")
        return call.asked or (other.dtype if isinstance(other, Element) else first)
    return None


def _default(call: Call) -> Known:
    return call.asked or torch.get_default_dtype()


def _promotion(call: Call) -> Known:
    scales = ("alpha", "beta")
    options = [value for name, value in call.kwargs.items() if name not in scales]
    operands = [*_elements((*call.args, *options))]
    if call.name == "where":
        condition = 1 if call.target == "where" else 0
        values = [value for i, value in enumerate(call.args) if i != condition]
        operands = [*_elements((*values, *call.kwargs.values()))]
    return promoted([e for e in operands if e.dtype is not bool or call.name in _KEEPS_BOOL])


def _floats(call: Call) -> Known:
    """The dtype of operands as floats."""
    if call.asked is not None:
        return call.asked
    if call.name in ("div", "divide") and call.kwargs.get("rounding_mode"):
        return _promotion(call)
    return _as_float(call.first if call.name not in _OF_SEVERAL else promoted(call.elements))


def _as_float(dtype: Known) -> Known:
    if isinstance(dtype, torch.dtype) and category(dtype) < 2:
        return torch.get_default_dtype()
    return dtype


def _sums(call: Call) -> Known:
    first = call.first
    if call.asked is None and isinstance(first, torch.dtype) and category(first) < 2:
        return torch.int64
    return call.asked or first


def _with_indices(call: Call) -> Known:
    other = call.argument(1, "other")
    if call.name in ("max", "min", "median", "nanmedian") and len(call.elements) == 1:
        return call.first  # of all elements
    if "pool" in call.name and not call.name.endswith("with_indices"):
        place = 2 if call.name.startswith("adaptive") else 6
        if call.argument(place, "return_indices") is not True:
            return call.first
    if isinstance(other, Element) and isinstance(other.dtype, torch.dtype):
        return promoted([call.elements[0], other])
    return (call.first, torch.int64)


def _as_given(call: Call) -> Known:
    """The dtype of a tensor that is made of numbers."""
    if call.asked is not None:
        return call.asked
    given = call.elements
    if call.name == "full":
        value = call.argument(1, "fill_value")
        given = [*_elements(value)]
    kinds = {e.dtype for e in given}
    if any(isinstance(kind, torch.dtype) or kind is None for kind in kinds):
        return kinds.pop() if len(kinds) == 1 else None
    if not kinds:
        return torch.get_default_dtype()
    return _promoted([_NUMBERS[kind]() for kind in kinds])


def _first(call: Call) -> Known:
    return call.asked or call.first


def _real(call: Call) -> Known:
    return _REAL.get(call.first, call.first)


def _complex(call: Call) -> Known:
    return _COMPLEX.get(_as_float(call.first))


def _mean(call: Call) -> Known:
    first = call.first
    if call.asked is None and isinstance(first, torch.dtype) and category(first) < 2:
        return None
    return call.asked or _real(call) if call.name in ("std", "var", "norm") else _first(call)


#: For each family of operators the dtype of the result.
_FAMILIES: tuple[tuple[frozenset[str], Callable[[Call], Known]], ...] = (
    (_BOOLEAN, lambda call: torch.bool),
    (_WITH_INDICES, _with_indices),
    (_words("all any"), lambda call: torch.uint8 if call.first == torch.uint8 else torch.bool),
    (_INDICES, lambda call: torch.int64),
    (_MAKING, _default),
    (_words("randint"), lambda call: call.asked or torch.int64),
    (_words("full tensor as_tensor scalar_tensor arange"), _as_given),
    (_SUMMING, _sums),
    (_words("real imag abs angle view_as_real"), _real),
    (_words("fft ifft fft2 ifft2 fftn ifftn rfft rfft2 rfftn view_as_complex"), _complex),
    (_words("mean std var norm nanmean"), _mean),
    (_PROMOTING, _promotion),
    (FLOATING, _floats),
    (_KEEPING, _first),
)


class ElementTypes:
    """The dtypes of the values of the nodes of a graph.

    Args:
        root: the module that the graph's parameters and layers belong to.
        inputs: the dtypes of the inputs, by name.
        rank_of: the rank of a node's value, if it is known.
    """

    def __init__(
        self,
        root: Any,
        inputs: Mapping[str, torch.dtype] | None = None,
        rank_of: Callable[[Node], int | None] = lambda node: None,
    ) -> None:
        self._root = root
        self._inputs = inputs or {}
        self._rank_of = rank_of
        self._known: dict[Node, Known] = {}

    def of(self, node: Node) -> Known:
        """The dtype of a node's value; a tuple for several results; ``None`` if it is unknown."""
        for used in node.graph.nodes:  # a node comes after those that it uses
            if used not in self._known:
                self._known[used] = self._decide(used)
            if used is node:
                break
        return self._known.get(node)

    def call(self, node: Node) -> Call:
        """The call that a node makes, with the dtypes of its arguments."""
        args, kwargs = arguments_of(node, self._element)
        target: Any = node.target
        name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
        changes = node.op in ("call_function", "call_method") and (
            operator_of(node) != name or name in _IN_PLACE
        )
        return Call(operator_of(node), target, args, kwargs, changes)

    def _element(self, used: Node) -> Any:
        known = self._known.get(used)
        if isinstance(known, tuple):
            return tuple(map(Element, known))
        return Element(known, self._rank_of(used))

    def _decide(self, node: Node) -> Known:
        traced = _traced(node.meta.get("val"))
        if traced is not None:
            return traced
        if node.op == "placeholder":
            return self._inputs.get(str(node.target).lstrip("*"))
        if node.op == "get_attr":
            try:
                value = parameter_of(self._root, str(node.target))
            except GradualError:
                return None
            return value.dtype if isinstance(value, torch.Tensor) else None
        if node.op == "call_module":
            return self._layer(node)
        if node.op not in ("call_function", "call_method"):
            return None
        if node.target is operator.getitem:
            known, place = self._known.get(node.args[0]), node.args[1]  # type: ignore[arg-type]
            if isinstance(known, tuple):
                inside = isinstance(place, int) and -len(known) <= place < len(known)
                return known[place] if inside else None  # type: ignore[index]
        if node.target is getattr and node.args[1] in ("T", "mT", "H", "mH", "data", "grad"):
            return self._known.get(node.args[0])  # type: ignore[arg-type]
        if operator_of(node) in ("size", "dim", "numel", "len", "sym_size", "ndimension"):
            return int
        return _result_of(self.call(node))

    def _layer(self, node: Node) -> Known:
        module = self._root.get_submodule(str(node.target))
        given = self._known.get(node.args[0]) if node.args else None  # type: ignore[arg-type]
        if isinstance(module, _KEEPING_LAYERS):
            return given
        weights = {p.dtype for p in module.parameters() if p.is_floating_point()}
        if weights:
            of_one = not isinstance(module, _SEVERAL_RESULTS)
            return weights.pop() if len(weights) == 1 and of_one else None
        is_float = isinstance(given, torch.dtype) and given.is_floating_point
        return given if is_float and not getattr(module, "return_indices", False) else None


def _traced(value: Any) -> Known:
    """The dtype of a value of a trace."""
    if isinstance(value, torch.Tensor):
        return value.dtype
    if isinstance(value, (tuple, list)) and value:
        return tuple(map(_traced, value))
    if isinstance(value, (torch.SymInt, torch.SymFloat)):
        return int if isinstance(value, torch.SymInt) else float
    return None

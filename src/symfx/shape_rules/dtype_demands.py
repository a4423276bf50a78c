"""The dtypes that operators and layers take: one for two matrices, integers for ids.

Only known dtypes are checked, so an input without a written dtype is never refused for its dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.dtypes import short_name
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.promotion import Call, Element, category, promoted
from symfx.shape_rules.result_dtypes import FLOATING

__all__ = ["demand_dtypes"]

_INTEGERS = (torch.int64, torch.int32)
_MASKS = (torch.bool, torch.uint8)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operators whose tensors have one dtype.
_OF_ONE_DTYPE = _words(
    """
    mm bmm matmul __matmul__ mv dot vdot addmm baddbmm addmv addbmm inner einsum tensordot cdist
    linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    convolution lerp
    """
)
#: Operators on floats and complex numbers.
_ON_FLOATS = _words(
    """
    mean std var norm softmax log_softmax softmin gelu silu leaky_relu elu layer_norm normalize glu
    """
)
#: Layers whose input has the dtype of their weights.
_OF_WEIGHTS = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoderLayer,
    nn.TransformerDecoder,
    nn.Transformer,
    nn.PReLU,
)
#: Layers whose input has the dtype of their weights, or a float of fewer bits.
_NORMALIZING = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
#: The place and the name of the indices among the arguments, and the dtypes that they can have.
_INDEXED: dict[str, tuple[int, str, tuple[torch.dtype, ...]]] = {
    "gather": (2, "index", _INTEGERS),
    "scatter": (2, "index", _INTEGERS),
    "scatter_add": (2, "index", _INTEGERS),
    "index_select": (2, "index", _INTEGERS),
    "index_add": (2, "index", _INTEGERS),
    "take": (1, "index", (torch.int64,)),
    "take_along_dim": (1, "indices", (torch.int64,)),
    "one_hot": (0, "tensor", (torch.int64,)),
    "masked_fill": (1, "mask", (torch.bool,)),
    "masked_select": (1, "mask", (torch.bool,)),
    "where": (0, "condition", _MASKS),
}
#: Operators that compute in the promoted dtype, and write the result into their first tensor.
_WRITING = _words("add sub mul iadd isub imul ifloordiv floor_divide pow ipow remainder fmod ldexp")
#: Python's signs of the operators that change their first operand.
_SIGNS = {
    **{"iadd": "+", "isub": "-", "imul": "*", "itruediv": "/", "ifloordiv": "//", "imod": "%"},
    **{"ipow": "**", "iand": "&", "ior": "|", "ixor": "^"},
}


def demand_dtypes(call: Call, module: nn.Module | None) -> None:
    """Demand that the known dtypes of a call are those that its operator takes.

    Args:
        call: the call, with the dtypes of its arguments.
        module: the layer that is called, if any.

    Raises:
        IllTypedError: the operator does not take these dtypes.
    """
    name = call.name
    if module is not None:
        _demand_of_layer(call, module)
    elif name in _OF_ONE_DTYPE:
        _one_dtype(name, call.elements)
    elif name == "scaled_dot_product_attention":
        _one_dtype(name, call.elements[:3])
    elif name in _ON_FLOATS and call.asked is None and not call.asks_unknown:
        _floats(name, call.first)
    elif name in _INDEXED:
        place, word, accepted = _INDEXED[name]
        place = 1 if call.target == "where" else place  # x.where(condition, y)
        _indices(f"the {word} of {name}", call.argument(place, word), accepted)
    elif name == "embedding":
        of_functional = call.target is F.embedding  # the others take the weight first
        ids = call.argument(0, "input") if of_functional else call.argument(1, "indices")
        _indices("the ids of embedding", ids, _INTEGERS)
    elif name in ("getitem", "setitem"):
        _bracket(call.argument(1, "index"))
    elif name in _LOSSES:
        _LOSSES[name](name, call)
    if call.in_place and name == "float_power" and isinstance(call.first, torch.dtype):
        _one_dtype(name, [Element(call.first), Element(torch.float64)])
    elif call.in_place and name in ("abs", "absolute"):
        if isinstance(call.first, torch.dtype) and call.first.is_complex:
            raise IllTypedError(f"{name} of complex numbers cannot be written in place")
    elif call.in_place and (name in _WRITING or name in FLOATING):
        _result_fits(call)


def _listed(dtypes: Iterable[torch.dtype]) -> str:
    return " and ".join(dict.fromkeys(map(short_name, dtypes)))


def _is_float(dtype: Any) -> bool:
    return isinstance(dtype, torch.dtype) and category(dtype) >= 2


def _one_dtype(name: str, elements: list[Element]) -> None:
    found = [e.dtype for e in elements if isinstance(e.dtype, torch.dtype)]
    if len({*found}) > 1:
        raise IllTypedError(
            f"{name} takes tensors of one dtype, not {_listed(found)}: convert one with .to(dtype)"
        )


def _floats(name: str, dtype: Any) -> None:
    if isinstance(dtype, torch.dtype) and not _is_float(dtype):
        raise IllTypedError(f"{name} takes floats, not {short_name(dtype)}: convert with .float()")


def _indices(what: str, given: Any, accepted: tuple[torch.dtype, ...]) -> None:
    dtype = given.dtype if isinstance(given, Element) else None
    if isinstance(dtype, torch.dtype) and dtype not in accepted:
        wanted = " or ".join(map(short_name, accepted))
        raise IllTypedError(
            f"{what} must be {wanted}, not {short_name(dtype)}: declare {short_name(accepted[0])}"
            f"[...], or convert with .{'bool' if accepted[0] == torch.bool else 'long'}()"
        )


def _bracket(index: Any) -> None:
    for entry in index if isinstance(index, (tuple, list)) else (index,):
        _indices("a tensor among indices", entry, (*_INTEGERS, *_MASKS))


def _result_fits(call: Call) -> None:
    """Demand that the dtype of the result can be written into the first tensor."""
    into, computed = call.first, promoted(call.elements)
    if call.name in FLOATING and not call.kwargs.get("rounding_mode"):
        computed = computed if _is_float(computed) else torch.float32
    if isinstance(into, torch.dtype) and computed and not torch.can_cast(computed, into):
        raise IllTypedError(
            f"a result of {short_name(computed)} cannot be written into a tensor of "
            f"{short_name(into)}: use {_SIGNS.get(call.name, call.name)} without changing the "
            "tensor in place"
        )


# -- layers ----------------------------------------------------------------------------------------


def _demand_of_layer(call: Call, module: nn.Module) -> None:
    name, given, what = type(module).__name__, call.first, "input"
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        _indices(f"the ids of {name}", call.elements[0] if call.elements else None, _INTEGERS)
    elif name in _LOSSES:
        _LOSSES[name](name, call)
    if not isinstance(module, (*_OF_WEIGHTS, *_NORMALIZING)):
        return
    weights = {p.dtype for p in module.parameters() if _is_float(p.dtype)}
    if len(weights) != 1:
        return
    (wanted,) = weights
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and given in (None, wanted):
        states = [e.dtype for e in call.elements[1:] if isinstance(e.dtype, torch.dtype)]
        what, given = "state", next((each for each in states if each != wanted), wanted)
    if not isinstance(given, torch.dtype) or given == wanted:
        return
    narrower = _is_float(given) and not given.is_complex and given.itemsize < wanted.itemsize
    if isinstance(module, _NORMALIZING) and narrower:
        return
    raise IllTypedError(
        f"{name} has weights of {short_name(wanted)}, and its {what} is {short_name(given)}: "
        f"convert the {what} with .to({wanted})"
    )


# -- losses ----------------------------------------------------------------------------------------


def _class_targets(name: str, call: Call) -> None:
    """Demand of the targets of a cross entropy: class indices, or probabilities."""
    target = call.argument(1, "target")
    accepts = (torch.int64, torch.uint8)
    if isinstance(target, Element) and not (_is_float(target.dtype) and "ross" in name):
        _indices(f"class indices as the targets of {name}", target, accepts)


def _float_targets(name: str, call: Call) -> None:
    target = call.argument(1, "target")
    if not isinstance(target, Element) or not isinstance(target.dtype, torch.dtype):
        return
    if not _is_float(target.dtype):
        raise IllTypedError(
            f"the targets of {name} must be floats, not {short_name(target.dtype)}: convert with "
            ".float()"
        )
    if name in ("binary_cross_entropy", "BCELoss"):
        _one_dtype(name, call.elements[:2])


_LOSSES: dict[str, Callable[[str, Call], None]] = {
    **dict.fromkeys(("cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss"), _class_targets),
    **dict.fromkeys(
        (
            *("binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"),
            *("BCELoss", "BCEWithLogitsLoss", "KLDivLoss"),
        ),
        _float_targets,
    ),
}

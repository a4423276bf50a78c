"""A search for calls of which a shape rule and eager think differently.

The calls of torch's operator database, and of layers with settings drawn at random, are changed a
little at random: a dimension more or less, another size, another number. Rules run on numbers, so
each has a verdict of its own.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from symfx.graph_gradual_typechecker.checker_sizes import CheckerSizes
from symfx.shape_rules import IllTypedError, Shape, known_rules
from symfx.shape_rules.sizes import Size

#: Operators whose rule leaves open what depends on more than shapes: the name of a norm, or on
#: which kernel of two torch takes.
LEFT_OPEN = {
    "norm": "the order of a norm decides which ranks it takes",
    "linalg.norm": "the order of a norm decides which ranks it takes",
    "linalg.matrix_norm": "not every order is supported",
    "logsumexp": "torch fails on no dimensions by accident",
    "renorm": "a negative norm is refused",
    "mvlgamma": "its second argument has a bound",
    "cross": "without dim, the first dimension of size 3 is meant",
    "nn.functional.max_unpool1d": "paddings below 0 are let through",
    "nn.functional.max_unpool2d": "paddings below 0 are let through",
    "nn.functional.max_unpool3d": "paddings below 0 are let through",
    "nn.functional.conv_transpose1d": "some kernels leave nothing, others refuse to",
    "nn.functional.conv_transpose2d": "some kernels leave nothing, others refuse to",
    "nn.functional.conv_transpose3d": "some kernels leave nothing, others refuse to",
    "linalg.vecdot": "a dimension that only one of the two tensors has",
    "nn.functional.avg_pool2d": "divisor_override has a bound",
    "nn.functional.avg_pool3d": "divisor_override has a bound",
    "nn.functional.ctc_loss": "the lengths are data, and bound the time",
    "histc": "the bounds of the bins are numbers",
    "nn.functional.multi_margin_loss": "a tensor of rank 0 is taken for a vector",
    "roll": "an empty tensor is not looked at",
}
#: What eager's message says where it is not about shapes.
_OTHER_REASONS = ("dtype", "floating point type", "integral Tensor", "0-dimensional start")


#: How eager refuses arguments.
_REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError)


def shapes_of(value: Any) -> Any:
    """What eager returned, as shapes; None for what is no tensor."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return tuple(map(shapes_of, value))
    return None


def typed(value: Any) -> Any:
    """What a rule returned, as `shapes_of` would have it."""
    if isinstance(value, Shape):
        return tuple(None if isinstance(size, Size) else size for size in value)
    if type(value) in (tuple, list):
        return tuple(map(typed, value))
    return None


def agree(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(agree, one, other))
    return one is None or other is None or one == other


def given(value: Any) -> Any:
    """An argument as rules take it."""
    if isinstance(value, Tensor):
        return Shape(value.shape)
    if isinstance(value, dict):
        return {name: given(part) for name, part in value.items()}
    if isinstance(value, list):
        return [*map(given, value)]
    return tuple(map(given, value)) if isinstance(value, tuple) else value


def _meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {name: _meta(part) for name, part in value.items()}
    return type(value)(map(_meta, value)) if type(value) in (tuple, list) else value


def _parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The tensors, numbers and tuples of numbers in arguments, with their place."""
    if isinstance(value, Tensor) or type(value) is int:
        yield path, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _parts(part, (*path, name))
    elif isinstance(value, (tuple, list)):
        if len(path) > 1 and all(type(part) is int for part in value):
            yield path, tuple(value)
        for i, part in enumerate(value):
            yield from _parts(part, (*path, i))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    items = {**value} if isinstance(value, dict) else [*value]
    items[path[0]] = put(value[path[0]], path[1:], new)
    return tuple(items) if isinstance(value, tuple) else items


def changed(rng: random.Random, arguments: Any) -> Any:
    """The arguments with one tensor, number or tuple of numbers replaced."""
    places = [*_parts(arguments)]
    if not places:
        return arguments
    path, old = rng.choice(places)
    new: Any
    if isinstance(old, Tensor):
        shape = _changed_tuple(rng, [*old.shape], least=1)
        if old.dtype.is_floating_point or old.dtype.is_complex:
            new = torch.rand(shape, dtype=old.dtype)
        else:
            new = torch.zeros(shape, dtype=old.dtype)
    elif isinstance(old, tuple):
        new = tuple(_changed_tuple(rng, [*old], least=-9))
    else:
        new = rng.choice((old + 1, old - 1, -old, -1, 0, old + 3, 1, 2))
    return put(arguments, path, new)


def _changed_tuple(rng: random.Random, sizes: list[int], least: int) -> list[int]:
    kind = rng.randrange(4)
    if kind == 0:
        sizes.insert(rng.randrange(len(sizes) + 1), rng.choice((1, 2, 3)))
    elif sizes:
        at = rng.randrange(len(sizes))
        if kind == 1:
            del sizes[at]
        elif kind == 2:
            sizes[at] = max(least, sizes[at] + rng.choice((-1, 1, 2)))
        else:
            sizes[at] = 1
    return sizes


def difference(
    name: str, rule: Callable[..., Any], call: Callable[..., Any], args: Any, kwargs: Any
) -> str | None:
    """What a rule and eager think differently of one call."""
    if any(isinstance(x, Tensor) and 0 in x.shape for _, x in _parts((args, kwargs))):
        return None  # sizes of inputs are taken to be 1 or more
    if name == "nn.functional.linear" and len(args) > 2 and args[2].ndim > 1:
        return None  # which matrices of biases torch takes depends on the layout in memory
    eager = refused = None
    try:
        with torch.no_grad():
            eager = shapes_of(call(*copy.deepcopy(args), **copy.deepcopy(kwargs)))
    except (TypeError, NotImplementedError):
        return None  # the arguments are not this operator's
    except _REFUSALS as error:
        refused = str(error).splitlines()[0]
        if any(reason in refused for reason in _OTHER_REASONS):
            return None
    shown = f"{name} {given(args)} {given(kwargs)}"
    try:
        found = typed(rule(CheckerSizes(), given(args), given(kwargs)))
    except IllTypedError as error:
        return None if refused is not None else f"{shown}: refused ({error}), eager: {eager}"
    if refused is None:
        return None if agree(found, eager) else f"{shown}: {found}, eager: {eager}"
    if found is None:
        return None
    # What depends on values, such as indices, torch only refuses where there are some.
    try:
        with torch.no_grad():
            agrees = agree(found, shapes_of(call(*_meta(args), **_meta(kwargs))))
    except (*_REFUSALS, NotImplementedError) as error:
        agrees = "meta tensors" in str(error)  # it reads a number out of a tensor
    return None if agrees else f"{shown}: {found}, eager: {refused}"


def operator_calls(
    rng: random.Random, share: float, samples: int, changes: int
) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Calls of a share of the operators in torch's database that have a rule."""
    from torch.testing._internal.common_methods_invocations import op_db

    table = known_rules()
    for operator in op_db:
        if not operator.dtypes or operator.name in LEFT_OPEN or rng.random() > share:
            continue
        dtype = torch.float32
        if dtype not in operator.dtypes:
            dtype = min(operator.dtypes, key=str)
        calls = {operator.op: table.get(operator.op)}
        method = operator.method_variant
        if method is not None and method.__name__ != "<lambda>":
            calls[method] = table.get(method.__name__)
        known = {call: rule for call, rule in calls.items() if rule is not None}
        if not known:
            continue
        drawn = operator.sample_inputs("cpu", dtype, requires_grad=False)
        every = [*itertools.islice(drawn, 8 * samples)]
        for sample in rng.sample(every, min(samples, len(every))):
            arguments = ((sample.input, *sample.args), sample.kwargs)
            tried = [arguments, *(changed(rng, arguments) for _ in range(changes))]
            if sum(x.numel() for _, x in _parts(arguments) if isinstance(x, Tensor)) > 100_000:
                continue
            for args, kwargs in tried:
                for call, rule in known.items():
                    yield operator.name, rule, call, args, kwargs


def _layer(rng: random.Random) -> nn.Module:
    n, flag, pick = rng.choice((1, 2, 3)), rng.random() < 0.5, rng.choice

    def many(low: int, high: int) -> Any:
        several = tuple(rng.randint(low, high) for _ in range(n))
        return pick((rng.randint(low, high), several))

    def of(name: str) -> Any:
        return getattr(nn, name.format(n))

    kernel, stride, padding, dilation = many(1, 3), many(1, 3), many(0, 1), many(1, 2)
    both = {"stride": stride, "dilation": dilation, "groups": pick((1, 2))}
    sizes = pick((rng.randint(1, 4), tuple(pick((1, 3)) for _ in range(n))))
    amounts = tuple(rng.randint(-1, 3) for _ in range(2 * n))
    state = {"num_layers": pick((1, 2)), "bidirectional": flag, "batch_first": pick((True, False))}
    makers: list[Callable[[], nn.Module]] = [
        lambda: of("Conv{}d")(4, 6, kernel, padding=pick((padding, "same", "valid")), **both),
        lambda: of("ConvTranspose{}d")(4, 6, kernel, output_padding=many(0, 2), **both),
        lambda: of("MaxPool{}d")(kernel, stride, padding, dilation, flag, ceil_mode=not flag),
        lambda: of("AvgPool{}d")(kernel, stride, padding, ceil_mode=flag),
        lambda: of("LPPool{}d")(2, kernel, stride, ceil_mode=flag),
        lambda: of("AdaptiveMaxPool{}d")(sizes, return_indices=flag),
        lambda: of("AdaptiveAvgPool{}d")(2 if sizes in (1, (1,) * n) else sizes),  # a plain mean
        lambda: of("BatchNorm{}d")(4).train(flag),
        lambda: of("InstanceNorm{}d")(4, affine=flag, track_running_stats=pick((True, False))),
        lambda: of(pick(("Zero", "Reflection", "Replication", "Circular")) + "Pad{}d")(amounts),
        lambda: of("ConstantPad{}d")(amounts, 1.0),
        lambda: nn.Upsample(
            size=many(1, 5) if flag else None,
            scale_factor=None if flag else pick((2, 1.5, 0.4, (2,) * n)),
            mode=pick(("nearest", "linear", "bilinear", "bicubic", "trilinear", "area")),
            align_corners=pick((None, None, True)),
        ),
        lambda: nn.UpsamplingBilinear2d(scale_factor=pick((2, (2, 3)))),
        lambda: pick((nn.LayerNorm, nn.RMSNorm))(pick(((3,), (2, 3), 4))),
        lambda: pick((nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle))(pick((1, 2, 3))),
        lambda: nn.GroupNorm(pick((1, 2, 4)), 4),
        lambda: nn.LocalResponseNorm(pick((1, 2, 3))),
        lambda: nn.Unfold(pick((1, 2, 3)), pick((1, 2)), pick((0, 1)), pick((1, 2))),
        lambda: nn.Fold(pick(((3, 4), 4)), pick((1, 2)), padding=pick((0, 1))),
        lambda: nn.Linear(pick((3, 4)), 5),
        lambda: nn.Flatten(pick((0, 1, 2, -2)), pick((-1, 1, 2))),
        lambda: nn.Unflatten(pick((0, 1, -1)), pick(((2, -1), (2, 2), (-1,), (1, 4)))),
        lambda: pick((nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.GLU))(pick((-1, 0, 1, 2))),
        lambda: pick((nn.PReLU(1), nn.PReLU(4), nn.Softmax2d(), nn.Hardswish(), nn.Identity())),
        lambda: pick((nn.RNN, nn.GRU, nn.LSTM))(4, 5, **state),
        lambda: pick((nn.RNNCell, nn.GRUCell, nn.LSTMCell))(4, 5),
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=flag),
    ]
    return pick(makers)()


def layer_calls(rng: random.Random, count: int) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Layers with settings drawn at random, called with tensors of random shapes."""
    table = known_rules()
    for _ in range(count):
        try:
            layer = _layer(rng)
        except (ValueError, RuntimeError):
            continue  # settings that do not go together

        def rule(d: Any, args: Any, kwargs: Any, layer: nn.Module = layer) -> Any:
            return table[type(layer)](d, args, kwargs, layer)

        for _ in range(3):
            rank = rng.choice((0, 1, 2, 3, 3, 4, 4, 5, 6))
            shape = [4 if rng.random() < 0.45 else rng.randint(1, 8) for _ in range(rank)]
            yield str(layer), rule, layer, (torch.rand(shape),), {}

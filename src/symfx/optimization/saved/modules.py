"""The modules of a saved model as data: the name of the class, its options, its tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symfx.errors import OptimizationError, SymfxError
from symfx.graph_data.arguments import decode, encode
from symfx.graph_data.names import is_place
from symfx.optimization.graphs.effects import is_plain
from symfx.optimization.runtime.activations import ALGORITHMS, REFERENCES, SCALARS, PostOp
from symfx.optimization.runtime.capabilities import can_fuse
from symfx.optimization.runtime.conv_kernels import (
    BFLOAT16,
    COMPILED_WAYS,
    has_bfloat16,
    is_way,
)
from symfx.optimization.runtime.fused_conv import ALL_SHAPES, FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.layers import CONVS, Layer, MaxPool
from symfx.optimization.runtime.linear_kernels import LINEAR_WAYS, known_ways
from symfx.optimization.runtime.normalization import NormalizedLinear, ScaleShift
from symfx.optimization.runtime.quantized_linear import INT8
from symfx.untrusted import Item, Source, shown

__all__ = ["build_modules", "describe_module", "put", "tensors_of"]

#: The largest number that an operator takes as a 32-bit integer, and a bound for counts.
_INT32, _LARGE = 2**31 - 1, 2**40
#: The largest number of calls of torch in a constructor: for each tensor, and beside those.
_CALLS, _CALLS_ALONE = 100, 200
#: The number of activations that a file may have: each is run once, to see if oneDNN has it.
_ACTIVATIONS = 64


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def describe_module(path: str, module: nn.Module) -> dict[str, Any]:
    """The data from which `build_modules` makes a module again, without its tensors.

    Raises:
        OptimizationError: the module cannot be described as data.
    """
    if isinstance(module, FusedConv):
        return {"class": "symfx.FusedConv", "options": module.describe()}
    if isinstance(module, FusedLinear):
        return {"class": "symfx.FusedLinear", "options": module.describe()}
    if isinstance(module, ScaleShift):
        options = {"spatial": module.spatial, "rectify": module.rectify}
        return {"class": "symfx.ScaleShift", "options": options}
    if isinstance(module, NormalizedLinear):
        return {"class": "symfx.NormalizedLinear", "options": {}}
    kind = type(module)
    source = Source(
        path,
        OptimizationError,
        "only torch's own modules without hooks can be saved; save the parts around it",
    )
    for name, part in module.named_modules(prefix=path):
        own, whole = type(part), part is module
        known = getattr(nn, own.__name__, None) is own and is_plain(part)
        if not (known if whole else own.__module__.startswith("torch.nn.")):
            raise source.refusal(f"{name} is a {own.__name__}, which a file cannot describe")
    options = {}
    for name, parameter in _parameters(kind).items():
        value = getattr(module, name, parameter.default)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None and value is not parameter.empty
        options[name] = value
    cannot = f"{path}, a {kind.__name__}, cannot be described as data"
    try:
        description = {
            "class": f"torch.nn.{kind.__name__}",
            "training": module.training,
            "options": {
                name: encode(v, f"its {name}", OptimizationError) for name, v in options.items()
            },
        }
        again = _make_module(Item(description, "", source), tensors_of(module), set())
    except OptimizationError as error:
        raise source.refusal(f"{cannot}: {error.what}") from error
    if repr(again) != repr(module):
        raise source.refusal(cannot)
    return description


def build_modules(
    modules: Mapping[str, Item], tensors: Mapping[str, Tensor], called: Iterable[str]
) -> nn.Module:
    """A root module with the described modules at their paths below it.

    Args:
        modules: the data of `describe_module`, by path.
        tensors: the tensors of all modules, by path.
        called: the paths that the graph calls. A module at another path is refused.
    """
    own: dict[str, dict[str, Tensor]] = {path: {} for path in modules}
    for name, tensor in tensors.items():
        steps = name.split(".")
        for length in range(1, len(steps)):
            path = ".".join(steps[:length])
            if path in own:
                own[path][".".join(steps[length:])] = tensor
    root = nn.Module()
    wanted = set(called)
    activations: set[tuple[Any, ...]] = set()
    # A module comes before its parts.
    for path, item in sorted(modules.items(), key=lambda each: each[0].count(".")):
        if path not in wanted:
            raise item.refusal("no node calls this module")
        put(root, path, _make_module(item, own[path], activations), item)
    return root


def put(root: nn.Module, path: str, value: nn.Module | Tensor, item: Item) -> None:
    """Set a module or a tensor at a path below a module.

    A part that the constructor of a module around it made stays.

    Args:
        root: the module.
        path: the path.
        value: the module or tensor.
        item: the part of the file that is refused if the path cannot have the value.
    """
    if not is_place(path):
        raise item.refusal(f"{shown(path)} cannot be the path of a part of a model")
    *parents, name = path.split(".")
    owner = root
    for part in parents:
        below = owner._modules.get(part)
        if below is None:
            _check_free(owner, part, item)
            below = nn.Module()
            owner.add_module(part, below)
        owner = below
    held = getattr(owner, name, None)
    if isinstance(value, nn.Module) and type(held) is type(value):
        return
    if isinstance(value, Tensor):
        if isinstance(held, Tensor) and held.data_ptr() == value.data_ptr():
            return
        value = nn.Parameter(value, requires_grad=False)
    _check_free(owner, name, item)
    setattr(owner, name, value)


def _check_free(owner: nn.Module, name: str, item: Item) -> None:
    # A module of a known class has only the parts that its constructor makes.
    if type(owner) is not nn.Module or hasattr(owner, name):
        raise item.refusal(f"two parts of the model would have the path {shown(name)}")


def _parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The parameters of a class's constructor, without ``device`` and ``dtype``."""
    return {
        name: parameter
        for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]
        if name not in ("device", "dtype")
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def _make_module(
    item: Item, tensors: Mapping[str, Tensor], activations: set[tuple[Any, ...]]
) -> nn.Module:
    fields = item.fields("class", "options", optional=("training",))
    name, options = fields["class"].text(), fields["options"]
    if name == "symfx.FusedConv":
        return _make_fused(options, tensors, activations)
    if name == "symfx.FusedLinear":
        return _make_fused_linear(options, tensors, activations)
    if name == "symfx.ScaleShift":
        return _make_scale_shift(options, tensors)
    if name == "symfx.NormalizedLinear":
        return _make_normalized(options, tensors)
    home, _, last = name.rpartition(".")
    kind: Any = vars(nn).get(last) if home == "torch.nn" else None
    if not (
        inspect.isclass(kind)
        and issubclass(kind, nn.Module)
        and kind.__module__.startswith("torch.nn.modules.")
    ):
        raise fields["class"].refusal(
            f"there is no module {shown(name)}", fix="use the torch that wrote it"
        )
    given = options.fields(optional=tuple(_parameters(kind)))
    values = {key: decode(value, {}) for key, value in given.items()}
    with (
        item.source.guarding(f"no {last} can be built of these options", options.path),
        _AtMost(_CALLS_ALONE + _CALLS * len(tensors), item),
        torch.device("meta"),
    ):
        module: nn.Module = kind(**values)
    wanted = tensors_of(module)
    with item.source.guarding(f"these are not the tensors of a {last}", item.path):
        _check_names(tensors, set(wanted), item)
        for path, like in wanted.items():
            value = tensors[path].detach()
            if value.shape != like.shape or not _alike(value.dtype, like.dtype):
                raise item.refusal(
                    f"{shown(path)} is {value.dtype} of shape {tuple(value.shape)}, and a {last} "
                    f"of these options has {tuple(like.shape)} there"
                )
            parent, _, own = path.rpartition(".")
            is_parameter = isinstance(like, nn.Parameter)
            new = nn.Parameter(value, requires_grad=False) if is_parameter else value
            setattr(module.get_submodule(parent), own, new)
    return module.train("training" in fields and fields["training"].truth())


def _alike(one: torch.dtype, other: torch.dtype) -> bool:
    """Whether both dtypes are fractional, or both are the same."""
    return (_is_fractional(one) and _is_fractional(other)) or one is other


def _is_fractional(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


class _AtMost(TorchFunctionMode):
    """Refuses more than a number of calls of torch.

    A few characters can describe a module of ten million layers. Each layer has tensors, and the
    file lists its tensors, so their number bounds the calls.
    """

    def __init__(self, calls: int, item: Item) -> None:
        super().__init__()
        self.left, self.item = calls, item

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.item.refusal("this module has more tensors than the file has for it")
        return func(*args, **(kwargs or {}))


def _check_names(tensors: Mapping[str, Tensor], wanted: set[str], item: Item) -> None:
    if set(tensors) != wanted:
        raise item.refusal(
            f"its tensors are {shown(sorted(tensors))}, and not {shown(sorted(wanted))}"
        )


def _check_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], item: Item
) -> None:
    """Refuse tensors of other names or shapes than these, or of more than one dtype."""
    _check_names(tensors, set(shapes), item)
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise item.refusal(f"its {name} is of shape {tuple(tensors[name].shape)}, not {shape}")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if len(dtypes) != 1 or not all(map(_is_fractional, dtypes)):
        raise item.refusal(f"its tensors are of {shown(dtypes)}, and not of one fractional dtype")


def _make_scale_shift(options: Item, tensors: Mapping[str, Tensor]) -> ScaleShift:
    fields = options.fields("spatial", "rectify")
    flat = {name: tensor.reshape(-1) for name, tensor in tensors.items()}
    channels = (flat["scale"].numel() if "scale" in flat else 0,)
    _check_tensors(flat, {"scale": channels, "shift": channels}, options)
    spatial, rectify = fields["spatial"].whole(0, 16), fields["rectify"].truth()
    return ScaleShift(flat["scale"], flat["shift"], spatial, rectify=rectify).eval()


def _make_normalized(options: Item, tensors: Mapping[str, Tensor]) -> NormalizedLinear:
    options.fields()
    weight = _weight(tensors, 2, options)
    each, out = tuple(weight.shape), tuple(weight.shape[:1])
    shapes = {"weight": each, "plain_weight": each, "bias": out, "scale": out, "shift": out}
    if "plain_bias" in tensors:
        shapes["plain_bias"] = out
    _check_tensors(tensors, shapes, options)
    plain = _linear(tensors["plain_weight"], tensors.get("plain_bias"))
    folded = _linear(weight, tensors["bias"])
    return NormalizedLinear(plain, folded, tensors["scale"], tensors["shift"]).eval()


def _weight(tensors: Mapping[str, Tensor], rank: int, item: Item) -> Tensor:
    weight = tensors.get("weight")
    if weight is None or weight.ndim != rank:
        raise item.refusal(f"the weight must have {rank} dimensions")
    return weight


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


_KINDS: dict[str, type[nn.Module]] = {
    "Conv1d": nn.Conv1d,
    "Conv2d": nn.Conv2d,
    "Conv3d": nn.Conv3d,
    "ConvTranspose2d": nn.ConvTranspose2d,
}


def _make_fused(
    options: Item, tensors: Mapping[str, Tensor], activations: set[tuple[Any, ...]]
) -> FusedConv:
    fields = options.fields(
        "kind",
        "stride",
        "padding",
        "dilation",
        "output_padding",
        "groups",
        "adds",
        "second",
        "accumulates",
        "post",
        "pool",
        "ways",
    )
    kind = fields["kind"].choice(_KINDS, "convolution")
    rank, _ = CONVS[kind]
    sizes: dict[str, Any] = {
        "stride": _sizes(fields["stride"], rank, 1),
        "padding": _sizes(fields["padding"], rank, 0),
        "dilation": _sizes(fields["dilation"], rank, 1),
        "output_padding": _sizes(fields["output_padding"], rank, 0),
        "groups": fields["groups"].whole(1, _INT32),
    }
    layer = _layer(kind, rank + 2, tensors, sizes, options)
    if layer.weight.shape[0] % sizes["groups"]:
        raise fields["groups"].refusal(
            f"{layer.weight.shape[0]} channels cannot be split into {sizes['groups']} groups"
        )
    pool = None if fields["pool"].value is None else _pool(fields["pool"])
    if pool is not None and kind is not nn.Conv2d:
        raise fields["pool"].refusal("only a Conv2d can have a max-pooling behind it")
    post, adds = _post(fields["post"], activations), fields["adds"].truth()
    made = FusedConv(layer, post, adds=adds, second=fields["second"].truth(), pool=pool)
    made.accumulates = fields["accumulates"].truth()
    made.available = can_fuse(layer, post, adds=adds) is None
    form = made.form()
    for pair in fields["ways"].items():
        shape, way = pair.items(exactly=2)
        sides = tuple(side.whole(0, _LARGE) for side in shape.items(most=5))
        if sides == ALL_SHAPES and way.text() == BFLOAT16:
            if has_bfloat16():
                made.ways[sides] = BFLOAT16
            continue
        if not is_way(way.text(), form, sides):
            if way.text() in COMPILED_WAYS:
                continue  # this machine has no compiler, or shorter vectors
            raise _no_way(way, f"inputs of shape {sides}")
        made.ways[sides] = way.text()
    made.eval()
    return made


def _make_fused_linear(
    options: Item, tensors: Mapping[str, Tensor], activations: set[tuple[Any, ...]]
) -> FusedLinear:
    fields = options.fields("adds", "second", "post", "ways")
    layer = _layer(nn.Linear, 2, tensors, {}, options)
    post, adds = _post(fields["post"], activations), fields["adds"].truth()
    made = FusedLinear(layer, post, adds=adds, second=fields["second"].truth())
    made.available = can_fuse(layer, post, adds=adds) is None
    for pair in fields["ways"].items():
        rows, way = pair.items(exactly=2)
        if way.text() not in (*LINEAR_WAYS, INT8, BFLOAT16):
            raise _no_way(way, f"{rows.whole(0, _LARGE)} rows")
        if way.text() in known_ways():
            made.ways[rows.whole(0, _LARGE)] = way.text()
    made.eval()
    return made


def _no_way(way: Item, inputs: str) -> SymfxError:
    return way.refusal(
        f"there is no way {shown(way.value)} to compute {inputs}", fix="use the symfx that wrote it"
    )


def _layer(
    kind: type[nn.Module],
    rank: int,
    tensors: Mapping[str, Tensor],
    options: dict[str, Any],
    item: Item,
) -> Layer:
    weight = _weight(tensors, rank, item)
    layer = Layer(kind, weight, tensors.get("bias"), options)
    shapes = {"weight": tuple(weight.shape)}
    if layer.bias is not None:
        shapes["bias"] = (layer.channels,)
    _check_tensors(tensors, shapes, item)
    return layer


def _post(item: Item, activations: set[tuple[Any, ...]]) -> PostOp:
    fields = item.fields("name", "scalars", "algorithm")
    fields["name"].choice(REFERENCES, "activation")
    name = fields["name"].text()
    scalars = tuple(
        number.number() for number in fields["scalars"].items(exactly=SCALARS.get(name, 0))
    )
    kinds = {kind: kind for kind in ALGORITHMS.get(name, ("",))}
    algorithm = fields["algorithm"].choice(kinds, f"kind of {name} that is called")
    activations.add((name, scalars, algorithm))
    if len(activations) > _ACTIVATIONS:
        raise item.refusal(f"a file may have {_ACTIVATIONS} different activations")
    return PostOp(name, scalars, algorithm)


def _pool(item: Item) -> MaxPool:
    fields = item.fields("kernel", "stride", "padding", "ceil")
    kernel, stride = _sizes(fields["kernel"], 2, 1), _sizes(fields["stride"], 2, 1)
    padding = _sizes(fields["padding"], 2, 0)
    return MaxPool(_two(kernel), _two(stride), _two(padding), fields["ceil"].truth())


def _two(sizes: tuple[int, ...]) -> tuple[int, int]:
    down, across = sizes
    return down, across


def _sizes(item: Item, count: int, least: int) -> tuple[int, ...]:
    return tuple(size.whole(least, _INT32) for size in item.items(exactly=count))

"""Optimised models as one file of data: tensors in safetensors, the graph as JSON in its header.

Nothing is pickled, and nothing in a file is run: functions, methods and classes are looked up by
name among those that symfx knows, and what it does not know is refused by name.
"""

from __future__ import annotations

import builtins
import inspect
import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from symfx._version import __version__
from symfx.errors import OptimizationError
from symfx.optimization.graphs.capture import only_default
from symfx.optimization.graphs.effect_tables import words
from symfx.optimization.graphs.effects import Effect, effect_of, is_plain
from symfx.optimization.graphs.layers import Layer, MaxPool
from symfx.optimization.passes import inplace
from symfx.optimization.passes.layout import laid_out_as
from symfx.optimization.pipeline import NO_BFLOAT16, OptimizedModel
from symfx.optimization.report import Report
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import CONVOLUTION, MKL, FusedLinear, has_mkl
from symfx.optimization.runtime.kernels import PostOp, is_way
from symfx.optimization.runtime.modules import NormalizedLinear, ScaleShift
from symfx.optimization.runtime.probing import can_fuse, has_bfloat16
from symfx.optimization.runtime.tensors import all_finite

__all__ = ["load", "save"]

FORMAT, VERSION = "symfx.optimized", 3

_HOMES: dict[str, Any] = {
    "torch": torch,
    "torch.nn.functional": F,
    "torch._C._nn": torch._C._nn,
    "operator": operator,
}
_OWN: dict[str, Callable[..., Any]] = {
    "all_finite": all_finite,
    "laid_out_as": laid_out_as,
    "only_default": only_default,
    "settled_add": inplace.settled_add,
    "settled_sub": inplace.settled_sub,
    "settled_mul": inplace.settled_mul,
    "settled_truediv": inplace.settled_truediv,
}
#: What `getattr` may ask of a tensor, and functions that reach outside the process.
_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "T", "mT", "requires_grad", "layout"})
_OPS = words("placeholder get_attr call_function call_method call_module output")
_REFUSED = frozenset({"from_file"})
_CONSTANTS: dict[str, type] = {
    "dtype": torch.dtype,
    "memory_format": torch.memory_format,
    "layout": torch.layout,
}


def save(model: OptimizedModel, path: str | Path) -> None:
    """Write an optimised model to a file. See `OptimizedModel.save`."""
    module = model.graph_module
    if module is None:
        raise OptimizationError(
            "this model has not been optimised yet",
            fix="use it once, or give example inputs to symfx.optimize",
        )
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}

    def keep(name: str, tensor: Tensor) -> None:
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        first = seen.setdefault(key, name) if tensor.numel() else name
        places[name] = first
        if first == name:
            tensors[name] = tensor.detach().contiguous().clone()

    modules = dict(module.named_modules())
    called: dict[str, Any] = {}
    nodes: list[dict[str, Any]] = []
    for node in module.graph.nodes:
        _refuse_unknown(node, modules)
        if node.op == "call_module" and node.target not in called:
            called[node.target] = _describe_module(node.target, modules[node.target])
            for name, tensor in _tensors(modules[node.target]).items():
                keep(f"{node.target}.{name}", tensor)
        elif node.op == "get_attr":
            keep(str(node.target), operator.attrgetter(str(node.target))(module))
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "target": _name_of(node),
                "args": _encode(node.args, node),
                "kwargs": _encode(dict(node.kwargs), node),
            }
        )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "symfx": __version__,
        "torch": torch.__version__,
        "name": type(module).__name__,
        "dtype": None if model.dtype is None else str(model.dtype).removeprefix("torch."),
        "modules": called,
        "tensors": places,
        "nodes": nodes,
    }
    save_file(tensors, str(path), {FORMAT: json.dumps(header)})


def load(path: str | Path) -> OptimizedModel:
    """Read what `OptimizedModel.save` wrote.

    Where this machine's torch lacks an operator that the file asks for, the model computes the
    same from ordinary ones.

    Args:
        path: the file.

    Raises:
        OptimizationError: it is no such file, is of a newer version, or names something that
            symfx does not know.

    Example:
        >>> import tempfile, torch, symfx
        >>> from symfx.optimization import load
        >>> fast = symfx.optimize(torch.nn.Linear(4, 3), torch.randn(2, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fast.save(f"{folder}/fast.safetensors")
        ...     again = load(f"{folder}/fast.safetensors")
        >>> x = torch.randn(5, 4)
        >>> torch.equal(again(x), fast(x))
        True
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(FORMAT, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise OptimizationError(
            f"{path} cannot be read: {error}", fix="give a file that OptimizedModel.save wrote"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise OptimizationError(
            f"{path} holds tensors, but no optimised model",
            fix="give a file that OptimizedModel.save wrote",
        )
    if header.get("version") != VERSION:
        raise OptimizationError(
            f"{path} is of version {header.get('version')}, and this symfx reads {VERSION}",
            fix="use the symfx that wrote it, or write it again",
        )
    try:
        return _build(header, tensors, str(path))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise OptimizationError(
            f"{path} is damaged: {type(error).__name__}: {error}", fix="write it again"
        ) from error


def _build(header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str) -> OptimizedModel:
    places = {name: tensors[first] for name, first in header["tensors"].items()}
    root = nn.Module()
    for name, description in header["modules"].items():
        prefix = name + "."
        own = {n.removeprefix(prefix): t for n, t in places.items() if n.startswith(prefix)}
        _put(root, name, _make_module(description, own))
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for entry in header["nodes"]:
        op, target = entry["op"], entry["target"]
        if op not in _OPS:
            raise OptimizationError(f"{path} has a node of an unknown kind: {op}")
        if op == "get_attr":
            _put(root, target, nn.Parameter(places[target], requires_grad=False))
        found = _function_named(target) if op == "call_function" else target
        args, kwargs = _decode(entry["args"], known), _decode(entry["kwargs"], known)
        known[entry["name"]] = graph.create_node(op, found, args, kwargs, entry["name"])
    module = fx.GraphModule(root, graph, str(header["name"]))
    modules = dict(module.named_modules())
    for node in graph.nodes:
        _refuse_unknown(node, modules)
    dtype = None if header["dtype"] is None else _constant("dtype", header["dtype"])
    report = Report(notes=[f"read from {path}, written by symfx {header['symfx']}"])
    if dtype is torch.bfloat16 and not has_bfloat16():
        report.notes.append(NO_BFLOAT16)
        dtype = None
    module.training = False
    return OptimizedModel(module, report, dtype=dtype)


def _put(root: nn.Module, path: str, value: nn.Module | nn.Parameter) -> None:
    *parents, name = path.split(".")
    for part in parents:
        below = getattr(root, part, None)
        if not isinstance(below, nn.Module):
            below = nn.Module()
            root.add_module(part, below)
        root = below
    if hasattr(nn.Module, name):
        raise OptimizationError(f"a part cannot be called {name!r}")
    setattr(root, name, value)


def _refuse_unknown(node: fx.Node, modules: dict[str, nn.Module]) -> None:
    name = str(getattr(node.target, "__name__", node.target))
    if node.op == "call_function" and node.target is getattr:
        fits = len(node.args) == 2 and node.args[1] in _ATTRIBUTES
    elif node.op in ("call_function", "call_method"):
        fits = effect_of(node, modules) is not Effect.UNKNOWN and name not in _REFUSED
        fits = fits and not (node.op == "call_method" and name.startswith("_"))
    else:
        return
    if not fits:
        raise OptimizationError(
            f"{node.name} calls {name}, which a file cannot name",
            fix="keep such parts out of what is saved: optimise and save the modules around them",
        )


def _name_of(node: fx.Node) -> str:
    if node.op != "call_function":
        return str(node.target)
    name = getattr(node.target, "__name__", "")
    for home, place in _HOMES.items():
        if getattr(place, name, None) is node.target:
            return f"{home}.{name}"
    for own, function in _OWN.items():
        if function is node.target:
            return f"symfx.{own}"
    if node.target is builtins.getattr:
        return "getattr"
    # Some of torch.nn.functional go by another name than the one they stand under.
    for alias, function in vars(F).items():
        if function is node.target:
            return f"torch.nn.functional.{alias}"
    raise OptimizationError(f"{node.name} calls {name}, which a file cannot name")


def _function_named(name: str) -> Callable[..., Any]:
    home, _, last = name.rpartition(".")
    found: Any = None
    if name == "getattr":
        found = getattr
    elif home == "symfx":
        found = _OWN.get(last)
    elif home in _HOMES and not last.startswith("__"):
        found = getattr(_HOMES[home], last, None)
    if not callable(found) or inspect.isclass(found):
        raise OptimizationError(f"there is no function {name}", fix="use the torch that wrote it")
    function: Callable[..., Any] = found
    return function


def _encode(value: Any, node: fx.Node) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, torch.Size | tuple):
        return {"tuple": [_encode(item, node) for item in value]}
    if isinstance(value, list):
        return {"list": [_encode(item, node) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, node)] for key, item in value.items()]}
    if isinstance(value, slice):
        return {"slice": [_encode(v, node) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for name, kind in _CONSTANTS.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    raise OptimizationError(f"{node.name} takes a {type(value).__name__}, which is no data")


def _decode(value: Any, known: Mapping[str, fx.Node]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "node":
        return known[inner]
    if kind == "float":
        return float.fromhex(inner)
    if kind == "tuple":
        return tuple(_decode(item, known) for item in inner)
    if kind == "list":
        return [_decode(item, known) for item in inner]
    if kind == "dict":
        return {key: _decode(item, known) for key, item in inner}
    if kind == "slice":
        return slice(*(_decode(item, known) for item in inner))
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        return torch.device(inner)
    return _constant(kind, inner)


def _constant(kind: str, name: str) -> Any:
    found = getattr(torch, name, None)
    if kind not in _CONSTANTS or not isinstance(found, _CONSTANTS[kind]):
        raise OptimizationError(f"there is no {kind} {name}", fix="use the torch that wrote it")
    return found


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _describe_module(path: str, module: nn.Module) -> dict[str, Any]:
    """What it takes to build a module again, its tensors aside."""
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
    if getattr(nn, kind.__name__, None) is not kind or not is_plain(module):
        raise OptimizationError(
            f"{path} is a {kind.__name__}, which a file cannot describe",
            fix="only torch's own modules, without hooks, are data; save the parts around it",
        )
    options = {}
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:
        if name in ("device", "dtype") or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        value = getattr(module, name, parameter.default)
        if name == "bias" and not isinstance(value, bool):
            value = value is not None and value is not parameter.empty
        options[name] = value
    description = {"class": f"torch.nn.{kind.__name__}", "training": module.training}
    try:
        description["options"] = {name: _encode(v, _NOWHERE) for name, v in options.items()}
        again = _make_module(description, _tensors(module))
    except Exception as error:
        raise OptimizationError(
            f"{path}, a {kind.__name__}, cannot be described as data: {error}"
        ) from error
    if repr(again) != repr(module) or set(_tensors(again)) != set(_tensors(module)):
        raise OptimizationError(f"{path}, a {kind.__name__}, cannot be described as data")
    return description


_NOWHERE = fx.Graph().placeholder("module")


def _make_module(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    name, options = description["class"], description["options"]
    if name == "symfx.FusedConv":
        return _make_fused(options, tensors)
    if name == "symfx.FusedLinear":
        return _make_fused_linear(options, tensors)
    if name == "symfx.ScaleShift":
        scale, shift = tensors["scale"].reshape(-1), tensors["shift"].reshape(-1)
        return ScaleShift(scale, shift, options["spatial"], rectify=options["rectify"]).eval()
    if name == "symfx.NormalizedLinear":
        plain = _linear(tensors["plain_weight"], tensors.get("plain_bias"))
        folded = _linear(tensors["weight"], tensors["bias"])
        return NormalizedLinear(plain, folded, tensors["scale"], tensors["shift"]).eval()
    home, _, last = name.rpartition(".")
    kind: Any = getattr(nn, last, None) if home == "torch.nn" else None
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise OptimizationError(f"there is no module {name}", fix="use the torch that wrote it")
    with torch.device("meta"):
        module: nn.Module = kind(**{key: _decode(value, {}) for key, value in options.items()})
    wanted = _tensors(module)
    if set(wanted) != set(tensors):
        raise OptimizationError(f"the tensors of a {last} are {sorted(tensors)}")
    for path in wanted:
        parent, _, own = path.rpartition(".")
        owner = module.get_submodule(parent)
        value: Tensor = tensors[path].detach()
        if isinstance(wanted[path], nn.Parameter):
            value = nn.Parameter(value, requires_grad=False)
        setattr(owner, own, value)
    return module.train(bool(description.get("training", False)))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


def _make_fused(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FusedConv:
    kinds: dict[str, type[nn.Module]] = {
        "Conv1d": nn.Conv1d,
        "Conv2d": nn.Conv2d,
        "Conv3d": nn.Conv3d,
        "ConvTranspose2d": nn.ConvTranspose2d,
    }
    places = {
        name: tuple(options[name]) if isinstance(options[name], list) else options[name]
        for name in ("stride", "padding", "dilation", "groups", "output_padding")
    }
    layer = _layer(kinds[options["kind"]], tensors, places)
    post = _post(options["post"])
    pool = None if options["pool"] is None else _pool(options["pool"])
    adds = bool(options["adds"])
    second = bool(options["second"])
    made = FusedConv(layer, post, adds=adds, second=second, pool=pool)
    made.accumulates = bool(options["accumulates"])
    made.available = can_fuse(layer, post, adds=adds) is None
    for shape, way in options["ways"]:
        if not is_way(way, made.form(), shape):
            raise OptimizationError(
                f"there is no way {way!r} to compute {shape}", fix="use the symfx that wrote it"
            )
        made.ways[tuple(shape)] = way
    made.eval()
    return made


def _make_fused_linear(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FusedLinear:
    layer, post = _layer(nn.Linear, tensors, {}), _post(options["post"])
    adds = bool(options["adds"])
    made = FusedLinear(layer, post, adds=adds, second=bool(options["second"]))
    made.available = can_fuse(layer, post, adds=adds) is None
    for rows, way in options["ways"]:
        if way not in (CONVOLUTION, MKL):
            raise OptimizationError(
                f"there is no way {way!r} to compute {rows} rows", fix="use the symfx that wrote it"
            )
        if way != MKL or has_mkl():
            made.ways[int(rows)] = way
    made.eval()
    return made


def _layer(kind: type[nn.Module], tensors: Mapping[str, Tensor], options: dict[str, Any]) -> Layer:
    return Layer(_NOWHERE, _NOWHERE, kind, tensors["weight"], tensors.get("bias"), options)


def _post(post: Mapping[str, Any]) -> PostOp:
    return PostOp(post["name"], tuple(post["scalars"]), post["algorithm"])


def _pool(pool: Mapping[str, Any]) -> MaxPool:
    kernel, stride, padding = (tuple(pool[name]) for name in ("kernel", "stride", "padding"))
    return MaxPool(kernel, stride, padding, bool(pool["ceil"]))

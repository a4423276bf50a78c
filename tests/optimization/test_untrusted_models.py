"""Saved models that were written to do harm: none runs code, hangs, or leaves by another error.

The long search of the last test is run by ``SYMFX_LONG=1 pytest tests/optimization``.
"""

from __future__ import annotations

import ast
import builtins
import copy
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from saved_models import INPUTS, MODELS, parts, written
from torch import nn

import file_fuzzing
import symfx
from symfx.errors import OptimizationError
from symfx.graph_data.arguments import encode
from symfx.optimization import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    found = tmp_path_factory.mktemp("saved")
    for name, make in MODELS.items():
        make().save(found / f"{name}.safetensors")
    return found


@pytest.fixture
def ran() -> Iterator[list[Any]]:
    """The arguments of the calls of the function ``CODE``."""
    calls: list[Any] = []
    builtins.CODE = lambda *args: calls.append(args)  # type: ignore[attr-defined]
    yield calls
    del builtins.CODE  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_what_is_saved_is_loaded(folder: Path, name: str) -> None:
    again = load(folder / f"{name}.safetensors")
    torch.manual_seed(0)
    (folder / "again").mkdir(exist_ok=True)
    again.save(folder / "again" / name)
    x = INPUTS[name]()
    torch.testing.assert_close(load(folder / "again" / name)(x), again(x), rtol=0, atol=0)
    header, _ = parts(folder / f"{name}.safetensors")
    assert parts(folder / "again" / name)[0] == header


def node(header: Any, op: str, target: str = "") -> Any:
    return next(n for n in header["nodes"] if n["op"] == op and target in n["target"])


def moved(header: Any, old: str, new: str) -> None:
    """A module or a tensor under another name, everywhere."""
    header["modules"] = {k.replace(old, new): v for k, v in header["modules"].items()}
    header["tensors"] = {k.replace(old, new): v for k, v in header["tensors"].items()}
    for each in header["nodes"]:
        if each["op"] in ("call_module", "get_attr"):
            each["target"] = each["target"].replace(old, new)


def kwargs(each: Any, key: str, value: Any = 1) -> None:
    each["kwargs"] = {"dict": [[key, value]]}


QUOTED = 'a")+CODE()+getattr(self,"a'
CALLS = ["x=CODE()", "x: CODE()", "x, y=CODE()", "*x=CODE()", "x):\n CODE()\n#", "x = CODE() #"]
Change = Callable[[Any], Any]
INJECTIONS: dict[str, tuple[str, Change]] = {
    **{
        f"parameter {text!r}": ("words", lambda h, t=text: node(h, "placeholder").update(target=t))
        for text in [*CALLS, "self", "lambda", "***x", "x\n", "", "**", "CODE()", "ｘ", "x.y"]
    },
    **{
        f"keyword {text!r}": ("words", lambda h, t=text: kwargs(node(h, "call_function"), t))
        for text in ["max=CODE()) #", "max=CODE(),a", "**CODE()", "class", "ｘ", ""]
    },
    **{
        f"keyword of a {op}": ("images", lambda h, op=op: kwargs(node(h, op), "max=CODE()) #"))
        for op in ("placeholder", "call_module", "call_method", "output")
    },
    "keyword of an attribute": ("words", lambda h: kwargs(node(h, "get_attr"), "max=CODE()) #")),
    "keyword of getattr": ("words", lambda h: kwargs(node(h, "call_function", "getattr"), "x")),
    **{
        f"module {text!r}": ("images", lambda h, t=text: moved(h, "layers", t))
        for text in [
            QUOTED,
            "CODE()#",
            "a\n",
            "class",
            "a\\",
            "_modules",
            "__class__",
            "forward",
            "ｘ",
        ]
    },
    "module deep down": ("images", lambda h: moved(h, "layers", "a." * 60 + "a")),
    "module with a mark of torch.fx": ("images", lambda h: moved(h, "layers", "# COUNTER: 1")),
    "module without a name": ("images", lambda h: moved(h, "layers", "")),
    **{
        f"tensor {text!r}": ("words", lambda h, t=text: moved(h, "places", t))
        for text in [QUOTED, "CODE()#", "a\n", "class", "_parameters", "training", "a..b", "ｘ"]
    },
    "tensor inside a module": ("words", lambda h: moved(h, "places", "embed.places")),
    "tensor in place of a module": ("words", lambda h: moved(h, "places", "embed")),
    **{
        f"node {text!r}": ("words", lambda h, t=text: h["nodes"][0].update(name=t))
        for text in ["x=CODE()", "x\n", "CODE();x", "x y", "", "１x", "x_１"]
    },
    "node twice": ("words", lambda h: h["nodes"][1].update(name=h["nodes"][0]["name"])),
    **{
        f"method {text!r}": ("images", lambda h, t=text: node(h, "call_method").update(target=t))
        for text in [
            'view")+CODE()+("',
            "view(CODE())",
            "view.__class__",
            "__class__",
            "__reduce__",
            "_make_subclass",
            "set_",
            "numpy",
            "register_hook",
            "name",
            "append",
            "save",
            "apply_",
            "map_",
            "class",
            "",
        ]
    },
    "method of a text": (
        "images",
        lambda h: node(h, "call_method").update(args={"tuple": ["{0.__class__}", 1]}),
    ),
    "method of nothing": (
        "images",
        lambda h: node(h, "call_method").update(args={"tuple": []}),
    ),
    **{
        f"function {text}": ("words", lambda h, t=text: node(h, "call_function").update(target=t))
        for text in [
            "CODE",
            "builtins.eval",
            "builtins.CODE",
            "operator.methodcaller",
            "operator.attrgetter",
            "operator.call",
            "operator.__call__",
            "operator.setattr",
            "torch.load",
            "torch.save",
            "torch.nn.functional._assert",
            "torch.from_file",
            "torch.os.system",
            "torch.set_vital",
            "torch.hub",
            "torch.compile",
            "torch.serialization.load",
            "torch.ops.aten.add",
            "torch.sparse_coo_tensor",
            "torch._reshape_alias",
            "torch.nn.functional.handle_torch_function",
            "torch.nn.functional.boolean_dispatch",
            "torch._C._nn.__loader__",
            "symfx.load",
            "symfx.__class__",
            "getattr.__class__",
            "",
        ]
    },
    **{
        f"getattr of {text!r}": (
            "words",
            lambda h, t=text: node(h, "call_function", "getattr")["args"]["tuple"].__setitem__(
                1, t
            ),
        )
        for text in ["__class__", "data", "shape)+CODE(", "grad_fn", ["shape"], {"float": "nan"}]
    },
    "getattr with a default": (
        "words",
        lambda h: node(h, "call_function", "getattr")["args"]["tuple"].append(1),
    ),
    "getattr of a text": (
        "words",
        lambda h: node(h, "call_function", "getattr").update(args={"tuple": ["x", "shape"]}),
    ),
    "write to a number": (
        "words",
        lambda h: node(h, "call_function").update(target="operator.iadd", args={"tuple": [1, 2]}),
    ),
    "operator of one": (
        "words",
        lambda h: node(h, "call_function").update(target="operator.add", args={"tuple": [1]}),
    ),
    "operator of three": (
        "words",
        lambda h: node(h, "call_function").update(target="operator.add", args={"tuple": [1] * 3}),
    ),
    "annotation": ("words", lambda h: h["nodes"][0].update(type="CODE()")),
    "annotation of the output": ("words", lambda h: h["nodes"][-1].update(type="CODE()")),
    "default": (
        "words",
        lambda h: node(h, "placeholder").update(args={"tuple": [{"node": "CODE"}]}),
    ),
    "defaults": ("words", lambda h: node(h, "placeholder").update(args={"tuple": [1, 2]})),
    "default before none": (
        "words",
        lambda h: (
            h["nodes"][1].update(args={"tuple": []}) or h["nodes"][0].update(args={"tuple": [1]})
        ),
    ),
    "same parameter twice": ("words", lambda h: h["nodes"][1].update(target="x")),
    **{
        f"name of the model {text!r}": ("words", lambda h, t=text: h.update(name=t))
        for text in ["A(CODE())", "A:\n CODE()", "class", "", "A\0", 3, None]
    },
    **{
        f"argument {value!r}": (
            "words",
            lambda h, v=value: node(h, "call_function")["args"]["tuple"].append(v),
        )
        for value in [
            {"device": "CODE()"},
            {"device": "cpu') + CODE() + ('"},
            {"dtype": "float32) + CODE("},
            {"dtype": "load"},
            {"dtype": "strided"},
            {"dtype": ["float32"]},
            {"layout": "hub"},
            {"memory_format": "__class__"},
            {"float": "CODE()"},
            {"float": "0x1p99999999"},
            {"float": 1},
            {"node": "CODE()"},
            {"node": ["x"]},
            {"slice": [1, 2]},
            {"code": "CODE()"},
            {"dict": [["a", 1, 2]]},
            {"dict": {"a": 1}},
            {"dict": [[{"list": []}, 1]]},
            {"tuple": 3},
            {"tuple": [], "list": []},
            {},
            [],
            "# COUNTER: 1",
        ]
    },
    "arguments in a list": ("words", lambda h: h["nodes"][-1].update(args={"list": [1]})),
    "two outputs": ("words", lambda h: h["nodes"].append({**h["nodes"][-1], "name": "more"})),
    "no output": ("words", lambda h: h["nodes"].pop()),
    "no nodes": ("words", lambda h: h.update(nodes=[])),
    "output of two": ("words", lambda h: h["nodes"][-1].update(args={"tuple": [1, 2]})),
    **{
        f"class {text}": ("layers", lambda h, t=text: h["modules"]["first"].update({"class": t}))
        for text in [
            "torch.nn.Module",
            "torch.nn.DataParallel",
            "torch.nn.Sequential",
            "torch.nn.LSTM",
            "torch.nn.Transformer",
            "torch.nn.LazyLinear",
            "torch.nn.Parameter",
            "torch.nn.modules",
            "torch.nn.__class__",
            "torch.jit.ScriptModule",
            "builtins.eval",
            "symfx.CODE",
            "CODE()",
        ]
    },
    **{
        f"option {key!r}": (
            "layers",
            lambda h, k=key, v=value: h["modules"]["first"]["options"].update({k: v}),
        )
        for key, value in [
            ("eps=CODE()", 1),
            ("device", "meta"),
            ("dtype", {"dtype": "float64"}),
            ("normalized_shape", {"tuple": [10**12]}),
            ("normalized_shape", {"tuple": [10**400]}),
            ("normalized_shape", 17),
            ("bias", {"node": "x"}),
        ]
    },
    **{
        f"fused {key} {value!r}": (
            "images",
            lambda h, k=key, v=value: h["modules"]["layers.0"]["options"].update({k: v}),
        )
        for key, value in [
            ("kind", "CODE"),
            ("kind", "Conv3d"),
            ("stride", [1]),
            ("stride", [0, 1]),
            ("stride", 1),
            ("padding", [-1, 1]),
            ("padding", ["CODE()", 1]),
            ("dilation", [2**40, 1]),
            ("output_padding", [True, 1]),
            ("groups", 0),
            ("groups", 5),
            ("adds", 1),
            ("second", None),
            ("accumulates", "yes"),
            ("post", None),
            ("post", {"name": "CODE", "scalars": [], "algorithm": ""}),
            ("post", {"name": "relu", "scalars": [1], "algorithm": ""}),
            ("post", {"name": "hardtanh", "scalars": [1], "algorithm": ""}),
            ("post", {"name": "leaky_relu", "scalars": ["1"], "algorithm": ""}),
            ("post", {"name": "leaky_relu", "scalars": [10**400], "algorithm": ""}),
            ("post", {"name": "gelu", "scalars": [], "algorithm": "CODE()"}),
            ("pool", {"kernel": [2], "stride": [1, 1], "padding": [0, 0], "ceil": False}),
            ("pool", {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0], "ceil": 0}),
            ("pool", {}),
            ("ways", [[[1, 3, 8, 8], "CODE"]]),
            ("ways", [[[1, 3, 8], "direct"]]),
            ("ways", [[[1, 3, 8, -8], "direct"]]),
            ("ways", [[1, "direct"]]),
            ("ways", [[]]),
            ("CODE", 1),
        ]
    },
    "module that is not called": (
        "images",
        lambda h: h["modules"].update(more=h["modules"]["layers.0"]),
    ),
    "dtype": ("words", lambda h: h.update(dtype="float64")),
    "no field": ("words", lambda h: h.pop("dtype")),
    "writer": ("words", lambda h: h.update(symfx="x" * 100)),
    "format": ("words", lambda h: h.update(format="CODE()")),
    "version": ("words", lambda h: h.update(version="3")),
}


@pytest.mark.parametrize("name", INJECTIONS)
def test_injections(folder: Path, tmp_path: Path, ran: list[Any], name: str) -> None:
    model, change = INJECTIONS[name]
    header, tensors = parts(folder / f"{model}.safetensors")
    before = copy.deepcopy(header)
    change(header)
    assert header != before
    path = tmp_path / "harm.safetensors"
    path.write_bytes(written(header, tensors))
    with pytest.raises(OptimizationError) as caught:
        load(path)
    assert str(path) in str(caught.value) and caught.value.fix
    assert not ran


@pytest.mark.parametrize(
    "text", ["')+CODE()+('", '")+CODE()+("', "x\n CODE()", "\\", "'''", "{CODE()}", "\0"]
)
def test_texts_stay_texts(folder: Path, tmp_path: Path, ran: list[Any], text: str) -> None:
    """Keys and values that are data may be any text: the generated source quotes them."""
    header, tensors = parts(folder / "everything.safetensors")
    output = header["nodes"][-1]["args"]["tuple"][0]["dict"]
    output[0][0] = text
    output.append(["value", text])
    path = tmp_path / "texts.safetensors"
    path.write_bytes(written(header, tensors))
    again = load(path)
    assert "CODE" not in names_in(again)
    found = again(torch.randn(2, 3, 8, 8))
    assert text in found and found["value"] == text
    assert not ran


def names_in(model: symfx.OptimizedModel) -> set[str]:
    """The names in the source that torch.fx generated."""
    tree = ast.parse(model.graph_module.code)
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


EXHAUSTING: dict[str, tuple[str, Change | str]] = {
    "five thousand digits": ("words", '{"version": ' + "9" * 5_000 + "}"),
    "digits behind the point": ("words", '{"version": 0.' + "9" * 5_000 + "}"),
    "nested": ("words", "[" * 100_000),
    "nested arguments": (
        "words",
        lambda h: node(h, "call_function")["args"]["tuple"].append(nested(30)),
    ),
    "layers": ("layers", lambda h: transformer(h, num_encoder_layers=10**7)),
    "more layers": (
        "layers",
        lambda h: transformer(h, num_decoder_layers=10**7, d_model=0, nhead=1),
    ),
    "wide": ("layers", lambda h: transformer(h, dim_feedforward=10**30)),
    "many values": ("words", "[" + "[]," * 2_000_000 + "1]"),
    "many nodes": ("words", lambda h: h.update(nodes=h["nodes"] * 10_000)),
    "many activations": ("words", lambda h: activations(h, 1_000)),
}


def nested(depth: int) -> Any:
    return {"tuple": [nested(depth - 1)]} if depth else 1


def transformer(header: Any, **options: Any) -> None:
    made = {"class": "torch.nn.Transformer", "options": {"batch_first": True, **options}}
    header["modules"]["attend"] = made


def activations(header: Any, count: int) -> None:
    """A linear layer over and over, each with a slope of its own."""
    called = node(header, "call_module", "query")
    for index in range(count):
        again = copy.deepcopy(header["modules"]["query"])
        post = {"name": "leaky_relu", "scalars": [index / count], "algorithm": ""}
        again["options"].update(post=post, ways=[])
        header["modules"][f"query{index}"] = again
        for name in ("weight", "bias"):
            header["tensors"][f"query{index}.{name}"] = header["tensors"][f"query.{name}"]
        more = {**called, "name": f"query{index}", "target": f"query{index}"}
        header["nodes"].insert(header["nodes"].index(called) + 1, more)


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhausting(folder: Path, tmp_path: Path, name: str) -> None:
    model, change = EXHAUSTING[name]
    header, tensors = parts(folder / f"{model}.safetensors")
    if isinstance(change, str):
        header = change
    else:
        change(header)
    path = tmp_path / "large.safetensors"
    path.write_bytes(written(header, tensors))
    start = time.process_time()
    with pytest.raises(OptimizationError):
        load(path)
    assert time.process_time() - start < 10


def test_a_header_of_any_length(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    content = (folder / "words.safetensors").read_bytes()
    for size in (0, 1, 65 << 20, 2**63, 2**64 - 1):
        path.write_bytes(size.to_bytes(8, "little") + content[8:])
        with pytest.raises(OptimizationError, match="cannot be read"):
            load(path)
    with pytest.raises(OptimizationError, match="cannot be read"):
        load(tmp_path)


class Named(nn.Module):
    """Parts under names that Python's syntax has no word for, and one under a name of torch's."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(2, 2)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (part,) = self.parts.values()
        return torch.sigmoid(part(x)) * 2


@pytest.mark.parametrize("name", ["0", "my-part", "a b", "a/b:c", "größe", "'"])
def test_parts_of_any_name(tmp_path: Path, name: str) -> None:
    model = symfx.optimize(Named(name).eval(), torch.ones(3, 2), measure=False)
    model.save(tmp_path / "named")
    x = torch.rand(4, 2)
    assert torch.equal(load(tmp_path / "named")(x), model(x))


def test_a_namedtuple_is_not_saved_as_a_tuple(tmp_path: Path) -> None:
    model = symfx.optimize(Pairs().eval(), torch.ones(3, 2), measure=False)
    assert type(model(torch.ones(1, 2))).__name__ == "Pair"
    with pytest.raises(OptimizationError, match="it calls 'Pair', which a file cannot name"):
        model.save(tmp_path / "pairs")
    with pytest.raises(OptimizationError, match="x has a Pair in it, which cannot be saved"):
        encode((Pair(torch.Size([1]), torch.Size([2])),), "x", OptimizationError)


class Pairs(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return Pair(x + 1, x + 2)


class Pair(NamedTuple):
    a: Any
    b: Any


SEARCHES = 10_000 if os.environ.get("SYMFX_LONG") else 300


def test_mutated_files(folder: Path) -> None:
    """Each loads or is refused, within ten seconds and a gigabyte, and none runs code."""
    found = file_fuzzing.run(Path(__file__).parent / "mutate_saved_models.py", folder, SEARCHES)
    assert found["loaded"] > SEARCHES // 50

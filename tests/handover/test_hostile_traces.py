"""Files of traces that were written to do harm: none runs code, hangs, or leaves by another error.

The long search of the last test is run by ``SYMFX_LONG=1 pytest tests/handover``.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mutate_traces import parts, written
from traced_programs import PROGRAMS

import file_fuzzing
import symfx
from symfx import TraceFileError

NAMES = ["mlp", "counter", "branches", "by-data", "nested", "guarded", "of-sizes", "tied"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("saved")
    for name in NAMES:
        t = PROGRAMS[name].trace()
        t.verify(shapes=1)
        t.save(found / f"{name}.symfx")
    return found


@pytest.fixture
def ran() -> Iterator[list[Any]]:
    """The arguments of the calls of the function ``CODE``."""
    calls: list[Any] = []
    builtins.CODE = lambda *args: calls.append(args)  # type: ignore[attr-defined]
    yield calls
    del builtins.CODE  # type: ignore[attr-defined]


def node(data: Any, op: str, target: str = "") -> Any:
    return next(n for n in data["graph"]["nodes"] if n["op"] == op and target in n["target"])


def moved(data: Any, old: str, new: str) -> None:
    """An attribute under another path, everywhere."""
    graph = data["graph"]
    graph["attributes"] = {k.replace(old, new): v for k, v in graph["attributes"].items()}
    for each in graph["nodes"]:
        if each["op"] == "get_attr":
            each["target"] = each["target"].replace(old, new)


def renamed(data: Any, name: str) -> None:
    """The input under another name, everywhere."""
    node(data, "placeholder").update(target=name)
    data["call"]["leaves"][0].update(name=name)
    data["call"]["parameters"][0].update(name=name)


Change = Callable[[Any], Any]
SYMBOL = {"sort": "int", "sources": [], "hint": 3, "least": 1, "size": False, "input": False}
INJECTIONS: dict[str, tuple[str, Change]] = {
    **{
        f"parameter {text!r}": ("mlp", lambda d, t=text: renamed(d, t))
        for text in ["x=CODE()", "x: CODE()", "*x", "x):\n CODE()\n#", "self", "lambda", "ｘ", ""]
    },
    **{
        f"node {text!r}": ("mlp", lambda d, t=text: d["graph"]["nodes"][2].update(name=t))
        for text in ["x=CODE()", "x\n", "CODE();x", "x y", "", "１x", "class", "x"]
    },
    **{
        f"keyword {text!r}": (
            "mlp",
            lambda d, t=text: node(d, "call_function", "addmm").update(kwargs={"dict": [[t, 1]]}),
        )
        for text in ["beta=CODE()) #", "class", "ｘ", "", "**CODE()"]
    },
    **{
        f"attribute {text!r}": ("mlp", lambda d, t=text: moved(d, "up", t))
        for text in [
            'a")+CODE()+getattr(self,"a',
            "CODE()#",
            "class",
            "_modules",
            "__class__",
            "forward",
            "graph",
            "recompile",
            "a." * 60 + "a",
            "# COUNTER: 1",
            "",
        ]
    },
    "attribute inside a tensor": (
        "mlp",
        lambda d: d["graph"]["attributes"].update(
            {"up.weight.more": d["graph"]["attributes"]["up.bias"]}
        ),
    ),
    **{
        f"function {text!r}": (
            "mlp",
            lambda d, t=text: node(d, "call_function", "addmm").update(target=t),
        )
        for text in [
            "CODE",
            "builtins.eval",
            "builtins.CODE",
            "operator.methodcaller",
            "operator.attrgetter",
            "operator.setitem",
            "operator.call",
            "math.__loader__",
            "torch.load",
            "torch.sym_max.__class__",
            "os.system",
            "aten.from_file.default",
            "aten.set_.source_Storage",
            "aten.set_.source_Tensor",
            "aten.record_stream.default",
            "aten._sparse_coo_tensor_unsafe.default",
            "aten._nested_view_from_buffer.default",
            "aten.fbgemm_pack_gemm_matrix_fp16.default",
            "aten.addmm",
            "aten.addmm.__class__",
            "aten.addmm.op",
            "aten.addmm._schema",
            "aten.__dict__.x",
            "aten.name.x",
            "prims.nothing.default",
            "higher_order.__class__",
            "higher_order.nothing",
            "_C.x.y",
            "profiler._record_function_exit._RecordFunction",
            "symprims.x.y",
            "",
        ]
    },
    **{
        f"argument {value!r}": (
            "mlp",
            lambda d, v=value: node(d, "call_function", "addmm")["args"]["tuple"].append(v),
        )
        for value in [
            {"device": "CODE()"},
            {"dtype": "float32) + CODE("},
            {"dtype": "load"},
            {"layout": "hub"},
            {"float": "CODE()"},
            {"complex": ["inf", "nan"]},
            {"complex": ["CODE()", "1"]},
            {"node": "CODE()"},
            {"node": "output"},
            {"code": "CODE()"},
            {"dict": [["a", 1, 2]]},
            {},
            [],
            "# COUNTER: 1",
        ]
    },
    **{
        f"name of the model {text!r}": ("mlp", lambda d, t=text: d["graph"].update(name=t))
        for text in ["A(CODE())", "A:\n CODE()", "class", "", "A\0", 3, None]
    },
    **{
        f"symbol {text!r}": (
            "mlp",
            lambda d, t=text: d["environment"]["symbols"].append(
                {"name": t, "cause": None, **SYMBOL}
            ),
        )
        for text in ["CODE()", "b) or CODE(", "b", "", "x y", "lambda"]
    },
    **{
        f"source {text!r}": (
            "mlp",
            lambda d, t=text: d["environment"]["inputs"][-1].update(source=t),
        )
        for text in ["CODE()", "x[CODE()]", "x.size(CODE())[0]", "x.__class__()", "x; CODE()", ""]
    },
    "source of a symbol": (
        "mlp",
        lambda d: d["environment"]["symbols"][0].update(sources=["x.size()[CODE()]"]),
    ),
    "term with a strange symbol": ("mlp", lambda d: d["terms"].append(["symbol", "q", "int"])),
    "term of a wrong form": ("mlp", lambda d: d["terms"].append(["__import__", 0])),
    "term that calls": ("mlp", lambda d: d["terms"].append(["call", "CODE", "int", 99])),
    "fact that is no condition": (
        "mlp",
        lambda d: d["environment"]["facts"].append(
            next(i for i, t in enumerate(d["terms"]) if t[0] == "symbol")
        ),
    ),
    "a contradiction": ("guarded", lambda d: contradiction(d)),
    "a fact beyond the list": ("mlp", lambda d: d["environment"]["facts"].append(10**6)),
    **{
        f"container {value!r}": (
            "mlp",
            lambda d, v=value: d["result"].update(structure=v),
        )
        for value in [
            {"named": "os.system", "children": ["*"]},
            {"named": "builtins.CODE", "children": ["*"]},
            {"named": "torch.return_types.CODE", "children": ["*"]},
            {"named": "builtins.tuple", "children": ["*"]},
            {"named": "antigravity.x", "children": []},
            {"registered": "CODE", "context": None, "children": ["*"]},
            {"registered": "builtins.dict", "context": None, "children": ["*"]},
            {
                "registered": "collections.defaultdict",
                "context": {"list": [None, {"list": []}]},
                "children": [],
            },
            {"set": ["*"]},
            {"dict": [["a", "*"], ["a", "*"]]},
            {"dict": [[{"list": []}, "*"]]},
            {"tuple": "*"},
            3,
        ]
    },
    **{
        f"default {value!r}": (
            "mlp",
            lambda d, v=value: d["call"]["parameters"][0].update(default=v),
        )
        for value in [{"code": 1}, {"value": {"node": "x"}}, 3]
    },
    **{
        f"tensor with {key} {value!r}": (
            "mlp",
            lambda d, k=key, v=value: d["graph"]["attributes"]["up.bias"]["tensor"].update({k: v}),
        )
        for key, value in [
            ("shape", [10**12]),
            ("shape", [-1]),
            ("shape", [17]),
            ("shape", [2] * 100),
            ("stride", [2]),
            ("stride", [0]),
            ("stride", [-1]),
            ("stride", [2**62]),
            ("offset", 2**40),
            ("offset", -1),
            ("dtype", "int64"),
            ("dtype", "load"),
            ("device", "cuda:99"),
            ("device", "CODE()"),
            ("data", "nothing"),
            ("requires_grad", 1),
            ("more", 1),
        ]
    },
    **{
        f"value {value!r}": (
            "mlp",
            lambda d, v=value: d["graph"]["values"].__setitem__(
                node(d, "call_function")["value"], v
            ),
        )
        for value in [
            {"number": {"term": 10**6}},
            {"number": "CODE()"},
            {"tensor": 1},
            {"dtype": "float32", "shape": [-5], "stride": [1], "offset": 0, "device": "cpu"},
            {"dtype": "float32", "shape": [1], "stride": [], "offset": 0, "device": "cpu"},
            3,
        ]
    },
    **{
        f"place of a value {place!r}": (
            "mlp",
            lambda d, p=place: node(d, "call_function").update(value=p),
        )
        for place in [10**6, -1, "CODE()", True, 1.0, {"number": 3}]
    },
    "two outputs": (
        "mlp",
        lambda d: d["graph"]["nodes"].append({**d["graph"]["nodes"][-1], "name": "more"}),
    ),
    "no output": ("mlp", lambda d: d["graph"]["nodes"].pop()),
    "no nodes": ("mlp", lambda d: d["graph"].update(nodes=[])),
    "a call of a module": ("mlp", lambda d: node(d, "call_function").update(op="call_module")),
    "a call of a method": ("mlp", lambda d: node(d, "call_function").update(op="call_method")),
    "a missing input": ("mlp", lambda d: d["call"]["leaves"].pop()),
    "an input of another name": ("mlp", lambda d: d["call"]["leaves"][0].update(name="y")),
    "a branch with code": (
        "branches",
        lambda d: d["graph"]["attributes"]["true_graph_0"]["graph"]["nodes"][0].update(
            target="x=CODE()"
        ),
    ),
    "a negative range": (
        "mlp",
        lambda d: d["call"]["leaves"][0].update(dynamic=[{"name": "b", "min": 9, "max": 3}, None]),
    ),
    "an unknown field": ("mlp", lambda d: d.update(code="CODE()")),
    "a missing field": ("mlp", lambda d: d.pop("notes")),
    "a list": ("mlp", lambda d: d.clear()),
}


def contradiction(data: Any) -> None:
    """Learn a fact and its opposite."""
    guard = data["environment"]["guards"][0]["condition"]
    data["terms"].append(["not", guard])
    data["environment"]["facts"].append(len(data["terms"]) - 1)


@pytest.mark.parametrize("name", INJECTIONS)
def test_injections(folder: Path, tmp_path: Path, name: str, ran: list[Any]) -> None:
    program, change = INJECTIONS[name]
    data, tensors = parts((folder / f"{program}.symfx").read_bytes())
    change(data)
    path = tmp_path / "changed"
    path.write_bytes(written(json.dumps(data), tensors))
    modules = set(sys.modules)
    with pytest.raises(TraceFileError) as caught:
        symfx.load(path)
    assert not ran
    assert str(path) in str(caught.value)
    assert "antigravity" not in set(sys.modules) - modules


TEXTS = ["\x1b[2J", "a\nguards: none", "\u202e"]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_a_file_do_not_reach_the_terminal(folder: Path, tmp_path: Path, text: str) -> None:
    data, tensors = parts((folder / "guarded.symfx").read_bytes())
    line = data["environment"]["guards"][0]["cause"]["line"]
    line.update(file=f"/a{text}b.py", text=text, function=text)
    data["notes"].append(text)
    path = tmp_path / "changed"
    path.write_bytes(written(json.dumps(data), tensors))
    t = symfx.load(path)
    shown = str(t) + str(t.check(torch.ones(3), 3))
    assert text not in shown and "guards: none" not in shown.splitlines()


def deep(depth: int) -> Any:
    return {"tuple": [deep(depth - 1)]} if depth else "*"


def branches(data: Any, depth: int) -> None:
    graph = data["graph"]["attributes"]["true_graph_0"]["graph"]
    text = json.dumps(graph)
    for _ in range(depth):
        graph["attributes"] = {"inner": {"graph": json.loads(text)}}
        graph = graph["attributes"]["inner"]["graph"]


EXHAUSTING: dict[str, tuple[str, Change]] = {
    "a deep structure": ("mlp", lambda d: d["result"].update(structure=deep(60))),
    "a power of powers": (
        "mlp",
        lambda d: d["terms"].extend(
            [["const", 10], *(["pow", len(d["terms"]) + i, len(d["terms"]) + i] for i in range(9))]
        ),
    ),
    "squares of squares": (
        "mlp",
        lambda d: d["terms"].extend(
            ["product", len(d["terms"]) - 1 + i, len(d["terms"]) - 1 + i] for i in range(40)
        ),
    ),
    "many nodes": ("mlp", lambda d: d["graph"].update(nodes=d["graph"]["nodes"] * 20_000)),
    "many symbols": (
        "mlp",
        lambda d: d["environment"].update(
            symbols=[{"name": f"v{i}", "cause": None, **SYMBOL} for i in range(100_000)]
        ),
    ),
    "graphs in graphs": ("branches", lambda d: branches(d, 20)),
    "a tensor of many terms": (
        "mlp",
        lambda d: node(d, "call_function").update(
            value={
                "dtype": "float32",
                "shape": [10**18, 10**18],
                "stride": [10**18, 1],
                "offset": 0,
                "device": "cpu",
            }
        ),
    ),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_exhausting(folder: Path, tmp_path: Path, name: str) -> None:
    program, change = EXHAUSTING[name]
    data, tensors = parts((folder / f"{program}.symfx").read_bytes())
    change(data)
    path = tmp_path / "large"
    path.write_bytes(written(json.dumps(data), tensors))
    start = time.process_time()
    with pytest.raises(TraceFileError):
        symfx.load(path)
    assert time.process_time() - start < 10


def archive_of(*members: tuple[str, bytes, int]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content, how in members:
            archive.writestr(name, content, how)
    return file.getvalue()


def test_archives_that_unpack_to_more_than_they_say(folder: Path, tmp_path: Path) -> None:
    content = (folder / "mlp.symfx").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text, tensors = archive.read("trace.json"), archive.read("tensors.safetensors")
    stored, packed = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    bomb = b"0" * (300 << 20)
    cases = {
        "text": archive_of(("trace.json", bomb, packed), ("tensors.safetensors", tensors, stored)),
        "tensors": archive_of(("trace.json", text, packed), ("tensors.safetensors", bomb, packed)),
        "bzip2": archive_of(
            ("trace.json", text, zipfile.ZIP_BZIP2), ("tensors.safetensors", tensors, stored)
        ),
        "more members": archive_of(
            ("trace.json", text, packed),
            ("tensors.safetensors", tensors, stored),
            ("../../evil.py", b"CODE()", stored),
        ),
        "a header of tensors that is too long": archive_of(
            ("trace.json", text, packed),
            ("tensors.safetensors", (2**62).to_bytes(8, "little") + tensors[8:], stored),
        ),
        "no tensors": archive_of(("trace.json", text, packed)),
        "half a file": content[: len(content) // 2],
        "nothing": b"",
    }
    del bomb
    path = tmp_path / "t"
    for name, made in cases.items():
        path.write_bytes(made)
        start = time.process_time()
        with pytest.raises(TraceFileError):
            symfx.load(path)
        assert time.process_time() - start < 10, name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


SEARCHES = 10_000 if os.environ.get("SYMFX_LONG") else 300


def test_mutated_files(folder: Path) -> None:
    """Each loads or is refused, within ten seconds and a gigabyte, and none runs code."""
    found = file_fuzzing.run(Path(__file__).parent / "mutate_traces.py", folder, SEARCHES)
    assert found["loaded"] > SEARCHES // 50

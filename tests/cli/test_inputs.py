"""The grammar of inputs, the examples made from it, and the loading of models."""

import itertools
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symfx import SpecError, TargetError
from symfx.cli.example_calls import arrange, make_inputs
from symfx.cli.inputs import ConstantSpec, DimSpec, IntSpec, TensorSpec, parse
from symfx.cli.models import load, read_init
from symfx.dtypes import LONG_NAMES


def make(*texts, seed=0):
    return make_inputs([parse(text) for text in texts], seed)


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        (
            "x: f32[batch, seq=7, 64]",
            TensorSpec("x", "float32", (DimSpec("batch"), DimSpec("seq", 7), DimSpec(None, 64))),
        ),
        ("x:f32[]", TensorSpec("x", "float32", ())),
        ("  x : i64 [ n ] < 100 ", TensorSpec("x", "int64", (DimSpec("n"),), 100)),
        ("m: bool[n]", TensorSpec("m", "bool", (DimSpec("n"),))),
        ("x: float64[3]", TensorSpec("x", "float64", (DimSpec(None, 3),))),
        ("x: half[3]", TensorSpec("x", "float16", (DimSpec(None, 3),))),
        ("x: int[3]", TensorSpec("x", "int32", (DimSpec(None, 3),))),
        ("x: f32[true]", TensorSpec("x", "float32", (DimSpec("true"),))),
        ("x: f32[4<=n]", TensorSpec("x", "float32", (DimSpec("n", None, 4, None),))),
        ("x: f32[4<=n=8<=512]", TensorSpec("x", "float32", (DimSpec("n", 8, 4, 512),))),
        ("x: f32[n<=512]", TensorSpec("x", "float32", (DimSpec("n", None, None, 512),))),
        ("n: int", IntSpec("n")),
        ("n: int=5", IntSpec("n", 5)),
        ("n: int = -5", IntSpec("n", -5)),
        ("flag: bool=true", ConstantSpec("flag", True)),
        ("flag: bool=False", ConstantSpec("flag", False)),
        ("p: float=0.5", ConstantSpec("p", 0.5)),
        ("p: float=2", ConstantSpec("p", 2.0)),
        ("mode: str='a b'", ConstantSpec("mode", "a b")),
        ("n: 5", ConstantSpec("n", 5)),
        ("p: -1e-3", ConstantSpec("p", -1e-3)),
        ("mask: none", ConstantSpec("mask", None)),
        ("flag: true", ConstantSpec("flag", True)),
        ('mode: "mean"', ConstantSpec("mode", "mean")),
    ],
)
def test_what_can_be_written(text, spec):
    read = parse(text)
    assert read == spec
    if isinstance(spec, ConstantSpec):
        assert type(read.value) is type(spec.value)


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("", "expected the name of an input, found the end", 0),
        ("x", "expected ':' after the name 'x', found the end", 1),
        ("x:", "expected a type or a value, found the end", 2),
        ("3: f32[2]", "expected the name of an input, found '3'", 0),
        ("x: f33[2]", "'f33' is not a dtype; did you mean f32?", 3),
        ("x: thing", "'thing' is not a dtype", 3),
        ("x: f32", "expected '[' after the dtype f32, found the end", 6),
        ("x: f32[", "expected a size or the name of a dimension, found the end", 7),
        ("x: f32[2", "expected ']' after the last dimension, found the end", 8),
        ("x: f32[2,]", "expected a size or the name of a dimension, found ']'", 9),
        ("x: f32[2 3]", "expected ']' after the last dimension, found '3'", 9),
        ("x: f32[2.5]", "expected a size, found '2.5'", 7),
        ("x: f32[-1]", "a size cannot be negative", 7),
        ("x: f32[n=-1]", "a size cannot be negative", 9),
        ("x: f32[n=]", "expected the example size of n, found ']'", 9),
        ("x: f32[n=2=3]", "n is described twice", 11),
        ("x: f32[n<=2<=3]", "n is described twice", 13),
        ("x: f32[2<=3]", "expected a size or the name of a dimension, found '3'", 10),
        ("x: f32[n] < 3", "only integers can be bounded, and these are float32", 10),
        ("x: i64[n] <", "expected the bound of the values, found the end", 11),
        ("x: i64[n] < 0", "int64 values below 0 cannot be drawn", 12),
        ("x: u8[n] < 257", "uint8 values below 257 cannot be drawn", 11),
        ("x: f32[n] extra", "expected nothing more, found 'extra'", 10),
        ("x: f32[n] @", "'@' is not part of the grammar here", 10),
        ("x: f32[n; m]", "';' is not part of the grammar here", 8),
        ("p: float", "the float 'p' needs a value", 8),
        ("flag: bool", "the bool 'flag' needs a value", 10),
        ("flag: bool=1", "1 is not a bool", 11),
        ("n: int=2.5", "expected an int, found '2.5'", 7),
        ("n: int=five", "expected an int, found 'five'", 7),
    ],
)
def test_mistakes_are_pointed_at(text, message, caret):
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.what == message
    _, shown, pointer = caught.value.where.split("\n")
    assert shown[6:] == text
    assert pointer == " " * (6 + caret) + "^"
    assert caught.value.fix


@settings(deadline=None)
@given(st.text(alphabet="xnf32i64bool[],:=<> -.'\"\t\nτ", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        spec = parse(text)
    except SpecError:
        return
    assert spec.name


@settings(deadline=None)
@given(st.lists(st.sampled_from(["batch", "seq=7", "3", "0", "2<=k<=9", "k"]), max_size=4))
def test_what_is_read_has_the_shape_that_was_written(dims):
    values, _ = make(f"x: f32[{', '.join(dims)}]")
    shape = values["x"].shape
    assert len(shape) == len(dims)
    for size, dim in zip(shape, dims, strict=True):
        assert dim not in ("3", "0") or size == int(dim)
        assert dim != "seq=7" or size == 7


# -- making ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short", "long"), LONG_NAMES.items())
def test_every_dtype_is_made(short, long):
    for name in (short, long):
        values, _ = make(f"x: {name}[n, 5]")
        assert values["x"].dtype is getattr(torch, long)


def test_examples_differ_from_each_other_and_from_static_sizes():
    values, dynamic = make("x: f32[a, b, 3, 7]", "y: i64[c, a, d=5]", "n: int", "m: int=11")
    a, b = values["x"].shape[:2]
    c, a_again, d = values["y"].shape
    assert a == a_again and d == 5 and values["m"] == 11
    sizes = [a, b, c, d, values["n"], values["m"]]
    assert all(n > 2 for n in sizes)
    assert len({*sizes, 3, 7}) == len(sizes) + 2
    assert [e.name if e else None for e in dynamic["x"]] == ["a", "b", None, None]
    assert dynamic["n"].name == "n" and dynamic["m"].name == "m"


def test_ranges_of_a_name_are_gathered_from_all_inputs():
    values, dynamic = make("x: f32[4<=n]", "y: f32[n<=4]")
    assert values["x"].shape == values["y"].shape == (4,)
    assert (dynamic["x"][0].min, dynamic["x"][0].max) == (4, 4)
    values, _ = make("x: f32[a<=3, b<=3, c<=3]")
    assert sorted(values["x"].shape) in ([2, 3, 3], [2, 2, 3])


def test_integers_are_small_unless_told():
    values, _ = make("ids: i64[100]", "pixels: u8[1000] < 256", "rows: i32[1000] < 10")
    assert set(values["ids"].tolist()) == {0, 1}
    assert values["pixels"].max() > 200
    assert set(values["rows"].tolist()) == set(range(10))


def test_the_seed_decides():
    one, again, other = (make("x: f32[n]", seed=seed)[0]["x"] for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x: f32[n]", "x: f32[n]"], "the input 'x' is described twice"),
        (["x: f32[n=3]", "y: f32[n=4]"], "'n' has two values for its example: 3 and 4"),
        (["x: f32[n<=3, n<=4]"], "'n' has two values for its largest size: 3 and 4"),
        (["x: f32[3<=n, 4<=n]"], "'n' has two values for its smallest size: 3 and 4"),
        (["x: f32[9<=n<=4]"], "at least 9 and at most 4"),
    ],
)
def test_inputs_that_contradict_each_other(texts, message):
    with pytest.raises(SpecError, match=message):
        make(*texts)


def test_arranging_by_the_models_own_order():
    def model(a, /, b, c=3, *, d=4, **more):
        return a, b, c, d, more

    values = {"d": 1, "b": 2, "a": 3, "z": 5}
    args, kwargs = arrange(model, values)
    assert model(*args, **kwargs) == (3, 2, 3, 1, {"z": 5})
    assert arrange(torch.nn.ReLU(), {"input": 1}) == ((1,), {})
    assert arrange(torch.add, {"q": 1, "p": 2}) == ((1, 2), {})
    with pytest.raises(SpecError, match="the model needs an input 'a'"):
        arrange(model, {"b": 1})
    with pytest.raises(SpecError, match="the model has no input 'y'") as caught:
        arrange(lambda x: x, {"x": 1, "y": 2})
    assert caught.value.fix == "its inputs are x"


# -- loading -------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a Python file; what it puts into sys.path and sys.modules goes with the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    count = itertools.count()

    def file(text, name=None):
        path = tmp_path / (name or f"door_models_{tmp_path.name}_{next(count)}.py")
        path.write_text(textwrap.dedent(text))
        return str(path)

    return file


MODELS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=4, *, bias=True):
            super().__init__()
            self.lin = nn.Linear(width, width, bias=bias)
        def forward(self, x):
            return self.lin(x)

    class Outer:
        Net = Net

    def build(width=4):
        return Net(width)

    def relu(x):
        return x.relu()

    net = Net(7)
    number = 3

    def refuse(width):
        raise RuntimeError("no such width")

    def returns_nothing():
        return None
"""


def test_what_a_target_may_be(write):
    path = write(MODELS)
    assert load(f"{path}:Net").lin.weight.shape == (4, 4)
    assert load(f"{path}:Net", ["width=5", "bias=false"]).lin.bias is None
    assert load(f"{path}:Outer.Net", ["width=5"]).lin.weight.shape == (5, 5)
    assert load(f"{path}:build", ["width=6"]).lin.weight.shape == (6, 6)
    assert load(f"{path}:build()").lin.weight.shape == (4, 4)
    assert load(f"{path}:build")(3).lin.weight.shape == (3, 3), "without --init it is the model"
    assert load(f"{path}:net").lin.weight.shape == (7, 7)
    assert load(f"{path}:relu")(torch.tensor(-1.0)) == 0
    assert load("torch.nn.functional:relu") is torch.nn.functional.relu


def test_a_file_sees_its_neighbours_and_a_module_the_current_directory(write, tmp_path):
    write("width = 9", name=f"beside_{tmp_path.name}.py")
    path = write(f"from beside_{tmp_path.name} import width\nf = lambda x: x * width")
    assert load(f"{path}:f")(1) == 9
    write("f = abs", name=f"named_{tmp_path.name}.py")
    assert load(f"named_{tmp_path.name}:f") is abs


@pytest.mark.parametrize(
    ("target", "init", "message"),
    [
        ("net", [], "'net' is not a target"),
        (":net", [], "':net' is not a target"),
        ("{}:", [], "is not a target"),
        ("nowhere.py:net", [], "there is no file nowhere.py"),
        ("no_such_module:net", [], "there is no module no_such_module"),
        ("torch.no_such:net", [], "there is no module torch.no_such"),
        ("..torch:net", [], "is not the name of a module"),
        ("{}:nett", [], "has no attribute 'nett'"),
        ("{}:Net.nothing", [], "has no attribute 'Net.nothing'"),
        ("{}:number", [], "is a int, which cannot be called"),
        ("{}:returns_nothing()", [], "is a NoneType, which cannot be called"),
        ("{}:net", ["width=3"], "net is a Net and needs no building"),
        ("{}:Net", ["depth=3"], "Net cannot be built: got an unexpected keyword argument 'depth'"),
        ("{}:refuse", [], None),
        ("{}:refuse", ["width=3"], "refuse cannot be built: RuntimeError: no such width"),
        ("{}:Net", ["width"], "'width' is not name=value"),
        ("{}:Net", ["=3"], "'=3' is not name=value"),
        ("{}:Net", ["width=3", "width=4"], "'width' is given twice"),
    ],
)
def test_targets_that_cannot_be_loaded(write, target, init, message):
    path = write(MODELS)
    if message is None:
        assert callable(load(target.format(path), init))
        return
    with pytest.raises(TargetError) as caught:
        load(target.format(path), init)
    assert message in caught.value.what
    assert caught.value.where and caught.value.fix


def test_near_names_are_suggested(write):
    path = write(MODELS)
    with pytest.raises(TargetError) as caught:
        load(f"{path}:Nett")
    assert caught.value.fix == "did you mean Net?"
    with pytest.raises(TargetError) as caught:
        load(f"{path}:zzz")
    assert "Net" in caught.value.fix and "relu" in caught.value.fix


@pytest.mark.parametrize(
    ("code", "line", "message"),
    [
        ("x = 1\ny = x / 0\n", "y = x / 0", "ZeroDivisionError: division by zero"),
        ("x = 1\ndef f(:\n", "def f(:", "SyntaxError: invalid syntax"),
        ("\nimport no_such_thing\n", "import no_such_thing", "ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "sys.exit(3)", "SystemExit"),
    ],
)
def test_errors_in_the_users_file_show_their_line(write, code, line, message):
    path = write(code)
    with pytest.raises(TargetError) as caught:
        load(f"{path}:f")
    assert message in caught.value.what
    assert f":2: {line}" in caught.value.where
    name = path.rpartition("/")[2]
    assert name in caught.value.where
    module = name.removesuffix(".py")
    assert module not in sys.modules
    with pytest.raises(TargetError) as caught:
        load(f"{module}:f")
    assert message in caught.value.what and f":2: {line}" in caught.value.where


def test_values_are_literals_and_never_run():
    assert read_init(
        ["a=1", "b=-2.5", "c=text", "d='3'", "e=(1, 2)", "f=None", "g=TRUE", "h=", "i=a=b"]
    ) == {
        "a": 1,
        "b": -2.5,
        "c": "text",
        "d": "3",
        "e": (1, 2),
        "f": None,
        "g": True,
        "h": "",
        "i": "a=b",
    }
    assert read_init(["a=__import__('os').getpid()"]) == {"a": "__import__('os').getpid()"}

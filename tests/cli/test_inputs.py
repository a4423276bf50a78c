"""The examples made from described inputs, and the loading of models."""

import itertools
import sys
import textwrap

import pytest
import torch

from symfx import SpecError, TargetError
from symfx.cli.example_calls import arrange, make_inputs
from symfx.cli.models import load, read_init
from symfx.dtypes import LONG_NAMES
from symfx.shape_language import parse_condition, parse_input
from symfx.shape_language.texts import Text
from symfx.tracing.stated import Stated


def make(*texts, seed=0, where=()):
    stated = [Stated(parse_condition(text, "--where"), Text(text, "--where")) for text in where]
    return make_inputs([parse_input(text) for text in texts], seed, stated)


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
    assert [str(part) for part in dynamic["x"]] == ["a", "b", "3", "7"]
    assert str(dynamic["n"]) == "n" and str(dynamic["m"]) == "m"


def test_ranges_of_a_name_are_gathered_from_all_inputs():
    values, dynamic = make("x: f32[4<=n]", "y: f32[n<=4]")
    assert values["x"].shape == values["y"].shape == (4,)
    assert [str(dynamic[name][0]) for name in "xy"] == ["4 <= n", "n <= 4"]
    values, _ = make("x: f32[a<=3, b<=3, c<=3]")
    assert sorted(values["x"].shape) in ([2, 3, 3], [2, 2, 3])


def test_expressions_have_the_sizes_that_their_names_give():
    values, _ = make("x: f32[8*b, b + c]", "y: f32[c, min(b, c)]")
    b, c = values["x"].shape[0] // 8, values["y"].shape[0]
    assert values["x"].shape == (8 * b, b + c) and values["y"].shape == (c, min(b, c))
    assert b != c
    with pytest.raises(SpecError, match=r"2 - b is -\d+ for b=\d+, in x"):
        make("x: f32[b, 2 - b]")


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        (["h % 8 == 0"], lambda h, w: h % 8 == 0 and w == 5),
        (["h == w"], lambda h, w: h == w),
        (["h in {224, 256}", "w <= h // 4"], lambda h, w: h in (224, 256) and w <= h // 4),
        (["h + w <= 8"], lambda h, w: h + w <= 8),
        (["h*w % 7 == 0 and not h == 7"], lambda h, w: h * w % 7 == 0 and h != 7),
        (["3 <= h < w <= 4"], lambda h, w: (h, w) == (3, 4)),
    ],
)
def test_example_sizes_satisfy_stated_conditions(where, fits):
    values, _ = make("x: f32[h, w]", where=where)
    assert fits(*values["x"].shape)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("x: f32[5 - 2*b, 8]", (1, 8)),
        ("x: f32[9 - b, 8]", (6, 8)),
        ("x: f32[2*b - 6, b, c - 3]", (2, 4, 2)),
    ],
)
def test_expressions_get_sizes_that_are_no_special_ones(text, shape):
    values, _ = make(text)
    assert values["x"].shape == shape


def test_conditions_that_no_sizes_satisfy():
    with pytest.raises(SpecError, match="no sizes of h were found for which h < 3 and h > 4 hold"):
        make("x: f32[h]", where=["h < 3", "h > 4"])
    with pytest.raises(SpecError, match="no input has a dimension named k"):
        make("x: f32[h]", where=["k == 2"])


def test_parts_of_inputs_are_put_together():
    values, dynamic = make(
        "batch.ids: i64[b, s]",
        "batch['mask']: bool[b, s]",
        "xs[1]: f32[b]",
        "xs[0]: f32[3]",
        "pair: (f32[b], {n: int})",
    )
    assert list(values) == ["batch", "xs", "pair"]
    assert values["batch"]["ids"].shape == values["batch"]["mask"].shape
    assert [x.shape[0] for x in values["xs"]] == [3, values["batch"]["ids"].shape[0]]
    assert isinstance(values["pair"], tuple) and isinstance(values["pair"][1]["n"], int)
    assert str(dynamic["pair"][1]["n"]) == "pair_1_n"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x: f32[n]", "x.a: f32[n]"], "the input 'x' is described twice: as float32\\[n\\]"),
        (["x.a: f32[n]", "x: f32[n]"], "the input 'x' is described twice"),
        (["x.a: f32[n]", "x[0]: f32[n]"], "x is described both as a list and as a dict"),
        (["x[1]: f32[n]"], "x\\[1\\] is described, but x\\[0\\] is not"),
        (["x: f32[?]"], "x has a dimension \\?, so symfx cannot make an example of it"),
        (["x: f32[..., 3]"], "x has a dimension \\.\\.\\., so symfx cannot make an example of it"),
        (["x"], "x has no type"),
    ],
)
def test_parts_that_do_not_fit_together(texts, message):
    with pytest.raises(SpecError, match=message):
        make(*texts)


def test_leading_dimensions_of_an_example_are_two():
    values, dynamic = make("x: f32[*lead, 4]", "y: f32[*lead]")
    assert values["x"].shape == (*values["y"].shape, 4) and values["y"].dim() == 2
    assert [str(part) for part in dynamic["x"]] == ["lead_0", "lead_1", "4"]


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
        ("net", [], "'net' does not name a model"),
        (":net", [], "':net' does not name a model"),
        ("{}:", [], "does not name a model"),
        ("nowhere.py:net", [], "there is no file nowhere.py"),
        ("no_such_module:net", [], "there is no module no_such_module"),
        ("torch.no_such:net", [], "there is no module torch.no_such"),
        ("..torch:net", [], "is not the name of a module"),
        ("{}:nett", [], "has no attribute 'nett'"),
        ("{}:Net.nothing", [], "has no attribute 'Net.nothing'"),
        ("{}:number", [], "is a int, which cannot be called"),
        ("{}:returns_nothing()", [], "is a NoneType, which cannot be called"),
        ("{}:net", ["width=3"], "net is an instance of Net, which takes no arguments"),
        ("{}:Net", ["depth=3"], "Net cannot be built: got an unexpected keyword argument 'depth'"),
        ("{}:refuse", [], None),
        ("{}:refuse", ["width=3"], "refuse cannot be built: RuntimeError: no such width"),
        ("{}:net()", [], "net is an instance of Net, which takes no arguments"),
        ("{}:Net(depth=3)", [], "Net cannot be built: got an unexpected keyword argument 'depth'"),
        ("{}:Net(width=len('abc'))", [], "the argument len('abc') is no literal"),
        ("{}:Net(**{{}})", [], "** is no argument that can be read"),
        ("{}:Net()()", [], "()() cannot be read as arguments"),
        ("{}:Net(width=3)", ["width=3"], "'width' is given twice"),
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


def test_arguments_stand_behind_the_name():
    assert repr(load("torch.nn:Linear(8, 4, bias=False)")) == repr(
        torch.nn.Linear(8, 4, bias=False)
    )
    made = load("torch.nn:Linear(8)", ["out_features=2"])
    assert made.weight.shape == (2, 8)
    assert load("torch.nn:Sequential()")(3) == 3


def test_a_loss_is_named_as_one():
    assert load("torch.nn:CrossEntropyLoss(ignore_index=-1)", option="--loss").ignore_index == -1
    with pytest.raises(TargetError) as caught:
        load("nn.CrossEntropyLoss()", option="--loss")
    assert caught.value.what == "'nn.CrossEntropyLoss()' does not name a loss"
    assert caught.value.where == "--loss" and "torch.nn:CrossEntropyLoss" in caught.value.fix


def test_a_function_without_arguments_makes_a_loss(write):
    path = write("from torch import nn\ndef make(): return nn.NLLLoss()")
    assert repr(load(f"{path}:make", option="--loss")) == "NLLLoss()"


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

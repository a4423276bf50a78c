"""What a trace depends on changes its key, or is refused; nothing else changes the key.

A wrong hit is the worst fault of a cache. Each mutation here changes one thing that the program of
`cached_programs` can reach, and must not find the trace of the program as it was.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import math
import os
import random
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cached_programs import HELPERS, PROGRAM, load
from torch import nn

import symfx

Mutation = Callable[[Any, Any], Any]
X = torch.arange(24.0).reshape(3, 8)


def traced(model: Any, folder: Path, x: torch.Tensor = X, **options: Any) -> symfx.Trace:
    options = {"dynamic": {"x": ("n", None)}, **options}
    return symfx.trace(model, (x,), cache=folder / "cache", **options)


def stored(folder: Path) -> tuple[types.ModuleType, Any]:
    """The program, and a model of it whose trace is in the cache."""
    program = load(folder)
    first = traced(program.Model(), folder)
    assert str(first.cache_use) == "stored in the cache"
    return program, program.Model()


def _setattr(path: str, value: Any) -> Mutation:
    def change(program: Any, model: Any) -> None:
        *way, last = path.split(".")
        owner = {"program": program, "model": model, "helpers": program.helpers}[way[0]]
        setattr(functools.reduce(getattr, way[1:], owner), last, value)

    return change


def _hook(program: Any, model: Any) -> None:
    model.first.register_forward_hook(lambda module, args, result: result * 2)


def _pre_hook(program: Any, model: Any) -> None:
    model.second.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


def _tied(program: Any, model: Any) -> None:
    model.second.weight = model.first.weight


def _untied_view(program: Any, model: Any) -> None:
    model.second.weight = nn.Parameter(model.first.weight.detach())


def _closure(program: Any, model: Any) -> None:
    model.power = program.made(3)


def _cell(program: Any, model: Any) -> None:
    model.power.__closure__[0].cell_contents = 4


def _default(program: Any, model: Any) -> None:
    model.power.__defaults__ = (7,)


def _kw_default(program: Any, model: Any) -> None:
    model.power.__kwdefaults__ = {"more": 2}


def _subclass(program: Any, model: Any) -> Any:
    class Model(program.Model):
        def twist(self, x: Any) -> Any:
            return x - 3

    return Model()


def _method_of_object(program: Any, model: Any) -> None:
    model.twist = types.MethodType(lambda self, x: x * 9, model)


def _method_of_class(program: Any, model: Any) -> None:
    program.Base.twist = lambda self, x: x * 9


def _strides(program: Any, model: Any) -> None:
    model.first.weight = nn.Parameter(model.first.weight.detach().t().contiguous().t())


def _swap_methods(program: Any, model: Any) -> None:
    program.Base.twist, program.Base.turn = program.Base.turn, program.Base.twist


def _elements(program: Any, model: Any) -> None:
    with torch.no_grad():
        model.plain[0] = 7.0


def _new_code(program: Any, model: Any) -> None:
    program.scaled.__code__ = program.helpers.unused.__code__


def _wrapped(program: Any, model: Any) -> None:
    own = program.scaled
    program.scaled = functools.wraps(own)(lambda x: own(x) + 1)


def _slot(program: Any, model: Any) -> None:
    model.slotted.value = 3


MUTATIONS: dict[str, Mutation] = {
    "a slot": _slot,
    "a property of a metaclass": _setattr("program.Meta.size", property(lambda cls: 7)),
    "an attribute of an inner class": _setattr("program.Model.Inner.k", 6),
    "a member of a mutable default": lambda p, m: p.Model.shifted.__defaults__[0].append(3),
    "what __getattr__ gives": lambda p, m: m.store.update(hidden=8),
    "a member of a registry": lambda p, m: p.REGISTRY.update(first=lambda x: x * 9),
    "a parametrization": lambda p, m: setattr(m.third.parametrizations.weight[0], "k", 5),
    "an attribute": _setattr("model.note", 1),
    "a new attribute": _setattr("model.extra", 1),
    "a text": _setattr("model.name", "sigmoid"),
    "the type of a number": _setattr("model.config.inner.width", 2.0),
    "a truth for a number": _setattr("model.config.inner.width", True),
    "minus zero": lambda program, model: _setattr("model.note", -0.0)(program, model),
    "a nested attribute": _setattr("model.config.inner.width", 3),
    "a member of a dict": lambda program, model: model.config.layers.update(first=2),
    "the order of a dict": lambda p, m: setattr(m.config, "layers", {"z": 0, "first": 1}),
    "a member of a list": lambda program, model: model.order.append("c"),
    "the order of a list": lambda program, model: model.order.reverse(),
    "a member of a set": lambda program, model: model.flags.add("off"),
    "a member of an enumeration": lambda p, m: setattr(m.config, "kind", p.Kind.SUB),
    "a global": _setattr("program.FACTOR", 6),
    "a global list": lambda program, model: program.OFFSETS.append(3),
    "a global of another module": _setattr("helpers.SCALE", 4),
    "a dict of another module": lambda program, model: program.helpers.TABLE.update(a=9),
    "a helper function": _setattr("program.scaled", lambda x: x * 2),
    "a wrapped helper": _wrapped,
    "the code of a helper": _new_code,
    "another closure": _closure,
    "the content of a cell": _cell,
    "a default": _default,
    "a keyword's default": _kw_default,
    "a forward hook": _hook,
    "a forward pre-hook": _pre_hook,
    "train mode": lambda program, model: model.train(),
    "train mode of a part": lambda program, model: model.drop.train(),
    "a rate": _setattr("model.drop.p", 0.25),
    "an epsilon": _setattr("model.norm.eps", 1e-3),
    "the dtype": lambda program, model: model.double(),
    "tied weights": _tied,
    "shared memory": _untied_view,
    "a frozen weight": lambda program, model: model.first.weight.requires_grad_(False),
    "strides of a weight": _strides,
    "no bias": _setattr("model.first.bias", None),
    "another layer": lambda p, m: setattr(m, "norm", nn.Identity()),
    "another width of a part": lambda p, m: setattr(m, "second", nn.Linear(8, 1)),
    "a subclass": _subclass,
    "a method of the object": _method_of_object,
    "a method of the class": _method_of_class,
    "a method of the class by another": _swap_methods,
    "a static method": _setattr("program.Base.fixed", staticmethod(lambda x: x)),
    "a property": _setattr("program.Config.doubled", property(lambda self: 11)),
    "an attribute of the class": _setattr("program.Base.steps", 1),
    "a class attribute hidden": _setattr("model.steps", 1),
    "a partial": lambda p, m: setattr(m, "partial", functools.partial(torch.add, alpha=3)),
    "elements of a plain tensor": _elements,
    "a buffer for a plain tensor": lambda p, m: m.register_buffer("other", torch.zeros(2)),
    "a buffer's dtype": lambda p, m: setattr(m, "table", torch.arange(8)),
    "a parameter as a plain attribute": lambda p, m: m.__dict__.update(alias=m.first.weight),
    "forward of the object": lambda p, m: setattr(m, "forward", lambda x: x),
    "another class": lambda p, m: setattr(m, "__class__", type("Model", (p.Model,), {})),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_of_the_program_is_no_hit(name: str, tmp_path: Path) -> None:
    program, model = stored(tmp_path)
    assert traced(program.Model(), tmp_path).cache_use.hit
    changed = MUTATIONS[name](program, model)
    model = changed if isinstance(changed, program.Model) else model
    x = X.double() if name == "the dtype" else X
    assert not traced(model, tmp_path, x).cache_use.hit


EDITS = {
    "the body of a method": ("x + 1\n\n    def turn", "x + 2\n\n    def turn"),
    "a constant in forward": ("* scale + math.pi", "* scale + math.e"),
    "the order of two statements": (
        "x = self.norm(self.first(x))",
        "x = self.first(self.norm(x))",
    ),
    "a decorator": ("    @decorated\n", ""),
    "what a decorator does": ("function(*args) + 1", "function(*args) + 2"),
    "a cached function": ("return n + FACTOR", "return n - FACTOR"),
    "a base class": ("class Model(Base)", "class Other(Base):\n    pass\n\n\nclass Model(Other)"),
    "a method that does not run": ("return x - 1", "return x - 2"),
    "a field's default": ("width: int = 2", "width: int = 4"),
    "an operator": ("x ** power", "x * power"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_file_is_no_hit(name: str, tmp_path: Path) -> None:
    stored(tmp_path)
    before, after = EDITS[name]
    assert before in PROGRAM
    edited = load(tmp_path, PROGRAM.replace(before, after))
    assert not traced(edited.Model(), tmp_path).cache_use.hit


def test_an_edit_of_a_module_that_is_imported_is_no_hit(tmp_path: Path) -> None:
    stored(tmp_path)
    edited = load(tmp_path, helpers=HELPERS.replace("x * SCALE", "x + SCALE"))
    assert not traced(edited.Model(), tmp_path).cache_use.hit


def test_functions_of_torch_in_whose_place_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = stored(tmp_path)
    own = F.relu
    for owner, name, value in (
        (F, "relu", lambda x, inplace=False: own(x) + 1),
        (F, "linear", lambda x, weight, bias=None: x @ weight),
        (torch, "relu", torch.sigmoid),
        (math, "pi", 3.0),
        (nn.Linear, "forward", lambda self, x: x),
        (nn.LayerNorm, "forward", nn.Identity.forward),
        (nn.Module, "__call__", lambda self, x: x),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert not traced(model, tmp_path).cache_use.hit, name
    assert traced(model, tmp_path).cache_use.hit


def test_methods_of_tensors_that_were_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.relu() + x

    assert traced(Program(), tmp_path).cache_use.stored
    for name, value in (
        ("relu", lambda self: self * 3),
        ("relu", torch.Tensor.sigmoid),
        ("__add__", lambda self, other: self * 3),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, name, value)
            assert not traced(Program(), tmp_path).cache_use.hit, name
    assert traced(Program(), tmp_path).cache_use.hit


def test_arguments_that_change_the_key(tmp_path: Path) -> None:
    _, model = stored(tmp_path)
    for x, options in (
        (torch.ones(4, 8), {}),
        (torch.ones(8, 3).t(), {}),
        (torch.ones(6, 8)[::2], {}),
        (torch.ones(4, 8)[1:], {}),
        (torch.ones(3, 8).requires_grad_(), {}),
        (X, {"dynamic": {"x": ("m", None)}}),
        (X, {"dynamic": None}),
        (X, {"dynamic": {"x": ("2 <= n <= 9", None)}}),
        (X, {"where": "n % 3 == 0"}),
        (X, {"strict": False}),
        (X, {"pre_dispatch": True}),
        (X, {"kwargs": {"scale": 2.0}}),
        (X, {"kwargs": {"scale": 2}}),
    ):
        assert not traced(model, tmp_path, x, **options).cache_use.hit, options
        assert traced(model, tmp_path, x, **options).cache_use.hit, options


def test_handlers_of_logs_are_no_part_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfUser(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            OfUser.count += 1

    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [OfUser()])
    program, _ = stored(tmp_path)
    assert OfUser.count
    again = traced(program.Model(), tmp_path)
    assert again.cache_use is not None and again.cache_use.hit


TRACED_BY_AN_IMPORT = """
import torch, symfx
from torch import nn

class Model(nn.Module):
    def forward(self, x):
        return scaled(x)

def scaled(x):
    return x * 2

t = symfx.trace(Model(), torch.ones(3, 4), dynamic=[("n", None)], cache=FOLDER)
"""


def test_a_trace_that_an_import_makes_sees_the_functions_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TRACED_BY_AN_IMPORT.replace("FOLDER", repr(str(tmp_path / "cache")))
    monkeypatch.syspath_prepend(str(tmp_path))
    results = []
    for factor in (2, 2, 5):
        name = f"traces_when_imported_{len(results)}"
        (tmp_path / f"{name}.py").write_text(source.replace("x * 2", f"x * {factor}"))
        module = importlib.import_module(name)
        results.append(module.t(torch.ones(3, 4)).sum().item())
    assert results == [24, 24, 60]


def test_a_state_of_torch_changes_the_key(tmp_path: Path) -> None:
    _, model = stored(tmp_path)
    with torch.no_grad():
        assert not traced(model, tmp_path).cache_use.hit
    with torch.autocast("cpu", torch.bfloat16):
        assert not traced(model, tmp_path).cache_use.hit
    with symfx.config.patch(use_duck_shape=False):
        assert not traced(model, tmp_path).cache_use.hit
    torch.use_deterministic_algorithms(True)
    try:
        assert not traced(model, tmp_path).cache_use.hit
    finally:
        torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float64)
    try:
        assert not traced(model, tmp_path).cache_use.hit
    finally:
        torch.set_default_dtype(torch.float32)
    assert traced(model, tmp_path).cache_use.hit


def test_a_variable_of_the_environment_that_the_program_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = stored(tmp_path)
    monkeypatch.setenv("SYMFX_UNRELATED_VARIABLE", "1")
    assert traced(model, tmp_path).cache_use.hit
    monkeypatch.setenv("SYMFX_TEST_VARIABLE", "1")
    assert not traced(model, tmp_path).cache_use.hit


def test_values_of_parameters_and_inputs_do_not_matter(tmp_path: Path) -> None:
    _, model = stored(tmp_path)
    with torch.no_grad():
        for tensor in (*model.parameters(), model.table):
            tensor.add_(1)
    t = traced(model, tmp_path, torch.randn(3, 8))
    assert t.cache_use.hit
    assert torch.equal(t(X), model(X))
    assert t.verify(shapes=2)


_OTHER = """
import pathlib, sys
sys.path[:0] = [{tests!r}, {here!r}]
from test_cache_keys import traced
from cached_programs import load
folder = pathlib.Path({folder!r})
print(traced(load(folder).Model(), folder).cache_use)
"""


def test_another_process_finds_the_trace(tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = _OTHER.format(tests=str(here.parent), here=str(here), folder=str(tmp_path))

    # The module's name is made of the folder's hash, which differs from process to process.
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code.replace("load(folder)", "load(folder, name='again')")],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    assert run("99") == "stored in the cache"
    assert run("1") == "read from the cache"


# -- what is refused -------------------------------------------------------------------------------


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = [0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls[0] += 1
        return x * self.calls[0]


COUNT = [0]


class CountingGlobally(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        COUNT[0] += 1
        return x * COUNT[0]


class CountingInTheClass(nn.Module):
    count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).count += 1
        return x * self.count


class Drawing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * random.random()


class Reading(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with open(__file__) as file:
            return x * len(file.read())


class Iterating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = iter(range(9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * next(self.numbers)


class Identity(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (id(self) % 7)


class Looking(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * len(inspect.stack())


class Module(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * sys.modules[__name__].COUNT[0]


@pytest.mark.parametrize(
    "kind",
    [CountingGlobally, CountingInTheClass, Drawing, Reading, Iterating, Identity, Looking, Module],
)
def test_what_cannot_be_compared_is_not_cached(kind: type[nn.Module], tmp_path: Path) -> None:
    for _ in range(3):
        use = traced(kind(), tmp_path).cache_use
        assert not use.hit and not use.stored
        assert use.reason


def test_state_that_tracing_puts_back_counts_as_it_is(tmp_path: Path) -> None:
    model = Counting()
    assert traced(model, tmp_path).cache_use.stored
    t = traced(model, tmp_path)
    assert t.cache_use.hit and "changes the list calls" in t.notes[0]
    model(X)
    assert not traced(model, tmp_path).cache_use.hit


def test_an_active_mode_is_not_cached(tmp_path: Path) -> None:
    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any, kwargs: Any = None
        ) -> Any:
            return function(*args, **(kwargs or {}))

    model = nn.Linear(8, 8)
    with Mode():
        assert "mode" in str(traced(model, tmp_path, dynamic=None).cache_use)


def test_hooks_for_all_modules_are_not_cached(tmp_path: Path) -> None:
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert "hooks" in str(traced(nn.Linear(8, 8), tmp_path, dynamic=None).cache_use)
    finally:
        handle.remove()

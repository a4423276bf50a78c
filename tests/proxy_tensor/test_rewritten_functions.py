"""The user's functions during a trace: which get other code, for how long, and at what cost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import queue
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import symfx
from symfx.proxy_tensor import make_fx, renamed_globals, rewritten_functions
from symfx.proxy_tensor.reachable_functions import reachable


def least(a: int, b: int) -> int:
    return min(a, b)


def guards(program: Callable[..., Any], **options: Any) -> list[str]:
    """The guards of a trace of a program on a tensor of dynamic sizes, which is verified."""
    t = symfx.trace(program, torch.randn(5, 7), dynamic=(("n", "m"),), **options)
    for n, m in ((5, 7), (4, 9), (12, 3)):
        x = torch.randn(n, m)
        if t.check(x):
            torch.testing.assert_close(t(x), program(x))
    return [str(guard) for guard in t.guards]


# -- which functions are found ---------------------------------------------------------------------


class Helper:
    """An object that cannot be called, with a method."""

    def least(self, a: int, b: int) -> int:
        return min(a, b)

    @property
    def limit(self) -> Callable[[int], int]:
        return lambda n: min(n, 6)

    @functools.cached_property
    def other(self) -> Callable[[int], int]:
        return lambda n: min(n, 6)


@dataclasses.dataclass
class Config:
    """An object inside of another one."""

    helper: Helper
    table: dict[str, Any]


class Model(nn.Module):
    """A module that reaches its functions through its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config(Helper(), {"least": least})
        self.parts = [Helper()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, m = x.shape
        a = self.config.helper.least(n, m)
        b = self.config.table["least"](n, 3)
        c = self.parts[0].limit(n) + self.parts[0].other(m)
        return x.new_zeros(a + b + c)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inside(*args: Any) -> Any:
        return function(*args)

    return inside


@wrapped
def decorated(x: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(min(x.shape))


@torch.no_grad()
def without_gradients(x: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(min(x.shape))


def numbered(x: torch.Tensor) -> Iterator[int]:
    yield from (min(n, 6) for n in x.shape)


@contextlib.contextmanager
def managed(n: int) -> Iterator[int]:
    yield min(n, 6)


async def awaited(n: int) -> int:
    return min(n, 6)


def in_a_context(x: torch.Tensor) -> torch.Tensor:
    with managed(x.shape[0]) as n:
        return x.new_zeros(n)


HELPER = Helper()
TABLE = {"least": least, "helper": HELPER}
MODULE = types.ModuleType("package")
MODULE.inside = types.ModuleType("package.inside")  # type: ignore[attr-defined]
MODULE.inside.least = least  # type: ignore[attr-defined]

FOUND: dict[str, Callable[..., Any]] = {
    "attributes of a module": Model(),
    "bound method": Model().forward,
    "partial": functools.partial(lambda k, x: x.new_zeros(min(x.shape[0], k)), 3),
    "wrapped": decorated,
    "torch's own wrapper": without_gradients,
    "generator": lambda x: x.new_zeros(list(numbered(x))),
    "context manager": in_a_context,
    "coroutine": lambda x: x.new_zeros(asyncio.run(awaited(x.shape[0]))),
    "global object": lambda x: x.new_zeros(HELPER.least(*x.shape)),
    "table of functions": lambda x: x.new_zeros(TABLE["least"](*x.shape)),
    "module in a module": lambda x: x.new_zeros(MODULE.inside.least(*x.shape)),
    "default": lambda x, f=least: x.new_zeros(f(*x.shape)),
    "closure": (lambda f: lambda x: x.new_zeros(f(*x.shape)))(least),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_functions_of_a_program_are_found(name: str) -> None:
    assert guards(FOUND[name]) == []


class Elusive:
    """An object that fails when it is asked for anything, as some that stand in for others do."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"asked for {name}")


def test_objects_that_fail_when_they_are_asked_are_passed_by() -> None:
    model = nn.Linear(7, 2)
    elusive = Elusive()
    vars(model)["elusive"] = elusive
    with rewritten_functions.symbolic_numbers(model, lambda x: (elusive, min(x, 2))):
        assert rewritten_functions.in_trace()


# -- how long --------------------------------------------------------------------------------------


def codes() -> list[types.CodeType]:
    return [least.__code__, Helper.least.__code__, decorated.__wrapped__.__code__]  # type: ignore[attr-defined]


def test_each_function_has_its_very_own_code_again() -> None:
    before = codes()
    for name in ("attributes of a module", "wrapped", "global object"):
        guards(FOUND[name])
    assert all(now is then for now, then in zip(codes(), before, strict=True))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_too(error: type[BaseException]) -> None:
    def failing(x: torch.Tensor) -> torch.Tensor:
        least(*x.shape)
        raise error

    before = codes()
    with pytest.raises((symfx.SymfxError, KeyboardInterrupt, SystemExit)):
        symfx.trace(failing, torch.ones(2, 3), dynamic=True)
    assert codes()[0] is before[0]
    assert not rewritten_functions.in_trace()


def test_an_exception_while_functions_are_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = codes(), []

    def fails_late(owner: Any, name: str, value: Any) -> None:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        set_name(owner, name, value)

    set_name = rewritten_functions._set
    monkeypatch.setattr(rewritten_functions, "_set", fails_late)
    with pytest.raises(KeyboardInterrupt):
        symfx.trace(Model(), torch.ones(2, 3), dynamic=True)
    assert len(calls) == 3  # two changes, the first of which was undone
    assert all(now is then for now, then in zip(codes(), before, strict=True))
    assert not rewritten_functions._swaps
    assert not rewritten_functions.in_trace()


def test_a_trace_inside_of_a_trace_leaves_the_code_to_the_outer_one() -> None:
    before = least.__code__
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def outer(x: torch.Tensor) -> torch.Tensor:
        seen.put(least.__code__)
        make_fx(lambda y: y.new_zeros(least(*y.shape)), tracing_mode="symbolic")(torch.ones(2, 3))
        seen.put(least.__code__)
        return x.new_zeros(least(*x.shape))

    t = symfx.trace(outer, torch.ones(5, 7), dynamic=(("n", "m"),))
    assert not t.guards
    assert seen.get_nowait() is seen.get_nowait() is not before
    assert least.__code__ is before


def test_a_generator_and_a_function_may_outlive_the_trace() -> None:
    kept: list[Any] = []

    def program(x: torch.Tensor) -> torch.Tensor:
        kept.append(min(n, 6) for n in (8, 4))
        kept.append(lambda n: (min(n, 6), isinstance(n, int), type(n), int("7")))
        return x.new_zeros(next(kept[0]))

    make_fx(program, tracing_mode="symbolic")(torch.ones(5))
    assert list(kept[0]) == [4]
    assert kept[1](9) == (6, True, int, 7)


def test_threads_that_run_the_functions_meanwhile() -> None:
    stop, wrong = threading.Event(), []

    def busy() -> None:
        while not stop.is_set():
            for a, b in ((3, 4), (2.5, 1), (True, 0)):
                if repr(least(a, b)) != repr(b if b < a else a):  # type: ignore[arg-type]
                    wrong.append((a, b))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(10):
            assert guards(lambda x: x.new_zeros(least(*x.shape))) == []
    finally:
        stop.set()
        thread.join()
    assert not wrong


def test_dynamo_compiles_nothing_anew_after_a_trace() -> None:
    compiled: list[Any] = []

    def backend(module: torch.fx.GraphModule, _: Any) -> Any:
        compiled.append(module)
        return module.forward

    def program(x: torch.Tensor) -> torch.Tensor:
        return x * least(2, x.dim()) + max(x.dim(), 1)

    fast = torch.compile(program, backend=backend)
    x = torch.ones(5, 7)
    expected = fast(x)
    assert len(compiled) == 1
    symfx.trace(program, x, dynamic=(("n", "m"),))
    assert torch.equal(fast(x), expected)
    assert len(compiled) == 1


def test_the_branches_of_cond_are_compiled_with_pythons_own_functions() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        import math

        n = x.shape[0]
        return x * math.sqrt(n) * int(n * 0.5) * min(n, 3) if isinstance(n, int) else x

    def program(x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, branch, lambda x: x * max(x.shape), (x,))

    assert guards(program) == []


# -- what stays as it is ---------------------------------------------------------------------------


def test_a_class_made_in_a_trace_knows_its_module() -> None:
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def program(x: torch.Tensor) -> torch.Tensor:
        made.put(type("Made", (), {"a": 1}))
        made.put(type("Named", (), {"__module__": "elsewhere"}))
        return x * 1

    symfx.trace(program, torch.ones(2))
    assert made.get_nowait().__module__ == __name__
    assert made.get_nowait().__module__ == "elsewhere"


def test_own_builtins_are_left_alone() -> None:
    scope: dict[str, Any] = {"__builtins__": {"min": lambda *numbers: 2}}
    exec("def f(x):\n    return x.new_zeros(min(x.shape[0], 9))", scope)
    before = scope["f"].__code__
    t = symfx.trace(scope["f"], torch.ones(5), dynamic=(("n",),))
    assert t(torch.ones(7)).shape == (2,)
    assert scope["f"].__code__ is before


class Methods(nn.Module):
    """A module with cached methods of both kinds."""

    @staticmethod
    @functools.lru_cache
    def ramp(n: int) -> torch.Tensor:
        return torch.arange(n)

    @classmethod
    @functools.cache
    def ones(cls, n: int) -> torch.Tensor:
        return torch.ones(n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.ramp(x.shape[0]) + self.ones(x.shape[0]))[:, None]


def test_cached_static_and_class_methods_are_passed_by() -> None:
    before = vars(Methods)["ramp"], vars(Methods)["ones"]
    assert guards(Methods()) == []
    assert (vars(Methods)["ramp"], vars(Methods)["ones"]) == before


# -- other releases of Python ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "bits"), [("LOAD_GLOBAL", 0), ("LOAD_GLOBAL", 2), ("IMPORT_NAME", 1)]
)
def test_a_python_that_encodes_names_in_another_way(
    instruction: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(renamed_globals._LOADING, instruction, bits)
    renamed_globals.can_rename.cache_clear()
    try:
        assert not renamed_globals.can_rename()
        before = least.__code__

        def program(x: torch.Tensor) -> torch.Tensor:
            assert least.__code__ is before
            return x.new_zeros(least(*x.shape))

        # The program guards then, as it would without this mechanism.
        assert guards(program) != []
    finally:
        monkeypatch.undo()
        renamed_globals.can_rename.cache_clear()
    assert renamed_globals.can_rename()


def test_a_python_without_the_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed_globals, "_LOADING", {"LOAD_NO_GLOBAL": 1})
    assert not renamed_globals.can_rename.__wrapped__()


# -- cost ------------------------------------------------------------------------------------------


def test_the_code_of_a_function_is_made_once() -> None:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def program(x: torch.Tensor) -> torch.Tensor:
        seen.put(least.__code__)
        return x.new_zeros(least(*x.shape))

    for _ in range(3):
        symfx.trace(program, torch.ones(2, 3), dynamic=True)
    assert seen.get_nowait() is seen.get_nowait() is seen.get_nowait()


def test_names_that_lead_elsewhere_are_noticed() -> None:
    module = types.ModuleType("redefined")
    sys.modules["redefined"] = module
    try:
        exec(
            "def helper(n):\n    return n\ndef f(x):\n    return x.new_zeros(helper(x.shape[0]))",
            vars(module),
        )
        dynamic = (("n",),)
        assert symfx.trace(module.f, torch.ones(5), dynamic=dynamic)(torch.ones(9)).shape == (9,)
        exec("def helper(n):\n    return min(n, 7)", vars(module))
        t = symfx.trace(module.f, torch.ones(5), dynamic=dynamic)
        assert not t.guards
        assert t(torch.ones(9)).shape == (7,)
        # The module's own `min` is no function of Python any more.
        exec("def min(a, b):\n    return 3", vars(module))
        assert symfx.trace(module.f, torch.ones(5), dynamic=dynamic)(torch.ones(9)).shape == (3,)
    finally:
        del sys.modules["redefined"]


def test_a_later_trace_takes_up_what_the_first_one_found() -> None:
    first = reachable(Model())
    second = reachable(Model())
    assert first[1] is second[1]
    assert {f.__qualname__ for f in first[1].functions} >= {"Model.forward", "Helper.least"}


def test_the_code_lives_no_longer_than_its_function() -> None:
    scope: dict[str, Any] = {}
    exec("def f(x):\n    return x.new_zeros(min(x.shape[0], 9))", scope)
    reference = weakref.ref(scope["f"].__code__)
    number = id(scope["f"].__code__)
    symfx.trace(scope["f"], torch.ones(5), dynamic=(("n",),))
    assert number in renamed_globals._known
    scope.clear()
    gc.collect()
    if reference() is None:  # a traceback or the file's memo of lines may hold the code
        assert number not in renamed_globals._known

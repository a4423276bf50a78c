"""Texts of sizes: a text that is only shown pins nothing, one that a program computes with pins."""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import symfx
import symfx.errors
from symfx.proxy_tensor import make_fx

log = logging.getLogger("test.texts")


@dataclass
class Config:
    """An object whose text holds a size."""

    n: object


class Named:
    def __init__(self, n: Any) -> None:
        self.n = n

    def __str__(self) -> str:
        return f"Named({self.n})"


def told(n: Any) -> str:
    return f"n is {n}"


def key(n: Any) -> str:
    return f"block_{n}"


def message_in_a_variable(x: torch.Tensor) -> None:
    message = f"bad {x.shape[0]}"
    message += f" of {x.shape}"
    if x.shape[1] < 0:
        raise ValueError(message)
    assert x.dim() == 2, message


def message_in_a_list(x: torch.Tensor) -> None:
    parts = []
    for n in x.shape:
        parts.append(f"{n}")
    print("sizes: " + ", ".join(parts))


async def in_a_task(n: Any) -> Any:
    return await asyncio.sleep(0, n)


SHOWN: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "f-string": (lambda x: print(f"n={x.shape[0]}"), "n=n"),
    "number": (lambda x: print(x.shape[0], x.shape), "n torch.Size([n, m])"),
    "specs": (lambda x: print(f"{x.shape[0]:4d}|{x.shape[0]:>3}|{x.shape[1]:03d}"), "n|  n|m"),
    "percent": (lambda x: print("n=%s" % x.shape[0]), "n=n"),  # noqa: UP031
    # A text with %d takes digits: those of the example.
    "percent d": (lambda x: print("%d %d" % (x.shape[0], x.shape[1])), "5 7"),  # noqa: UP031
    "format": (lambda x: print("{} {:3d}".format(*x.shape)), "n m"),
    "join": (lambda x: print("x".join(map(str, x.shape))), "nxm"),
    "comprehension": (lambda x: print(", ".join([f"{n}" for n in x.shape])), "n, m"),
    "choice": (lambda x: print(f"{x.shape[0]}" if x.dim() == 2 else "none"), "n"),
    "comparison": (lambda x: print(x.shape[0] > x.shape[1]), "n > m"),
    "returned by a function": (lambda x: print(told(x.shape[0])), "n is n"),
    "dataclass": (lambda x: print(Config(x.shape[0])), "Config(n=n)"),
    "object": (lambda x: print(f"{Named(x.shape[0])}"), "Named(n)"),
    "stream": (lambda x: sys.stdout.write(str(x.shape[0])), "n"),
    "message in a variable": (message_in_a_variable, ""),
    "message in a list": (message_in_a_list, "sizes: n, m"),
    "log": (lambda x: log.warning("n=%s", x.shape[0]), ""),
    "log of digits": (lambda x: log.warning("n=%d", x.shape[0]), ""),
    "log of an f-string": (lambda x: log.warning(f"n={x.shape[0]}"), ""),
    "check": (lambda x: torch._check(x.shape[0] > 1, lambda: f"bad {x.shape[0]}"), ""),
    "task": (lambda x: asyncio.run(in_a_task(x.shape[0]), debug=True), ""),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_text_that_is_only_shown_pins_nothing(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show, text = SHOWN[name]

    def f(x: torch.Tensor) -> torch.Tensor:
        show(x)
        return x * 2

    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert t.guards == ()
    assert " ".join(capsys.readouterr().out.split(" ")).strip() == text


def test_a_warning_and_the_text_of_an_exception_pin_nothing() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        warnings.warn(f"n={x.shape[0]}", stacklevel=1)
        try:
            raise ValueError(f"bad {x.shape[0]}")
        except ValueError:
            return x * 2

    with pytest.warns(UserWarning, match="n=n"):
        t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert t.guards == ()


def kept_in_a_dict(x: torch.Tensor) -> torch.Tensor:
    table = {}
    table[f"{x.shape[0]}"] = 1.0
    return x * table["5"]


def kept_in_a_list(x: torch.Tensor) -> torch.Tensor:
    parts = []
    parts.append(str(x.shape[0]))
    return x * len("".join(parts))


def through_a_variable(x: torch.Tensor) -> torch.Tensor:
    name = f"block_{x.shape[0]}"
    print(name)
    return x * WEIGHTS[name]


WEIGHTS = {f"block_{n}": float(n) for n in range(20)}
# The program, and what it computes from a size of 5 by 7.
COMPUTED: dict[str, tuple[Callable[[torch.Tensor], Any], float]] = {
    "key": (lambda x: x * WEIGHTS[f"block_{x.shape[0]}"], 5),
    "key of a function": (lambda x: x * WEIGHTS[key(x.shape[0])], 5),
    "key in a variable": (through_a_variable, 5),
    "int": (lambda x: x * int(str(x.shape[0])), 5),
    "int of repr": (lambda x: x * int(repr(x.shape[0])), 5),
    "length": (lambda x: x * len(str(x.shape[0])), 1),
    "format": (lambda x: x * len("{:05d}".format(x.shape[0])), 5),  # noqa: UP032
    "built-in format": (lambda x: x * int(format(x.shape[0], "03d")), 5),
    "spec": (lambda x: x * int(f"{x.shape[0]:03d}"), 5),
    "percent": (lambda x: x * int("%s" % x.shape[0]), 5),  # noqa: UP031
    "percent d": (lambda x: x * int("%d" % x.shape[0]), 5),  # noqa: UP031
    "join": (lambda x: x * int("".join(map(str, x.shape))), 57),
    "sorted": (lambda x: x * int(sorted(map(str, x.shape))[0]), 5),
    "text of the shape": (lambda x: x * len(f"{x.shape}"), 18),
    "kept in a dict": (kept_in_a_dict, 1),
    "kept in a list": (kept_in_a_list, 1),
    "comparison": (lambda x: x * (2 if str(x.shape[0]) == "5" else 3), 2),
    "truth": (lambda x: x * (2 if str(x.shape[0] > 4) == "True" else 3), 2),
    "float": (lambda x: x * float(f"{x.shape[0] / 4:.1f}"), 1.2),
    "object": (lambda x: x * len(str(Named(x.shape[0]))), 8),
    "dataclass": (lambda x: x * len(repr(Config(x.shape[0]))), 11),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_text_that_a_program_computes_with_holds_for_one_size(name: str) -> None:
    f, factor = COMPUTED[name]
    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),), strict=False)
    assert t.guards
    x = torch.randn(5, 7)
    torch.testing.assert_close(t(x), x * factor)
    admitted = 0
    for n, m in ((4, 7), (6, 7), (12, 7), (5, 12), (15, 17)):
        x = torch.randn(n, m)
        if t.check(x):
            admitted += 1
            torch.testing.assert_close(t(x), f(x))
    assert admitted < 5


def test_the_error_names_the_line_and_what_to_do() -> None:
    with pytest.raises(symfx.errors.TracingError) as error:
        symfx.trace(COMPUTED["key"][0], torch.randn(5, 7), dynamic=(("n", "m"),))
    assert '"key": (lambda x' in str(error.value.where)
    assert "a text with a size" in str(error.value.fix)


def test_a_text_in_the_result_holds_for_one_size() -> None:
    t = symfx.trace(
        lambda x: (x * 2, f"{x.shape[0]}"), torch.randn(5, 7), dynamic=(("n", "m"),), strict=False
    )
    assert t(torch.randn(5, 9))[1] == "5"
    assert not t.check(torch.randn(6, 9))


WITHOUT_SOURCE = """
def show(x): print(f"n {x.shape[0]} of {x.shape[1]:3d}", x.shape[0])
def lines(x):
    print(x.shape)
    log.warning(f"n {x.shape[0]}")
    if x.shape[0] < 0: raise ValueError(f"bad {x.shape[0]}")
def given_on(x): print(told(x.shape[0]))
def told(n): return "n is " + f"{n}"
def compute(x): return x * WEIGHTS[f"block_{x.shape[0]}"]
def look_up_and_show(x): print(WEIGHTS[f"block_{x.shape[0]}"])
def measure_and_show(x): print(len(f"block_{x.shape[0]}"))
"""


@pytest.mark.parametrize(
    ("name", "guards"),
    [
        ("show", 0), ("lines", 0), ("given_on", 0),
        ("compute", 1), ("look_up_and_show", 1), ("measure_and_show", 1),
    ],
)  # fmt: skip
def test_texts_of_lines_whose_source_is_not_at_hand(name: str, guards: int) -> None:
    scope: dict[str, Any] = {"WEIGHTS": WEIGHTS, "log": log}
    exec(WITHOUT_SOURCE, scope)

    def f(x: torch.Tensor) -> torch.Tensor:
        scope[name](x)
        return x * 2

    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),), strict=False)
    assert len(t.guards) == guards, t.guards


def test_outside_of_a_trace_texts_are_torchs() -> None:
    graph = make_fx(lambda x: x.view(x.shape[0]), tracing_mode="symbolic")(torch.randn(5))
    size = next(n.meta["val"] for n in graph.graph.nodes if n.name == "sym_size_int")
    assert str(size) == f"{size}"
    assert not str(size).isdecimal()
    with pytest.raises(TypeError, match="unsupported format"):
        f"{size:3d}"

"""A program that uses each way in which code can reach a value, written to a file and loaded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HELPERS = """
SCALE = 3
TABLE = {"a": 1, "b": [2, 3]}
MODE = "plain"


def scaled(x):
    return x * SCALE


def unused(x):
    return x - 100
"""

PROGRAM = """
import dataclasses
import enum
import functools
import math
import os

import torch
import torch.nn.functional as F
import torch.nn.utils.parametrize
from torch import nn

import HELPERS as helpers
from HELPERS import scaled

FACTOR = 5
OFFSETS = [1, 2]


REGISTRY = {}


def registered(function):
    REGISTRY[function.__name__] = function
    return function


@registered
def first(x):
    return x - 0.5


class Meta(type):
    @property
    def size(cls):
        return 2


class WithMeta(metaclass=Meta):
    pass


class Slotted:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 1


class Scaling(nn.Module):
    k = 2

    def forward(self, weight):
        return weight * self.k


class Kind(enum.Enum):
    ADD = 1
    SUB = 2


@dataclasses.dataclass
class Inner:
    width: int = 2
    names: tuple = ("p", "q")


class Config:
    def __init__(self):
        self.inner = Inner()
        self.layers = {"first": 1}
        self.kind = Kind.ADD

    @property
    def doubled(self):
        return self.inner.width * 2


def made(power):
    def closure(x, shift=1, *, more=0):
        return x ** power + shift + more

    return closure


@functools.lru_cache
def cached(n):
    return n + FACTOR


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) + 1

    return wrapper


class Base(nn.Module):
    steps = 2

    def twist(self, x):
        return x + 1

    def turn(self, x):
        return x - 1

    @staticmethod
    def fixed(x):
        return x * 1.5


class Model(Base):
    class Inner:
        k = 1

    def __getattr__(self, name):
        if name == "hidden":
            return self.__dict__["store"]["hidden"]
        return super().__getattr__(name)

    def shifted(self, x, by=[1]):
        return x + by[-1]

    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.5)
        self.config = Config()
        self.power = made(2)
        self.partial = functools.partial(torch.add, alpha=2)
        self.plain = torch.tensor([1.0, 2.0])
        self.register_buffer("table", torch.arange(8.0))
        self.flags = {"on"}
        self.order = ["a", "b"]
        self.note = None
        self.slotted = Slotted()
        self.store = {"hidden": 1}
        self.third = nn.Linear(width, width)
        nn.utils.parametrize.register_parametrization(self.third, "weight", Scaling())
        self.name = "relu"
        self.eval()

    @decorated
    def inner(self, x):
        return x

    def forward(self, x, scale=1.0):
        x = self.norm(self.first(x))
        for _ in range(self.steps):
            x = self.twist(x)
        x = scaled(x) + FACTOR + sum(OFFSETS) + helpers.TABLE["a"]
        x = self.fixed(self.power(x)) * self.config.doubled
        x = self.partial(x, self.plain.sum()) if self.config.kind is Kind.ADD else x
        x = getattr(torch, self.name)(x) + cached(2) + len(self.flags)
        x = self.inner(self.drop(x)) * scale + math.pi
        if os.environ.get("SYMFX_TEST_VARIABLE") == "1":
            x = x + 1
        x = self.third(self.shifted(x)) * self.slotted.value * self.hidden
        x = REGISTRY["first"](x) + WithMeta.size + self.Inner.k
        if self.note is not None:
            x = x * 2
        return F.relu(self.second(x)) + self.table
"""


def load(
    folder: Path, program: str = PROGRAM, helpers: str = HELPERS, name: str = ""
) -> ModuleType:
    """The program as a module, with a helper module beside it; the same files again and again."""
    name = name or f"cached_program_{abs(hash(str(folder)))}"
    for text, own in ((helpers, name + "_helpers"), (program, name)):
        path = folder / f"{own}.py"
        path.write_text(text.replace("HELPERS", name + "_helpers"))
        spec = importlib.util.spec_from_file_location(own, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own] = module
        # The time of a file tells nothing here: each version is compiled anew.
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
    return sys.modules[name]

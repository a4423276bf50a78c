"""Many traces and guard programs in one process: what a trace made goes with it."""

from __future__ import annotations

import gc
import linecache
import weakref
from collections import Counter
from contextvars import copy_context

import pytest
import torch
from torch import nn

import symfx


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x):
        return self.inner(x) + max(x.shape[0], 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.view(-1) if x.shape[0] > 2 else x


def trace_and_run():
    t = symfx.trace(Net().eval(), torch.randn(5, 8), dynamic=[("n", None)])
    t(torch.randn(6, 8))
    program = t.guard_program()
    assert program.check(torch.randn(7, 8))
    assert "view" in t.graph_module.code
    return weakref.ref(t.shape_env), weakref.ref(t.graph_module)


def collect():
    for _ in range(6):  # finalizers of one round free what the next one finds
        gc.collect()


def objects():
    """The number of live objects of each class of torch and symfx."""
    kinds = [k for o in gc.get_objects() if isinstance((k := type(o)).__module__, str)]
    return Counter(k for k in kinds if k.__module__.partition(".")[0] in ("torch", "symfx"))


def test_traces_and_guard_programs_leave_nothing():
    for _ in range(5):
        trace_and_run()
    collect()
    sources, before, variables = len(linecache.cache), objects(), len(copy_context())
    made = [trace_and_run() for _ in range(20)]
    collect()
    assert not [ref() for pair in made for ref in pair if ref() is not None]
    assert len(linecache.cache) <= sources
    assert len(copy_context()) == variables
    assert not {k: n for k, n in (objects() - before).items() if n >= 20}


@pytest.mark.parametrize("text", ["x & y", "x | y", "x ^ y", "x ** y"])
def test_z3_reads_a_second_script_in_the_same_context(text):
    z3 = pytest.importorskip("z3")
    from symfx.algebra import Table, smtlib_script

    for limit in (3, 4, 4):
        table = Table()
        x, y = table.symbol("x"), table.symbol("y")
        operation = {"&": x.__and__, "|": x.__or__, "^": x.__xor__, "**": x.__pow__}
        value = operation[text.split()[1]](y)
        script = smtlib_script([value >= limit, x >= 2, x <= 7, y >= 1, y <= 7])
        solver = z3.Solver()
        solver.from_string(script)
        assert solver.check() == z3.sat

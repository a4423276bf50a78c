"""symfx's make_fx against torch's: the same operators in the same order, the same results."""

from __future__ import annotations

import copy
import operator
from typing import Any

import pytest
import torch
from proxy_tensor_programs import PROGRAMS, Program
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.utils import _pytree as pytree

from symfx.proxy_tensor import make_fx

TRACED, OTHER = (4, 6), (5, 8)

_SIZES = {
    torch.ops.aten.sym_size.int,
    torch.ops.aten.sym_stride.int,
    torch.ops.aten.sym_numel.default,
    torch.ops.aten.sym_storage_offset.default,
}
_ARITHMETIC = {
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg,
    operator.truediv, operator.pow, operator.eq, operator.ge, operator.le, operator.gt,
    operator.lt, torch.sym_float, torch.sym_max, torch.sym_min, torch.sym_sum,
}  # fmt: skip
_CHECKS = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
}


def operators(graph: fx.Graph) -> list[Any]:
    """The operators on tensors, in order."""
    return [
        n.target
        for n in graph.nodes
        if n.op == "call_function"
        and n.target not in _SIZES
        and n.target not in _ARITHMETIC
        and n.target not in _CHECKS
    ]


def described(value: Any) -> Any:
    """The description of a value with numbers in place of symbols."""

    def number(n: Any) -> Any:
        return n.node.hint if isinstance(n, (torch.SymInt, torch.SymFloat, torch.SymBool)) else n

    if isinstance(value, torch.Tensor):
        sizes = tuple(map(number, value.shape))
        strides = tuple(map(number, value.stride()))
        return (
            sizes,
            # The stride of a dimension of size 1 means nothing.
            tuple(st for size, st in zip(sizes, strides, strict=True) if size != 1),
            number(value.storage_offset()),
            value.dtype,
            value.device,
        )
    if isinstance(value, (list, tuple)):
        return [described(v) for v in value]
    return number(value)


def traced(maker: Any, p: Program, mode: str) -> fx.GraphModule:
    torch.manual_seed(0)
    options = dict(p.kwargs)
    if options.get("decomposition_table") == "core":
        options["decomposition_table"] = torch._decomp.core_aten_decompositions()
    result: fx.GraphModule = maker(p.f, tracing_mode=mode, **options)(*p.make(*TRACED))
    return result


def assert_same(actual: Any, expected: Any, inputs: Any, other_inputs: Any) -> None:
    mine = pytree.tree_leaves((actual, inputs))
    theirs = pytree.tree_leaves((expected, other_inputs))
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b, equal_nan=True)
        elif not isinstance(b, torch.nn.Module):
            assert a == b


CASES = [pytest.param(p, m, id=f"{p.name}-{m}") for p in PROGRAMS for m in p.modes]


@pytest.mark.parametrize(("p", "mode"), CASES)
def test_same_graph(p: Program, mode: str) -> None:
    ours, stock = traced(make_fx, p, mode), traced(stock_make_fx, p, mode)
    ours.graph.lint()
    assert operators(ours.graph) == operators(stock.graph)
    placeholders = [[n.name for n in g.graph.nodes if n.op == "placeholder"] for g in (ours, stock)]
    assert placeholders[0] == placeholders[1]
    if not p.exact:
        return
    pairs = [
        [
            n
            for n in g.graph.nodes
            if n.op == "placeholder" or (n.op == "call_function" and n.target in operators(g.graph))
        ]
        for g in (ours, stock)
    ]
    for mine, theirs in zip(*pairs, strict=True):
        assert described(mine.meta.get("val")) == described(theirs.meta.get("val")), mine
        meta, other = mine.meta.get("tensor_meta"), theirs.meta.get("tensor_meta")
        assert (meta is None) == (other is None), mine
        if isinstance(meta, tuple) and hasattr(meta, "memory_format"):
            assert meta.memory_format == other.memory_format, mine
            assert meta.requires_grad == other.requires_grad, mine


@pytest.mark.parametrize(("p", "mode"), CASES)
def test_same_results(p: Program, mode: str) -> None:
    ours = traced(make_fx, p, mode)
    shapes = (TRACED, OTHER) if mode == "symbolic" else (TRACED,)
    for shape in shapes:
        inputs = p.make(*shape)
        mine, theirs = copy.deepcopy(inputs), copy.deepcopy(inputs)
        torch.manual_seed(1)
        actual = ours(*mine)
        torch.manual_seed(1)
        expected = p.f(*theirs)
        assert_same(actual, expected, mine, theirs)

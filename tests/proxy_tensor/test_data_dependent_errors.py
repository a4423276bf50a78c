"""Errors of programs that branch on data; the lines that an error suggests are pasted and work."""

import linecache
import re

import pytest
import torch

from symfx.proxy_tensor import make_fx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

# The line that makes the number, the line that asks; the operator, the question, both outcomes.
PROGRAMS = {
    "nonzero": ("idx = x.nonzero()", "return idx[:3] if idx.shape[0] > 3 else idx",
                "aten.nonzero.default", "idx.shape[0] >= 4", ("= 4", "= 0")),
    "item": ("n = x.long().sum().item()", "return x if n == 0 else x * n",
             "aten._local_scalar_dense.default", "n == 0", ("n = 0", "n = 1")),
    "masked_select": ("y = x[x > 1]", "return y + 1 if y.shape[0] % 2 == 0 else y",
                      "aten.index.Tensor", "y.shape[0] % 2 == 0", ("= 0", "= 1")),
    "tolist": ("first, *rest = x.long().tolist()", "return x + 1 if first < rest[1] else x",
               "aten._local_scalar_dense.default", "first < rest[1]", ("first = ", "rest[1] = ")),
    "unique": ("u = torch.unique(x)", "return u[1:] if u.numel() > 1 else u",
               "aten._unique2.default", "u.shape[0] >= 2", ("= 2", "= 0")),
    "repeat_interleave": ("y = torch.repeat_interleave(x.long())",
                          "return y.sum() if y.shape[0] < 9 else y.max()",
                          "aten.repeat_interleave.Tensor", "y.shape[0] <= 8", ("= 0", "= 9")),
    "two": ("n, k = x.long().sum().item(), x.long().max().item()",
            "return x if n * 2 > k + 3 else x + 1",
            "aten._local_scalar_dense.default", "2*n >= k + 4", ("n = ", "k = ")),
    "largest": ("n, k = x.long().sum().item(), x.long().max().item()",
                "return x if torch.sym_max(n, k) > 3 else x + 1",
                "aten._local_scalar_dense.default", "max(n, k) >= 4", ("n = ", "k = ")),
    "both": ("n, k = x.long().sum().item(), x.long().max().item()",
             "return x if (n > 2) & (k < 9) else x + 1",
             "aten._local_scalar_dense.default", "n >= 3", ("n = ", "k = ")),
    "index": ("n = x.long().max().item()", "return x + [1, 2, 3, 4, 5][n]",
              "aten._local_scalar_dense.default", "the value of n", ("n = 2", "n = 0")),
    "range": ("n = x.long().max().item()", "return sum(x * i for i in range(n))",
              "aten._local_scalar_dense.default", "the value of n", ("n = 2", "n = 0")),
    "float": ("f = x.sum().item()", "return x if f > 2.5 else x + 1",
              "aten._local_scalar_dense.default", "2.5 < f", ()),
}  # fmt: skip


def program(name, fix="pass"):
    made, asks, *_ = PROGRAMS[name]
    file = f"<{name} {fix}>.py"
    source = f"def program(x):\n    {made}\n    {fix}\n    {asks}\n"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = {"torch": torch, "guard_or_false": None}
    exec(compile(source, file, "exec"), names)
    return names["program"]


def trace(name, fix="pass"):
    return make_fx(program(name, fix), tracing_mode="symbolic")(torch.tensor([1.0, 2, 3, 2]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_error_names_the_missing_fact(name):
    _, asks, operator, question, outcomes = PROGRAMS[name]
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        trace(name)
    text = str(caught.value)
    assert question in text and f"made by {operator}" in text
    assert f":4: {asks}" in text and "aten" not in text.partition("at: ")[2]
    assert all(outcome in text for outcome in outcomes)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_suggested_lines_settle_the_question(name):
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        trace(name)
    fixes = re.findall(r"torch\._check\(.*?\)(?=,|;|$)", str(caught.value), re.M)
    assert fixes
    for fix in fixes:
        assert len(trace(name, fix).graph.nodes) > 2, fix

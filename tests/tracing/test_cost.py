"""The cost of traces, against torch.utils.flop_counter and against counts by hand."""

import json

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import symfx
from symfx import SpecError


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.line = nn.Conv1d(6, 2, 3, dilation=2)

    def forward(self, x):
        y = self.up(self.down(x))
        return self.line(y.flatten(2))


class Products(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 4)
        self.lin2 = self.lin

    def forward(self, x, y):
        a = self.lin(x) + self.lin2(x)
        b = torch.bmm(x, y) + torch.baddbmm(x @ y, x, y)
        return a.sum() + b.sum() + torch.addmm(x[0] @ y[0], x[0], y[0]).sum() + (x @ y[0]).sum()


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)


MODELS = {
    "mlp": (nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), [(5, 8)], [("n", None)]),
    "convolutions": (Convolutions(), [(3, 4, 12, 14)], [("b", None, "2*h", "2*w")]),
    "products": (Products(), [(3, 5, 8), (3, 8, 6)], [("b", "n", None), ("b", None, "m")]),
    "encoder": (encoder(), [(3, 5, 16)], [("b", "s", None)]),
}
SIZES = [
    {"n": 7, "b": 3, "h": 6, "w": 7, "m": 6, "s": 5},
    {"n": 2, "b": 4, "h": 9, "w": 4, "m": 11, "s": 13},
    {"n": 31, "b": 2, "h": 5, "w": 16, "m": 3, "s": 8},
]


def shapes_at(shapes, dims, sizes):
    read = {"2*h": 2 * sizes["h"], "2*w": 2 * sizes["w"], **sizes}
    return [
        [size if dim is None else read[dim] for size, dim in zip(shape, each, strict=True)]
        for shape, each in zip(shapes, dims, strict=True)
    ]


@pytest.mark.parametrize("pre_dispatch", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_operations_are_those_of_torchs_counter(name, pre_dispatch):
    model, shapes, dims = MODELS[name]
    model.eval()
    with sdpa_kernel(SDPBackend.MATH):
        t = symfx.trace(
            model, tuple(map(torch.randn, shapes)), dynamic=dims, pre_dispatch=pre_dispatch
        )
        cost = t.cost()
        used = {symbol.name for symbol in cost.flops.free_symbols | cost.memory.free_symbols}
        for sizes in SIZES:
            inputs = [torch.randn(shape) for shape in shapes_at(shapes, dims, sizes)]
            counter = FlopCounterMode(display=False)
            fast = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
            try:
                with counter:
                    model(*inputs)
            finally:
                torch.backends.mha.set_fastpath_enabled(fast)
            own = {k: v for k, v in sizes.items() if k in used}
            assert cost.at(**own).flops.value == counter.get_total_flops()
            counted = counter.get_flop_counts()
            for module in cost.at(**own).modules:
                path = ".".join(filter(None, (type(model).__name__, module.path)))
                if path in counted and name != "products":
                    assert module.flops.value == sum(counted[path].values()), path


def test_attention_counts_as_torchs_formula():
    def attend(q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v)

    shapes = [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)]
    for pre_dispatch in (False, True):
        t = symfx.trace(
            attend,
            tuple(map(torch.randn, shapes)),
            dynamic=[("b", "h", "s", None), ("b", "h", "t", None), ("b", "h", "t", None)],
            pre_dispatch=pre_dispatch,
        )
        assert str(t.cost().flops) == "32*b*h*s*t"
        for s, k in ((5, 7), (9, 2)):
            expected = sdpa_flop_count((4, 3, s, 8), (4, 3, k, 8), (4, 3, k, 8))
            assert t.cost().at(b=4, h=3, s=s, t=k).flops.value == expected


def test_memory_parameters_and_peak():
    def f(x):
        a = x * 2  # 4*n bytes
        b = a.view(-1, 2)  # a view
        c = b + 1  # x, a and c live
        return c.double()

    t = symfx.trace(f, torch.randn(6), dynamic=[("2*n",)])
    cost = t.cost()
    assert str(cost.memory) == "32*n" and cost.parameters == 0 and cost.flops.value == 0
    assert cost.at(n=10).memory.value == 320
    # Inputs live to their last reader: x with a, a with c, c with the result.
    assert cost.peak(n=10) == max(80 + 80, 80 + 80, 80 + 160)
    tied = MODELS["products"][0]
    assert symfx.trace(tied, (torch.randn(3, 5, 8), torch.randn(3, 8, 6))).cost().parameters == 36


def test_branches_and_sizes():
    def f(x):
        return torch.cond(x.sum() > 0, lambda v: v @ v, lambda v: v @ v @ v, (x,))

    cost = symfx.trace(f, torch.randn(4, 4), dynamic=[("n", "n")]).cost()
    assert str(cost.flops) == "4*n**3" or cost.at(n=3).flops.value == 108
    assert "more expensive of its branches" in cost.notes[0]
    with pytest.raises(SpecError, match="the cost depends on n too"):
        cost.at()
    with pytest.raises(SpecError, match="the cost does not depend on m"):
        cost.peak(n=3, m=4)


def test_the_table(capsys):
    cost = symfx.trace(MODELS["mlp"][0], torch.randn(5, 8), dynamic=[("n", None)]).cost()
    lines = str(cost).splitlines()
    assert lines[0] == "cost" and lines[1].split() == [
        "module",
        "parameters",
        "operations",
        "bytes",
    ]
    assert lines[2].split() == ["Sequential", "212", "384*n", "144*n"]
    assert [line.split()[0] for line in lines[3:]] == ["0", "1", "2"]
    from symfx.cli import main

    given = ["cost", "torch.nn:Linear", "--init", "in_features=8", "--init", "out_features=4"]
    given += ["-i", "input: f32[2*n, 8]"]
    for more, expected in ([], "128*n"), (["--at", "n=10"], "1,280"):
        with pytest.raises(SystemExit) as left:
            main([*given, *more])
        assert left.value.code in (0, None)
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*given, "--json", "--at", "n=10"])
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "symfx cost" and data["peak_bytes"] == 20 * 8 * 4 + 20 * 4 * 4
    assert data["modules"][0]["operations"] == 1280
    for wrong in ("n", "n=x", "=3", "n=-1"):
        with pytest.raises(SystemExit) as left:
            main([*given, "--at", wrong])
        assert left.value.code == 2 and "is not a size" in capsys.readouterr().err


def test_the_command_tells_a_pinned_dimension(capsys) -> None:
    from symfx.cli import main

    given = ["cost", "torch.nn:Linear", "--init", "in_features=8", "--init", "out_features=4"]
    with pytest.raises(SystemExit) as left:
        main([*given, "-i", "input: f32[n, width=8]"])
    assert left.value.code in (0, None)
    assert "the graph holds for width = 8 alone" in capsys.readouterr().err

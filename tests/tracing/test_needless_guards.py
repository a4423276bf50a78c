"""Guards that a program does not need: torch's kernels ask, and the result does not depend on it.

Each case has all guards that its trace may have, and shapes at which it must equal eager mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx
from symfx import Dim
from symfx.torch_bridge.releases import RELEASE

torch.manual_seed(0)
r = torch.randn
Shapes = list[tuple[int, ...]]


@dataclass
class Case:
    """A program, example shapes, and what its trace must be."""

    program: Callable[..., Any]
    example: Shapes
    dynamic: Any
    guards: list[str]
    others: list[Shapes]


def windows(x: torch.Tensor) -> torch.Tensor:
    b, h, w, c = x.shape
    return x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5)


def there_and_back(x: torch.Tensor) -> torch.Tensor:
    b, h, w, c = x.shape
    parts = windows(x).reshape(-1, 4, 4, c) * 2
    parts = parts.view(b, h // 4, w // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(b, h, w, -1)


def there_and_back_as_it_is(x: torch.Tensor) -> torch.Tensor:
    b, h, w, c = x.shape
    parts = windows(x.roll((-2, -2), (1, 2))).reshape(-1, 4, 4, c)
    parts = parts.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(b, h, w, c).roll((2, 2), (1, 2))


def patches(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    cut = x.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(b, (h // 4) * (w // 4), 16 * c)


def rotated(x: torch.Tensor) -> torch.Tensor:
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat([-b, a], -1) * x


def masked_keys(mask: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(mask.shape[0])[:, None, None, None]
    return (mask > 0)[rows, torch.arange(mask.shape[1])[None, None, None]]


def scaled_heads(x: torch.Tensor) -> torch.Tensor:
    heads = x.view(x.shape[0], x.shape[1], 2, -1).permute(0, 2, 1, 3)
    return heads / torch.tensor(2.0)


def padded(x: torch.Tensor) -> torch.Tensor:
    more = -x.shape[-1] % 4
    return F.pad(x, (more // 2, more - more // 2, 1, 0)).relu().sum(-1)


POSITIONS = torch.randn(1, 16, 8)


def with_positions(x: torch.Tensor) -> torch.Tensor:
    grid = POSITIONS.reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    sizes = (x.shape[2] // 4, x.shape[3] // 4)
    grid = F.interpolate(grid, sizes, mode="bicubic", align_corners=False)
    return x.mean() + grid.permute(0, 2, 3, 1).reshape(1, -1, 8)


LINEAR = nn.Linear(7, 2)


def branch(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] > 8:
        x = x * 2
    return LINEAR(x.reshape(-1, 7)).view(x.shape[0], -1)


def conv(rank: int, channels: tuple[int, int] = (2, 3), transposed: bool = False) -> Any:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{rank}d")
    return kind(*channels, 3)


CONV1, CONV2, CONV3 = conv(1), conv(2), conv(3)
MANY = [[(1 + 16 * i, 2, 9, 11)] for i in (0, 1, 2)]

FROM_ONE = [(Dim("b", min=1), Dim("s", min=1))]

CASES = {
    "an index of a mask, sizes from 1": Case(
        masked_keys, [(3, 7)], FROM_ONE, [], [[(1, 5)], [(3, 1)], [(1, 1)], [(2, 9)]]
    ),
    "a constant beside heads, sizes from 1": Case(
        scaled_heads,
        [(3, 7, 8)],
        [(*FROM_ONE[0], None)],
        [],
        [[(1, 5, 8)], [(3, 1, 8)], [(1, 1, 8)]],
    ),
    "pad by a remainder": Case(padded, [(3, 7)], FROM_ONE, [], [[(1, 1)], [(4, 8)], [(2, 10)]]),
    "flip of a transposed tensor, sizes from 1": Case(
        lambda x: x.mT.flip(1), [(3, 7)], FROM_ONE, [], [[(1, 1)], [(4, 1)], [(1, 8)]]
    ),
    "x * 2, sizes from 0": Case(
        lambda x: x * 2, [(4, 3)], [(Dim("n", min=0), None)], [], [[(0, 3)], [(1, 3)], [(9, 3)]]
    ),
    "x + x, an inner size from 0": Case(
        lambda x: x + x, [(3, 4)], [(None, Dim("n", min=0))], [], [[(3, 0)], [(3, 1)], [(3, 9)]]
    ),
    "view, sizes from 0": Case(
        lambda x: x.view(-1) * 2, [(4, 3)], [(Dim("n", min=0), None)], [], [[(0, 3)], [(1, 3)]]
    ),
    "conv2d, a batch from 0": Case(
        CONV2,
        [(4, 2, 8, 8)],
        [(Dim("n", min=0), None, None, None)],
        [],
        [[(0, 2, 8, 8)], [(1, 2, 8, 8)], [(17, 2, 8, 8)]],
    ),
    "x[:, 1:] * 2": Case(
        lambda x: x[:, 1:] * 2, [(4, 6)], [("b", "n")], [], [[(2, 2)], [(5, 3)], [(7, 40)]]
    ),
    "x[:, 1:] - x[:, :-1]": Case(
        lambda x: x[:, 1:] - x[:, :-1], [(4, 6)], [("b", "n")], [], [[(2, 2)], [(5, 3)], [(3, 9)]]
    ),
    "diff": Case(torch.diff, [(4, 6)], [("b", "n")], [], [[(2, 2)], [(5, 3)], [(7, 40)]]),
    "x[:, 1:].exp().transpose": Case(
        lambda x: x[:, 1:].exp().transpose(0, 1).sigmoid(),
        [(4, 6, 5)],
        [("b", "n", None)],
        [],
        [[(2, 2, 5)], [(5, 3, 5)], [(7, 40, 5)]],
    ),
    "glu": Case(F.glu, [(4, 6)], [("b", "n")], ["n % 2 == 0"], [[(2, 2)], [(5, 8)]]),
    "rotary": Case(
        rotated, [(2, 5, 8)], [("b", "s", None)], [], [[(3, 2, 8)], [(4, 9, 8)], [(2, 17, 8)]]
    ),
    "ConvTranspose2d": Case(
        conv(2, transposed=True), [(4, 2, 8, 8)], [("b", None, "h", "w")], [], MANY[1:]
    ),
    "ConvTranspose1d": Case(
        conv(1, transposed=True), [(4, 2, 8)], [("b", None, "n")], [], [[(17, 2, 3)], [(2, 2, 40)]]
    ),
    "conv2d of a transposed input": Case(
        lambda x: CONV2(x.transpose(2, 3)),
        [(4, 2, 8, 9)],
        [("b", None, "h", "w")],
        ["h >= 3", "w >= 3"],
        MANY[1:],
    ),
    "conv2d of channels last": Case(
        lambda x: CONV2(x.permute(0, 3, 1, 2)),
        [(4, 8, 9, 2)],
        [("b", "h", "w", None)],
        ["h >= 3", "w >= 3"],
        [[(17, 5, 4, 2)], [(2, 3, 3, 2)]],
    ),
    "conv1d of batch, time, channels": Case(
        lambda x: CONV1(x.transpose(1, 2)),
        [(4, 8, 2)],
        [("b", "t", None)],
        ["t >= 3"],
        [[(2, 3, 2)], [(17, 5, 2)], [(33, 40, 2)]],
    ),
    "conv3d of a transposed input": Case(
        lambda x: CONV3(x.transpose(3, 4)),
        [(4, 2, 5, 6, 7)],
        [("b", None, None, "h", "w")],
        ["h >= 3", "w >= 3"],
        [[(17, 2, 5, 4, 3)], [(2, 2, 5, 3, 9)]],
    ),
    "reshape to another's shape": Case(
        lambda x, y: x + y.reshape(x.shape),
        [(4, 6), (3, 8)],
        [("p", "q"), ("a", "b")],
        ["p*q == a*b"],
        [[(4, 4), (8, 2)], [(6, 2), (2, 6)], [(5, 7), (5, 7)], [(2, 18), (6, 6)]],
    ),
    "pixel_unshuffle": Case(
        lambda x: F.pixel_unshuffle(x, 2),
        [(4, 2, 8, 8)],
        [("b", None, "h", "w")],
        ["h % 2 == 0", "w % 2 == 0"],
        [[(2, 2, 2, 2)], [(3, 2, 4, 10)], [(17, 2, 6, 2)]],
    ),
    "pixel_shuffle": Case(
        lambda x: F.pixel_shuffle(x, 2),
        [(4, 8, 3, 5)],
        [("b", "c", "h", "w")],
        ["c % 4 == 0"],
        [[(2, 4, 2, 2)], [(3, 12, 4, 10)]],
    ),
    "window partition": Case(
        windows,
        [(2, 8, 12, 3)],
        [("b", "h", "w", None)],
        ["h % 4 == 0", "w % 4 == 0"],
        [[(2, 4, 4, 3)], [(3, 16, 8, 3)], [(2, 4, 12, 3)]],
    ),
    "window partition and reverse": Case(
        there_and_back,
        [(2, 8, 12, 3)],
        [("b", "h", "w", None)],
        ["h % 4 == 0", "w % 4 == 0"],
        [[(2, 4, 4, 3)], [(3, 16, 8, 3)], [(2, 4, 12, 3)], [(2, 8, 4, 3)]],
    ),
    "windows of an image that is rolled, and reverse": Case(
        there_and_back_as_it_is,
        [(2, 8, 12, 3)],
        [("b", "h", "w", None)],
        ["h % 4 == 0", "w % 4 == 0"],
        [[(2, 4, 4, 3)], [(3, 16, 8, 3)], [(2, 4, 12, 3)], [(2, 8, 4, 3)]],
    ),
    "patches": Case(
        patches,
        [(2, 3, 8, 12)],
        [("b", None, "h", "w")],
        ["h % 4 == 0", "w % 4 == 0"],
        [[(2, 3, 4, 4)], [(3, 3, 16, 8)], [(2, 3, 4, 12)]],
    ),
    "two unflattened dimensions": Case(
        lambda x: x.unflatten(1, (-1, 4)).unflatten(3, (-1, 4)).transpose(2, 3).flatten(0, 2),
        [(2, 8, 12, 3)],
        [("b", "h", "w", None)],
        ["h % 4 == 0", "w % 4 == 0"],
        [[(2, 4, 4, 3)], [(3, 16, 8, 3)], [(2, 4, 12, 3)]],
    ),
    "a mask of images, resized": Case(
        lambda x: F.interpolate(x[None], size=((x.shape[1] + 7) // 8, (x.shape[2] + 7) // 8)),
        [(2, 24, 40)],
        [("b", "h", "w")],
        [],
        [[(3, 8, 8)], [(2, 8, 40)], [(2, 40, 5)]],
    ),
    "a linear layer on tokens of an image": Case(
        lambda x: F.linear(x.flatten(2).transpose(1, 2), LINEAR.weight),
        [(2, 7, 6, 10)],
        [(Dim("b", min=1), None, Dim("h", min=1), Dim("w", min=1))],
        [],
        [[(2, 7, 1, 1)], [(1, 7, 1, 5)], [(3, 7, 4, 1)]],
    ),
    "tokens back to an image": Case(
        lambda x: (
            F.layer_norm(x.flatten(2).transpose(1, 2), (7,)).permute(0, 2, 1).reshape(x.shape)
        ),
        [(2, 7, 6, 10)],
        [(Dim("b", min=1), None, Dim("h", min=1), Dim("w", min=1))],
        [],
        [[(2, 7, 1, 1)], [(1, 7, 1, 5)], [(3, 7, 4, 1)]],
    ),
    "position embeddings, resized": Case(
        with_positions,
        [(2, 3, 24, 40)],
        [("b", None, "h", "w")],
        [],
        [[(2, 3, 4, 4)], [(3, 3, 7, 5)], [(2, 3, 4, 64)], [(2, 3, 12, 9)]],
    ),
    "half as many means": Case(
        lambda x: F.adaptive_avg_pool2d(x, (x.shape[2] // 2, 1)),
        [(2, 3, 8, 6)],
        [("b", None, "h", "w")],
        [],
        [[(2, 3, 2, 6)], [(3, 3, 3, 2)], [(2, 3, 9, 5)]],
    ),
    "one pixel between aligned corners": Case(
        lambda x: F.interpolate(x, size=(x.shape[2] // 8, 3), mode="bilinear", align_corners=True),
        [(2, 3, 24, 40)],
        [("b", None, "h", None)],
        ["h >= 16"],
        [[(3, 3, 16, 40)], [(2, 3, 80, 40)]],
    ),
    "a slice beyond the end": Case(
        lambda x: x[:, :5] * 2, [(4, 8)], [("b", "n")], [], [[(2, 2)], [(5, 5)], [(7, 40)]]
    ),
    "a slice that may be empty": Case(
        lambda x: x[:, 3:].relu().sum(1), [(4, 8)], [("b", "n")], [], [[(2, 2)], [(5, 3)]]
    ),
    "a slice from the end": Case(
        lambda x: x[:, -3:] + 1, [(4, 8)], [("b", "n")], [], [[(2, 2)], [(5, 3)], [(7, 40)]]
    ),
    "every second element": Case(
        lambda x: x[:, 1::2].exp(), [(4, 8)], [("b", "n")], [], [[(2, 2)], [(5, 3)], [(7, 9)]]
    ),
    "a slice up to another size": Case(
        lambda x, y: x[:, : y.shape[0]].cos(),
        [(4, 8), (5,)],
        [("b", "n"), ("m",)],
        [],
        [[(2, 3), (7,)], [(2, 7), (3,)], [(3, 4), (4,)]],
    ),
    "a table of positions": Case(
        lambda x, table: x + table[:, : x.shape[1]],
        [(2, 5, 6), (1, 16, 6)],
        [("b", "s", None), None],
        ["s <= 16"],
        [[(3, 16, 6), (1, 16, 6)], [(2, 2, 6), (1, 16, 6)]],
    ),
    "a slice for a layer": Case(
        lambda x: LINEAR(x[:, :7]), [(2, 9)], [("b", "n")], ["n >= 7"], [[(3, 7)], [(2, 30)]]
    ),
    "one chunk of two": Case(
        lambda x: x.chunk(2, 1)[1] * 2, [(2, 9)], [("b", "n")], [], [[(3, 2)], [(2, 5)]]
    ),
    "the last chunk of three": Case(
        lambda x: x.chunk(3, 1)[-1] * 2, [(2, 9)], [("b", "n")], [], [[(3, 2)], [(2, 4)], [(2, 8)]]
    ),
    "the first part": Case(
        lambda x: x.split(2, 1)[0].exp(), [(2, 6)], [("b", "n")], [], [[(3, 2)], [(2, 9)]]
    ),
    "the third part": Case(
        lambda x: x.split(2, 1)[2].exp(), [(2, 6)], [("b", "n")], ["n >= 5"], [[(3, 5)], [(2, 9)]]
    ),
    "the first row": Case(
        lambda x: x.unbind(1)[0] + x.unbind(1)[-1], [(2, 6)], [("b", "n")], [], [[(3, 2)]]
    ),
    "three chunks": Case(
        lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
        [(2, 9)],
        [("b", "n")],
        ["n > 2*((n + 2)//3)"],
        [[(3, 3)], [(2, 5)], [(2, 8)]],
    ),
    "a kernel that asks for contiguity": Case(
        lambda x: x[:, 1:].transpose(0, 1).fmod(2),
        [(4, 6)],
        [(Dim("b", min=1), Dim("n", min=2))],
        [],
        [[(1, 2)], [(1, 9)], [(3, 2)], [(5, 7)]],
    ),
    "kernels without a rule": Case(
        lambda x: torch.atan2(x.nan_to_num().triu(), x).flip(0).sort(1)[0].cumsum(0),
        [(4, 6)],
        [(Dim("b", min=1), Dim("n", min=1))],
        [],
        [[(1, 1)], [(1, 9)], [(3, 1)], [(5, 7)]],
    ),
    "attention scaled by a size": Case(
        lambda x: F.scaled_dot_product_attention(x, x, x),
        [(2, 5, 6)],
        [("b", "s", "d")],
        [],
        [[(3, 2, 2)], [(2, 9, 4)]],
    ),
    "pad to a multiple": Case(
        lambda x: F.pad(x, (0, 0, 0, -x.shape[1] % 8)).view(x.shape[0], -1, 8, 3),
        [(2, 13, 3)],
        [("b", "n", None)],
        [],
        [[(2, 8, 3)], [(3, 2, 3)], [(5, 17, 3)]],
    ),
    "a branch and two views": Case(
        branch,
        [(2, 14)],
        [("b", "n")],
        ["n >= 9", "b*n % 7 == 0", "2*(b*n//7) % b == 0"],
        [[(3, 14)], [(2, 21)], [(7, 14)]],
    ),
    "MaxPool1d": Case(
        nn.MaxPool1d(2),
        [(2, 3, 8)],
        [("b", None, "n")],
        [],
        [[(3, 3, 2)], [(4, 3, 9)], [(2, 3, 33)]],
    ),
    "MaxPool1d with padding": Case(
        nn.MaxPool1d(3, 2, 1),
        [(2, 3, 8)],
        [("b", None, "n")],
        [],
        [[(3, 3, 2)], [(4, 3, 9)], [(2, 3, 33)]],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_guards_are_those_of_the_program(name: str) -> None:
    if name == "position embeddings, resized" and RELEASE >= (2, 14):
        pytest.skip(
            "torch 2.14 asks more questions about resized positions; the guards are needless"
        )
    case = CASES[name]
    example = tuple(r(*shape) for shape in case.example)
    t = symfx.trace(case.program, example, dynamic=case.dynamic)
    found = {str(guard).partition("  #")[0] for guard in t.guards}
    assert found <= set(case.guards)
    for shapes in case.others:
        inputs = tuple(r(*shape) for shape in shapes)
        assert t.check(*inputs), (shapes, str(t.check(*inputs)))
        wanted, got = case.program(*inputs), t(*inputs)
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("sizes", [(-2, -6), (-3, -1), (5, -1), (5, 2)])
def test_a_view_that_torch_refuses_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(symfx.TracingError):
        symfx.trace(lambda x: x.view(*sizes), r(4, 3))


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("glu", [(2, 5)]),
        ("reshape to another's shape", [(4, 6), (5, 5)]),
        ("pixel_unshuffle", [(2, 2, 5, 4)]),
        ("pixel_shuffle", [(2, 6, 4, 4)]),
        ("window partition", [(2, 8, 6, 3)]),
        ("window partition", [(2, 2, 4, 3)]),
        ("conv2d of a transposed input", [(2, 2, 2, 9)]),
        ("a branch and two views", [(3, 10)]),
        ("a branch and two views", [(2, 7)]),
    ],
)
def test_shapes_that_the_program_refuses_are_not_admitted(name: str, shapes: Shapes) -> None:
    case = CASES[name]
    t = symfx.trace(case.program, tuple(r(*s) for s in case.example), dynamic=case.dynamic)
    assert not t.check(*(r(*shape) for shape in shapes))

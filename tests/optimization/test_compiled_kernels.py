"""The compiled kernels against torch's operators in double precision, at random shapes."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from symfx.optimization.runtime import compiled, one_pass
from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled import SWITCH
from symfx.optimization.runtime.linear_kernels import COMPILED, linear_ways, make_linear_kernel
from symfx.optimization.runtime.one_pass import (
    layer_norm,
    plain_rms_norm,
    plainly_rotated,
    rms_norm,
    rotated,
    sdpa,
)

needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "_trusted", lambda: None)


def is_run(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """A list that gets an entry at each run of a kernel."""
    found: list[str] = []
    assert one_pass._trusted() is not None
    run = getattr(one_pass, name)
    monkeypatch.setattr(one_pass, name, lambda *a, **k: (found.append(name), run(*a, **k))[1])
    return found


MASKS: dict[str, Callable[[int, int, int, int], Tensor | None]] = {
    "none": lambda b, h, n, m: None,
    "causal": lambda b, h, n, m: None,
    "boolean": lambda b, h, n, m: torch.rand(n, m) > 0.4,
    "boolean of each head": lambda b, h, n, m: torch.rand(b, h, 1, m) > 0.5,
    "lower triangle": lambda b, h, n, m: torch.ones(b, 1, n, m, dtype=torch.bool).tril(),
    "additive": lambda b, h, n, m: torch.randn(b, 1, n, m),
    "additive of keys": lambda b, h, n, m: torch.randn(b, 1, 1, m),
    "minus infinity": lambda b, h, n, m: torch.where(torch.rand(n, m) > 0.5, 0.0, -torch.inf),
}


@needs_compiler
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = is_run(monkeypatch, "_attention")
    draw = random.Random(mask)
    for turn in range(40):
        batch, heads, sharing = draw.choice([1, 2, 3]), draw.choice([1, 2, 3]), draw.choice([1, 2])
        length = draw.choice([1, 2, 5, 6, 7, 24, 25, 31, 64, 100])
        count = draw.choice([1, 2, 5, 15, 16, 17, 63, 64, 65, 130])
        width = draw.choice([1, 2, 5, 8, 16, 20, 32, 64, 80])
        query = torch.randn(batch, length, heads * sharing, width).transpose(1, 2)
        if turn % 2:
            query = query.contiguous()
        key = torch.randn(batch, heads, count, width)
        value = torch.randn(batch, count, heads, width).transpose(1, 2)
        numbers = MASKS[mask](batch, heads * sharing, length, count)
        scale = draw.choice([None, 0.3, 2.0])
        options = {"is_causal": mask == "causal", "enable_gqa": sharing > 1, "scale": scale}
        found = sdpa(query, key, value, numbers, **options)
        expected = F.scaled_dot_product_attention(query, key, value, numbers, **options)
        wide = numbers.double() if numbers is not None and numbers.is_floating_point() else numbers
        exact = F.scaled_dot_product_attention(
            query.double(), key.double(), value.double(), wide, **options
        )
        assert found.stride() == expected.stride()
        assert torch.equal(found.isnan(), expected.isnan())
        torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-5, equal_nan=True)
    assert len(ran) == 40


@needs_compiler
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["query", "key", "value"])
@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "additive"])
def test_attention_to_numbers_that_are_not_finite(number: float, where: str, mask: str) -> None:
    given = {name: torch.randn(2, 2, 9, 16) for name in ("query", "key", "value")}
    given[where][0, 1, 4, 3] = number
    numbers = MASKS[mask](2, 2, 9, 9)
    options = {"attn_mask": numbers, "is_causal": mask == "causal"}
    found = sdpa(**given, **options)
    expected = F.scaled_dot_product_attention(**given, **options)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@needs_compiler
def test_attention_that_overflows() -> None:
    query, value = torch.full((1, 1, 4, 8), 1e30), torch.randn(1, 1, 4, 8)
    found = sdpa(query, query, value)
    expected = F.scaled_dot_product_attention(query, query, value)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("compiles", [True, False])
def test_attention_of_other_kinds_is_torchs(compiles: bool, request: pytest.FixtureRequest) -> None:
    if not compiles:
        request.getfixturevalue("no_kernels")
    q = torch.randn(2, 3, 5, 8)
    kinds = [
        (q.double(), q.double(), q.double(), None),
        (q[0], q[0], q[0], None),  # three dimensions
        (q, q, torch.randn(2, 3, 5, 4), None),  # another width
        (q.mT.contiguous().mT, q, q, None),  # strides
        (torch.empty(0, 3, 5, 8), torch.empty(0, 3, 5, 8), torch.empty(0, 3, 5, 8), None),
        (torch.empty(2, 3, 0, 8), q, q, None),
        (q, q, q, torch.randn(3, 5, 5)),
        (q, q, q, torch.ones(5, 5)),
    ]
    for scale in (-0.5, 0.0):
        options: dict[str, Any] = {"is_causal": True, "scale": scale}
        expected = F.scaled_dot_product_attention(q, q, q, **options)
        torch.testing.assert_close(sdpa(q, q, q, **options), expected, equal_nan=True)
    for query, key, value, mask in kinds:
        found = sdpa(query, key, value, mask)
        expected = F.scaled_dot_product_attention(query, key, value, mask)
        assert found.stride() == expected.stride()
        torch.testing.assert_close(found, expected)
    with pytest.raises(RuntimeError):
        sdpa(q, torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8))
    with pytest.raises(RuntimeError):
        sdpa(q, q, q, torch.ones(5, 4))


def test_gradients_and_transforms_are_torchs() -> None:
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    with torch.enable_grad():
        (mine,) = torch.autograd.grad(sdpa(q, q, q).sum(), q)
        (theirs,) = torch.autograd.grad(F.scaled_dot_product_attention(q, q, q).sum(), q)
    torch.testing.assert_close(mine, theirs)
    x = torch.randn(4, 3, 8)
    found = torch.func.vmap(lambda row: layer_norm(row, (8,)))(x)
    torch.testing.assert_close(found, F.layer_norm(x, (8,)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = q.detach().bfloat16()
        assert sdpa(half, half, half).dtype is torch.bfloat16


@needs_compiler
def test_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = is_run(monkeypatch, "_normalized")
    for size in (1, 2, 15, 16, 17, 33, 64, 250):
        x = 3 * torch.randn(3, 5, size) + 1
        weight, bias = torch.randn(size), torch.randn(size)
        for pair in ((weight, bias), (weight, None), (None, None)):
            for given in (x, x.transpose(0, 1), x[0, 0]):
                found, plain = (
                    layer_norm(given, (size,), *pair),
                    F.layer_norm(given, (size,), *pair),
                )
                assert found.stride() == plain.stride()
                wide = [None if t is None else t.double() for t in pair]
                exact = F.layer_norm(given.double(), (size,), *wide).float()
                torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)
        found = rms_norm(x, weight, 1e-6)
        torch.testing.assert_close(found, plain_rms_norm(x, weight, 1e-6), rtol=1e-4, atol=1e-5)
    assert len(ran) == 8 * 10
    for number in (torch.nan, torch.inf):
        x = torch.randn(3, 20)
        x[1, 7] = number
        torch.testing.assert_close(layer_norm(x, (20,)), F.layer_norm(x, (20,)), equal_nan=True)
        weight = torch.randn(20)
        expected = plain_rms_norm(x, weight, 1e-6)
        torch.testing.assert_close(rms_norm(x, weight, 1e-6), expected, equal_nan=True)


def test_norms_of_other_kinds_are_torchs() -> None:
    x = torch.randn(3, 4, 5)
    for given, shape in ((x, (4, 5)), (x.double(), (5,)), (x[:0], (5,))):
        torch.testing.assert_close(layer_norm(given, shape), F.layer_norm(given, shape))
    weight = torch.randn(5)
    turned = x.transpose(0, 1)
    found, expected = rms_norm(turned, weight, 0.1), plain_rms_norm(turned, weight, 0.1)
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected)
    assert rms_norm(x.bfloat16(), weight.bfloat16(), 0.1).dtype is torch.bfloat16


@needs_compiler
def test_rotary_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = is_run(monkeypatch, "_rotated")
    for width in (2, 6, 16, 30, 32, 64):
        x = torch.randn(2, 7, 3, width).transpose(1, 2)
        for batch in (1, 2):
            cos, sin = torch.randn(2, batch, 1, 7, width)
            torch.testing.assert_close(rotated(x, cos, sin), plainly_rotated(x, cos, sin))
    assert len(ran) == 12
    x, cos = torch.randn(2, 3, 7, 6), torch.randn(7, 6)
    torch.testing.assert_close(rotated(x, cos, cos), plainly_rotated(x, cos, cos))
    assert len(ran) == 12


POSTS = [
    PostOp("none"),
    PostOp("relu"),
    PostOp("swish"),
    PostOp("gelu", (), "none"),
    PostOp("gelu", (), "tanh"),
    PostOp("tanh"),
    PostOp("hardtanh", (0.0, 6.0)),
]


@needs_compiler
@pytest.mark.parametrize("post", POSTS, ids=str)
def test_linear_layers(post: PostOp) -> None:
    assert COMPILED in linear_ways()
    draw = random.Random(str(post))
    for turn in range(40):
        rows = draw.choice([1, 2, 5, 6, 7, 13, 64, 100])
        deep = draw.choice([1, 3, 16, 64, 511, 512, 513, 1030])
        wide = draw.choice([1, 5, 16, 63, 64, 65, 100, 128, 200])
        x, weight = torch.randn(rows, deep), torch.randn(wide, deep) / deep**0.5
        bias = torch.randn(wide) if turn % 3 else None
        other = torch.randn(rows, wide) if turn % 2 else None
        found = make_linear_kernel(COMPILED, weight, bias, post, rows)(x, other, False)
        exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        exact = exact if other is None else exact + other
        exact = post.function(exact) if post.function else exact
        torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=2e-5)


@needs_compiler
@pytest.mark.parametrize("post", POSTS, ids=str)
def test_linear_layers_keep_what_is_not_finite(post: PostOp) -> None:
    x = torch.eye(4).repeat(2, 1)
    x[0, 0], x[1, 1], x[2, 2] = torch.nan, torch.inf, -torch.inf
    weight = torch.ones(3, 4)
    found = make_linear_kernel(COMPILED, weight, None, post, 8)(x, None, False)
    y = F.linear(x, weight)
    # torch's own vector code has NaN for the GELU of infinity.
    exact = y * 0.5 * (1 + torch.erf(y * 0.5**0.5))
    expected = exact if str(post) == "gelu none" else post.apply_to(y)
    torch.testing.assert_close(found, expected, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_compute_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    x, weight = torch.randn(301, 70), torch.randn(130, 70)
    q, cos = torch.randn(2, 3, 150, 32), torch.randn(1, 1, 150, 32)

    def results() -> list[Tensor]:
        linear = make_linear_kernel(COMPILED, weight, None, PostOp("relu"), 301)
        return [
            linear(x, None, False),
            sdpa(q, q, q, is_causal=True),
            sdpa(q[:1, :1], q[:1, :1], q[:1, :1]),
            layer_norm(x, (70,)),
            rotated(q, cos, cos),
        ]

    torch.set_num_threads(1)
    alone = results()
    try:
        torch.set_num_threads(threads)
        together = results()
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


PROGRAM = """
import sys, torch
from symfx.optimization.runtime import compiled, one_pass
x = torch.ones(3, 8)
print(compiled.kernels() is not None, float(one_pass.layer_norm(x, (8,)).sum()))
"""


def started(folder: Path, **variables: str) -> subprocess.Popen[str]:
    given = {**os.environ, "XDG_CACHE_HOME": str(folder), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=given
    )


@needs_compiler
def test_several_processes_build_at_once(tmp_path: Path) -> None:
    processes = [started(tmp_path) for _ in range(3)]
    assert [each.communicate()[0].split() for each in processes] == [["True", "0.0"]] * 3
    (made,) = (tmp_path / "symfx" / "kernels").iterdir()
    assert made.suffix == ".so"
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    stamp = made.stat().st_mtime_ns
    assert started(tmp_path).communicate()[0].split() == ["True", "0.0"]
    assert made.stat().st_mtime_ns == stamp


@needs_compiler
def test_a_library_that_others_could_have_written_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "symfx" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert started(tmp_path).communicate()[0].split() == ["True", "0.0"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("variables", [{SWITCH: "0"}, {"PATH": "/nowhere"}], ids=["off", "none"])
def test_without_a_compiler_torchs_operators_run(variables: dict[str, str], tmp_path: Path) -> None:
    assert started(tmp_path, **variables).communicate()[0].split() == ["False", "0.0"]
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "gcc"
    fake.write_text("#!/bin/sh\n[ $1 = --version ] && echo 1 || exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(compiled, "compiler", lambda: str(fake))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.kernels.__wrapped__() is None


@needs_compiler
def test_kernels_that_compute_wrongly_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = one_pass._normalized
    monkeypatch.setattr(one_pass, "_normalized", lambda *a, **k: right(*a, **k) + 1)
    assert one_pass._trusted.__wrapped__() is None

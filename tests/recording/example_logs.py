"""Logs of environments that had something of everything, for the tests of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch._dynamo.source import LocalSource

import symfx
from symfx.recording import EventLog, recording_shape_envs
from symfx.symbolic_shapes import Dim, ShapeEnv

__all__ = ["write_example_logs"]


def _by_hand() -> ShapeEnv:
    """An environment to which each kind of call is made."""
    env = ShapeEnv(should_record_events=True)

    def sizes(shape: tuple[int, ...], name: str) -> Any:
        found, _, _ = env.create_symbolic_sizes_strides_storage_offset(
            torch.empty(shape), LocalSource(name)
        )
        return found

    a, b = sizes((8, 6), "x")
    env.name_dimension("y", 0, Dim("batch", max=64))
    c, _ = sizes((8, 1), "y")
    assert a + b > 10
    assert a * b % 4 == 0
    assert c == a
    u = env.create_unbacked_symint()
    f = env.create_unbacked_symfloat()
    torch._check(u <= a + 1)
    torch._check(u >= 2, lambda: "too few")
    torch._check(f > 0.5)
    torch._check(env.create_unbacked_symbool())
    env.constrain_symbol_range(u.node.expr, 0, 100)
    env._constrain_range_for_size(env.create_unbacked_symint().node.expr)
    n = env.create_symintnode(env.create_unspecified_symbol(-3, LocalSource("n")), hint=-3)
    assert n // 2 == -2
    return env


def _of_a_trace() -> ShapeEnv:
    def model(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        chosen = x[x.sum(1) > 0]
        if x.shape[0] * x.shape[1] > 12:
            return chosen @ y
        return torch.cat([chosen, x]) @ y

    with recording_shape_envs() as environments:
        symfx.trace(model, (torch.randn(4, 6), torch.randn(6, 3)), dynamic=[True, True])
    (env,) = environments
    return env


def write_example_logs(folder: Path) -> list[Path]:
    """Save the example logs in a folder, and return their paths."""
    paths = []
    for name, env in (("by_hand", _by_hand()), ("of_a_trace", _of_a_trace())):
        paths.append(folder / f"{name}.json")
        EventLog.of(env).save(paths[-1])
    return paths

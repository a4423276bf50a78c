"""``^`` of symbolic booleans, which torch has from 2.14 on."""

import itertools

import pytest
import torch

from symfx.proxy_tensor import make_fx
from symfx.torch_bridge.releases import SYMBOOL_HAS_XOR


@pytest.mark.skipif(not SYMBOOL_HAS_XOR, reason="torch.SymBool has no ^")
def test_xor_is_guarded_and_computed() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if (x.shape[0] > 3) ^ (x.shape[1] > 3) else x

    for rows, columns in itertools.product((2, 5), (3, 7)):
        x = torch.ones(rows, columns)
        g = make_fx(f, tracing_mode="symbolic")(x)
        assert torch.equal(g(x), f(x))
        assert len(g.shape_env.guards) == 1
    # The results of both branches at sizes that the guard admits.
    g = make_fx(f, tracing_mode="symbolic")(torch.ones(2, 5))
    assert torch.equal(g(torch.ones(3, 9)), torch.full((3, 9), 2.0))

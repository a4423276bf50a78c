"""``assert`` on data: the graph asserts what the program asserts, and no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.tracing import asserting_models as models

import symfx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

r, T = torch.randn, torch.tensor


@pytest.mark.parametrize("model", [models.within, models.both, models.refused, models.Checked()])
def test_the_graph_asserts_it(model: Callable[..., torch.Tensor]) -> None:
    dynamic = {"x": ("n", None), "lengths": ("k",)}
    t = symfx.trace(model, (r(5, 3), T([2, 1, 4])), dynamic=dynamic)
    assert not t.guards
    for n in (3, 7):
        good, bad = (r(n, 3), T([1, 3])), (r(n, 3), T([1, 9]))
        torch.testing.assert_close(t(*good), model(*good))
        with pytest.raises(AssertionError):
            model(*bad)
        with pytest.raises(RuntimeError, match="assert"):
            t(*bad)


@pytest.mark.parametrize(
    "model",
    [models.either, models.first_of_either, models.branch, models.caught, models.caught_around],
)
def test_a_program_that_goes_on_with_the_other_outcome_is_refused(
    model: Callable[..., torch.Tensor],
) -> None:
    with pytest.raises(GuardOnDataDependentSymNode):
        symfx.trace(model, r(5).clamp(-1, 1), dynamic={"x": ("n",)})

"""Operators that torch's make_fx refuses in symbolic mode, in some release, and symfx traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch_releases import stock_traces

from symfx.proxy_tensor import make_fx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode


def t(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(shape)


def ctc(a: int, b: int) -> tuple[Any, ...]:
    probabilities = t(a + 6, b, 5).log_softmax(2)
    lengths = torch.arange(b) % 3 + 1
    return probabilities, torch.ones(b, 3, dtype=torch.int64), torch.full((b,), a + 5), lengths


def two(a: int, b: int) -> tuple[Any, ...]:
    return t(a, b), t(a, b)


def one(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def experts(a: int, b: int) -> tuple[Any, ...]:
    return t(a + b, 16), t(2, 8, 16), torch.tensor([a, a + b], dtype=torch.int32)


PROGRAMS: dict[str, tuple[Callable[..., Any], Callable[[int, int], tuple[Any, ...]]]] = {
    "cov": (torch.cov, one),
    "cov_of_ints": (lambda x: torch.cov((x * 9).long(), correction=0), one),
    "cov_of_one": (lambda x: torch.cov(x[0]), one),
    "cov_weighted": (
        lambda x, f, w: torch.cov(x, fweights=f, aweights=w, correction=2),
        lambda a, b: (t(a, b), torch.arange(b) + 1, t(b).abs()),
    ),
    "cov_complex": (lambda x, y: torch.cov(torch.complex(x, y)), two),
    "corrcoef": (torch.corrcoef, one),
    "corrcoef_complex": (lambda x, y: torch.complex(x, y).corrcoef(), two),
    "equal": (lambda x, y: (torch.equal(x, y), x.equal(x + 1)), two),
    "one_hot": (F.one_hot, lambda a, b: ((torch.arange(a * b) % (a + b)).view(a, b),)),
    "gaussian_nll_loss": (
        lambda x, y: F.gaussian_nll_loss(x, y, (x * x).sum(1), full=True, reduction="none"),
        two,
    ),
    "grouped_mm": (lambda x, w, ends: F.grouped_mm(x, w.mT, offs=ends).relu(), experts),
    "grouped_mm_of_gradients": (
        lambda x, y, ends: torch._grouped_mm(x.t().contiguous(), y, ends),
        lambda a, b: (t(4 * a, 8), t(4 * a, 16), torch.tensor([b, 4 * a], dtype=torch.int32)),
    ),
    "geqrf": (lambda x: torch.geqrf(x), one),
    "geqrf_batch": (lambda x: torch.geqrf(x), lambda a, b: (t(2, b, a),)),
    "lstsq": (lambda x, y: torch.linalg.lstsq(x, y), lambda a, b: (t(a + b, b), t(a + b, 2))),
    "lstsq_residuals": (
        lambda x, y: torch.linalg.lstsq(x, y, driver="gels"),
        lambda a, b: (t(2, a + b, b), t(2, a + b, 3)),
    ),
    **{
        f"lstsq_{driver}": (
            lambda x, y, driver=driver: torch.linalg.lstsq(x, y, driver=driver),
            lambda a, b: (t(a + b, b), t(a + b, 2)),
        )
        for driver in ("gelsd", "gelss")
    },
    "lstsq_wide": (
        lambda x, y: torch.linalg.lstsq(x, y, driver="gelsd"),
        lambda a, b: (t(2, 1, b, a + b), t(3, b, 2).expand(2, 3, b, 2)),
    ),
    "lstsq_vectors": (
        lambda x, y: torch.linalg.lstsq(x, y),
        lambda a, b: (t(2, a + b, b), t(2, a + b)),
    ),
    "lstsq_not_of_full_rank": (
        lambda x, y: torch.linalg.lstsq(x * 0, y, driver="gelsd"),
        lambda a, b: (t(a + b, b), t(a + b, 2)),
    ),
    "to_sparse": (lambda x: (x.relu().to_sparse(), x.to_sparse(1)), one),
    "to_sparse_and_back": (lambda x: x.relu().to_sparse().to_dense() + x, one),
    "count_of_sparse": (
        lambda x: torch.ones(x.relu().to_sparse().values().shape[0] + 1),
        one,
    ),
    "ctc_loss_gradient": (
        lambda x, *more: torch.func.grad(lambda x: F.ctc_loss(x, *more))(x),
        ctc,
    ),
    "foreach_max": (lambda x: torch._foreach_max([x, x.sum(0)]), one),
    "gather_out": (
        lambda x: torch.gather(x, 1, x.argsort(1), out=torch.zeros(x.shape)),
        one,
    ),
    "gather_out_of_another_size": (
        lambda x: torch.gather(x, 1, x.argsort(1)[:, :2], out=torch.zeros(0)) + 1,
        one,
    ),
    **{
        f"scatter_out_{name}": (
            lambda x, y, value=value, more=more: torch.scatter(
                x, 1, y.argsort(1), y if value is None else value, **more, out=torch.zeros(x.shape)
            ),
            two,
        )
        for name, value, more in (
            ("src", None, {}),
            ("value", 2.5, {}),
            ("src_reduced", None, {"reduce": "add"}),
            ("value_reduced", 2.5, {"reduce": "multiply"}),
        )
    },
    "scatter_add_out": (
        lambda x, y: torch.scatter_add(x, 1, y.argsort(1), y, out=torch.zeros(x.shape)),
        two,
    ),
    "angle_out": (lambda x: torch.angle(x, out=torch.zeros(x.shape)), one),
    "geqrf_out": (lambda x: torch.geqrf(x, out=(torch.zeros(0), torch.zeros(0))), one),
    "histogram_out": (lambda x: torch.histogram(x, 7, out=(torch.zeros(7), torch.zeros(8))), one),
    "lstsq_out": (
        lambda x, y: torch.linalg.lstsq(
            x, y, out=(torch.zeros(0), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0))
        ),
        lambda a, b: (t(a + b, b), t(a + b, 2)),
    ),
    "batch_norm_out": (
        lambda x: torch.ops.aten._native_batch_norm_legit.no_stats_out(
            x,
            None,
            None,
            True,
            0.1,
            1e-5,
            out=torch.zeros(x.shape),
            save_mean=torch.zeros(x.shape[1]),
            save_invstd=torch.zeros(x.shape[1]),
        ),
        one,
    ),
    "resize_": (lambda x: x.clone().resize_(2, 3), one),
    "resize_as_": (lambda x, y: x.clone().resize_as_(y[:2, :3]), two),
    "histogram": (lambda x: torch.histogram(x, 7), one),
    "histogram_of_edges": (torch.histogram, lambda a, b: (t(a, b), torch.linspace(-2, 2, a))),
    "histogramdd": (lambda x: torch.histogramdd(x, [3, 4]), lambda a, b: (t(a * b, 2),)),
    "ctc_loss": (F.ctc_loss, ctc),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_traced_by_symfx_alone(name: str) -> None:
    f, make = PROGRAMS[name]
    if not stock_traces(name):
        with pytest.raises((RuntimeError, AssertionError)):
            stock_make_fx(f, tracing_mode="symbolic")(*make(3, 4))
    g = make_fx(f, tracing_mode="symbolic")(*make(3, 4))
    for shape in ((3, 4), (5, 6)):
        actual, expected = (pytree.tree_leaves(h(*make(*shape))) for h in (g, f))
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            if isinstance(b, torch.Tensor):
                torch.testing.assert_close(a, b, equal_nan=True)
            else:
                assert a == b


@pytest.mark.parametrize(
    "name", ["geqrf", "geqrf_batch", "lstsq", "lstsq_residuals", "lstsq_wide", "lstsq_vectors"]
)
def test_layouts(name: str) -> None:
    f, make = PROGRAMS[name]
    traced = make_fx(f, tracing_mode="fake")(*make(3, 4))
    (results,) = traced.graph.output_node().args
    for node, real in zip(results, f(*make(3, 4)), strict=True):  # type: ignore[arg-type]
        assert node.meta["val"].stride() == real.stride()  # type: ignore[union-attr]
        assert node.meta["val"].dtype is real.dtype  # type: ignore[union-attr]


def test_the_graph_asserts_the_checks_of_torchs_kernels() -> None:
    g = make_fx(F.one_hot, tracing_mode="symbolic")(torch.tensor([1, 2]))
    with pytest.raises(RuntimeError, match="non-negative"):
        g(torch.tensor([1, -2]))
    g = make_fx(F.gaussian_nll_loss, tracing_mode="symbolic")(t(3, 4), t(3, 4), t(3, 4).abs())
    with pytest.raises(RuntimeError, match="negative"):
        g(t(3, 4), t(3, 4), t(3, 4))


def test_a_choice_by_data_is_not_made_while_tracing() -> None:
    with pytest.raises(GuardOnDataDependentSymNode, match="test_beyond_stock"):
        make_fx(lambda x, y: x if torch.equal(x, y) else y, tracing_mode="symbolic")(*two(3, 4))


def test_the_number_of_values_of_a_sparse_tensor_is_never_known() -> None:
    # torch's fake kernel says 0 where all sizes are known.
    g = make_fx(lambda x: x.to_sparse().values().sum(), tracing_mode="symbolic")(torch.ones(1, 1))
    assert g(torch.ones(1, 1)) == 1


def test_resizing_makes_the_storage_larger_and_keeps_views() -> None:
    def f(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.clone()
        first = x[:1]
        x.resize_(7, 9)
        x.fill_(2.0)
        return first * 3, x[6:, 1:] + first.sum()

    g = make_fx(f, tracing_mode="symbolic")(t(3, 4))
    for x in (t(3, 4), t(6, 5)):
        torch.testing.assert_close(g(x), f(x))


def test_a_result_is_not_lost_on_its_way_into_out() -> None:
    # Stock's graph returns `out` unchanged.
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_rank(x, out=torch.zeros(0, dtype=torch.int64))

    g = make_fx(f, tracing_mode="symbolic")(t(3, 4))
    for x in (t(3, 4), t(6, 2)):
        assert g(x) == f(x) == min(x.shape)


def test_an_out_of_another_dtype_is_refused() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.angle(x, out=torch.zeros(x.shape, dtype=torch.int64))

    with pytest.raises(RuntimeError, match=r"cannot write its result of torch\.float32"):
        make_fx(f, tracing_mode="symbolic")(t(3, 4))


def test_products_with_sparse_matrices() -> None:
    sparse = (torch.eye(3, 4) * 2).to_sparse_csr()
    x, y = t(3, 5), t(5, 4)
    for f, args in (
        (torch.sparse.sampled_addmm, (sparse, x, y)),
        (lambda s, z: torch.sparse.mm(s, z, "amax"), (sparse, t(4, 2))),
    ):
        g = make_fx(f, tracing_mode="symbolic")(*args)
        torch.testing.assert_close(g(*args), f(*args))

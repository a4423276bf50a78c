"""What a graph computes is what eager computes: torch's operators and modules, in both modes.

In symbolic mode torch takes many functions apart, and a few of its decompositions compute something
else. Operators come from torch's own database, and modules from its database of modules, in train
mode and in eval mode. Random operators run from one seed. Results are compared in value, dtype and
layout; a refusal to trace is no wrong result.

SYMFX_LONG=1 tries every operator and module; otherwise some of each are tried.
"""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from tools.operators.results import copies, disagreement, run
from tools.operators.samples import calls
from tools.operators.tally import EMPTY, full_name
from torch import nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.utils import _pytree as pytree

from symfx.proxy_tensor import make_fx

LONG = os.environ.get("SYMFX_LONG") == "1"
SAMPLES = 12 if LONG else 2

#: In the short run: some operators by chance, and those with randomness or a mode.
BY_NAME = sorted({op.name for op in op_db} - EMPTY)
RANDOM = [
    "nn.functional.dropout", "nn.functional.alpha_dropout", "nn.functional.feature_alpha_dropout",
    "nn.functional.rrelu", "nn.functional.scaled_dot_product_attention", "bernoulli",
    "nn.functional.multilabel_margin_loss", "nn.functional.batch_norm", "nn.functional.gaussian_nll_loss",
]  # fmt: skip
OPERATORS = BY_NAME if LONG else [*RANDOM, *random.Random(0).sample(BY_NAME, 40)]

Check = tuple[str, Callable[..., Any], Sequence[torch.Tensor]]


def wrong(f: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> str | None:
    """The disagreement of a graph with its function in words; None if there is none.

    Raises:
        Exception: the function cannot be traced.
    """
    expected = run(f, tensors)
    if disagreement(run(f, tensors), expected, True) is not None:
        return None  # the function itself gives other values in each run
    graph = make_fx(f, tracing_mode="symbolic")(*copies(tensors))
    found = run(graph, tensors)
    said = disagreement(found, expected, True)
    return said or next(filter(None, map(other_layout, found, expected)), None)


def other_layout(found: Any, expected: Any) -> str | None:
    if not isinstance(expected, torch.Tensor) or expected.layout is not torch.strided:
        return None
    if expected.numel() < 2:
        return None
    # The stride of a dimension of size 1 says nothing.
    strides = [[s for s, n in zip(t.stride(), t.shape) if n > 1] for t in (found, expected)]
    return None if strides[0] == strides[1] else f"strides {strides[0]} instead of {strides[1]}"


def outcomes(checks: Iterator[Check]) -> tuple[dict[str, str], list[str], int]:
    """The wrong results by name, the refusals, and the number of comparisons."""
    bad: dict[str, str] = {}
    refused = []
    compared = 0
    for name, f, tensors in checks:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said = wrong(f, tensors)
        except Exception as error:  # noqa: BLE001 - a refusal, which the caller counts
            refused.append(f"{name}: {type(error).__name__}")
            continue
        compared += 1
        if said is not None:
            bad[name] = said
    return bad, refused, compared


def of_operator(name: str) -> Iterator[Check]:
    for op in op_db:
        if op.name != name:
            continue
        for dtype in (torch.float32, torch.int64):
            if not op.supports_dtype(dtype, "cpu"):
                continue
            for call in calls(op, dtype, "function", SAMPLES):
                try:
                    call.f(*copies(call.tensors))
                except Exception:  # noqa: BLE001 - torch itself refuses the sample
                    continue
                yield full_name(op), call.f, call.tensors


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_computes_what_eager_does(name: str) -> None:
    bad, _, _ = outcomes(of_operator(name))
    assert bad == {}


def of_module(module: nn.Module, args: Any, kwargs: Any) -> Check:
    """A module as a function of its parameters, its buffers and its inputs."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def f(*tensors: torch.Tensor) -> Any:
        own = list(leaves)
        for i, tensor in zip(places, tensors[len(state) :], strict=True):
            own[i] = tensor
        args, kwargs = pytree.tree_unflatten(own, spec)
        given = dict(zip(state, tensors, strict=False))
        return torch.func.functional_call(module, given, args, kwargs)

    tensors = [t.detach() for t in (*state.values(), *(leaves[i] for i in places))]
    return type(module).__name__, f, tensors


def samples_of_modules(info: Any, training: bool) -> Iterator[Check]:
    torch.manual_seed(0)
    given = info.module_inputs_func(
        info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
    )
    for i, sample in enumerate(given):
        if sample.forward_input is None or (i % 7 and not LONG):
            continue
        made = sample.constructor_input
        module = info.module_cls(*made.args, **made.kwargs).train(training)
        args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
        try:
            copy.deepcopy(module)(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        except Exception:  # noqa: BLE001 - torch itself refuses the sample
            continue
        yield of_module(module, args, kwargs)


MODULES = [info for info in module_db if "Lazy" not in info.name]
SOME = MODULES if LONG else random.Random(0).sample(MODULES, 16)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", SOME, ids=lambda info: info.name)
def test_a_module_computes_what_eager_does(info: Any, training: bool) -> None:
    bad, _, _ = outcomes(samples_of_modules(info, training))
    assert bad == {}


def random_modules() -> Iterator[nn.Module]:
    """Modules with dropout, whose decompositions may lose it or draw other numbers."""
    for make in (nn.LSTM, nn.GRU, nn.RNN):
        for bidirectional in (False, True):
            yield make(4, 6, num_layers=2, dropout=0.5, bidirectional=bidirectional)
    yield nn.RNN(4, 6, num_layers=3, nonlinearity="relu", dropout=0.3, batch_first=True)
    yield nn.LSTM(4, 6, num_layers=2, dropout=0.5, proj_size=3)
    yield from (
        nn.Dropout(0.5),
        nn.Dropout1d(0.5),
        nn.AlphaDropout(0.5),
        nn.FeatureAlphaDropout(0.5),
    )
    yield from (nn.RReLU(), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("module", random_modules(), ids=lambda m: type(m).__name__)
def test_a_module_with_dropout_draws_what_eager_draws(module: nn.Module, training: bool) -> None:
    bad, refused, compared = outcomes(
        iter([of_module(module.train(training), (torch.randn(5, 3, 4),), {})])
    )
    assert (bad, refused, compared) == ({}, [], 1)


def test_a_wrong_decomposition_would_be_found() -> None:
    class Loses(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            traced = isinstance(x, torch._subclasses.FakeTensor)
            return x.clone() if traced else nn.functional.dropout(x, 0.5)

    class Turns(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            traced = isinstance(x, torch._subclasses.FakeTensor)
            return x.clone() if traced else x.t().contiguous().t()

    x = torch.ones(4, 5)
    assert outcomes(iter([of_module(Loses(), (x,), {})]))[0] == {"Loses": "other values"}
    assert "strides" in outcomes(iter([of_module(Turns(), (x,), {})]))[0]["Turns"]

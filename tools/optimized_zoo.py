"""``python -m tools.optimized_zoo [NAMES]``: the models of the zoo whose layers are rewritten.

Each model is optimized with every rewrite, and compared with itself at the example. The models are
tiny, so that their times say nothing: no form is chosen by time.
"""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import symfx
from symfx.optimization import pipeline, tuning
from symfx.optimization.runtime.packed_layer import PackedLayer
from symfx.sweep.architectures import ARCHITECTURES, Architecture

_LAYERS = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d")


@dataclass
class Row:
    """The result for one model.

    Attributes:
        name: of the model.
        layers: the number of convolutions and linear layers that a run calls.
        rewritten: the number of layers of the optimized model that run as fused or packed ones. A
            layer that joins several counts once.
        problem: the failure in words; empty if there is none.
    """

    name: str
    layers: int
    rewritten: int = 0
    problem: str = ""


def _called_layers(model: nn.Module, inputs: dict[str, Any]) -> int:
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda layer, *_: called.add(layer))
        for module in model.modules()
        if type(module).__name__ in _LAYERS
    ]
    model(**inputs)
    for handle in handles:
        handle.remove()
    return len(called)


def _same(found: Any, expected: Any) -> bool:
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True)
    return all(
        torch.allclose(mine, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)
        for mine, theirs in pairs
        if isinstance(theirs, Tensor)
    )


def examine(model: Architecture) -> Row:
    """Optimize a model, and compare."""
    module, inputs = model.build(), dict(model.example())
    row = Row(model.name, _called_layers(module, inputs))
    try:
        fast = symfx.optimize(module, example_kwargs=inputs)
        row.rewritten = sum(isinstance(part, PackedLayer) for part in fast.modules())
        torch.manual_seed(0)  # some models draw random numbers
        found = fast(**inputs)
        torch.manual_seed(0)
        if not _same(found, module(**inputs)):
            row.problem = "the results differ at the example"
    except Exception as error:  # noqa: BLE001 - any failure is a finding
        row.problem = f"{type(error).__name__}: {error}".splitlines()[0]
    return row


def main(names: list[str]) -> int:
    """Print a row for each model, and how many are rewritten with equal results."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    replaced: Any = pipeline
    replaced._fastest = lambda *given: "fused"
    replaced.restore_idle_parts = lambda module: None
    timed: Any = tuning
    timed._MATTERS, timed._fastest = 0.0, lambda ways: (list(ways)[-1], 1.0)
    rows = []
    for name in names or ARCHITECTURES:
        with torch.no_grad():
            rows.append(examine(ARCHITECTURES[name]))
        row = rows[-1]
        print(f"{name}: {row.rewritten} for {row.layers} layers {row.problem}", flush=True)
    good = sum(row.rewritten > 0 and not row.problem for row in rows)
    print(f"{good} of {len(rows)} models have rewritten layers and equal results")
    return int(any(row.problem for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

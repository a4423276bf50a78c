"""Expectations that differ between the releases of torch, with the reason for each."""

from __future__ import annotations

import torch.fx.experimental.optimization as stock_optimization
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from symfx.torch_bridge.releases import RELEASE

# The first release whose own make_fx traces a program that older ones refuse.
STOCK_TRACES_FROM = {
    # torch 2.14 has fake kernels for resizing to symbolic sizes.
    "resize_": (2, 14),
    "resize_as_": (2, 14),
    # torch 2.15 has fake kernels for these.
    "grouped_mm": (2, 15),
    "grouped_mm_of_gradients": (2, 15),
    "histogramdd": (2, 15),
}

STOCK_HAS_MKLDNN_MAP = hasattr(stock_optimization, "mkldnn_map")
"""False from torch 2.14 on, which keeps the table inside of a function."""


STOCK_HAS_EVALUATE_SYMEXPR = hasattr(ShapeEnv, "evaluate_symexpr")
"""False from torch 2.15 on; symfx keeps the method."""

# torch 2.15 takes an equation of conditions apart; older releases subtract its sides.
STOCK_ANSWERS_EQUATIONS_OF_CONDITIONS = RELEASE >= (2, 15)

# torch 2.15 reads an attribute of the first argument where older releases assert its class.
ERROR_OF_EVENTS_WITHOUT_SHAPE_ENV = AssertionError if RELEASE < (2, 15) else AttributeError

# torch 2.14 remembers the symbols of another environment, and takes their bounds over.
STOCK_KEEPS_TRANSFERRED_SYMBOLS = RELEASE >= (2, 14)

# torch 2.15 has serialization names for the classes of results, such as that of torch.topk.
STOCK_SAVES_NAMED_RESULTS = RELEASE >= (2, 15)


def stock_traces(name: str) -> bool:
    """Whether the make_fx of the installed torch traces a program of `test_beyond_stock`."""
    first = STOCK_TRACES_FROM.get(name)
    return first is not None and first <= RELEASE

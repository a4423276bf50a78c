"""The tally of an operator: how many of its samples symfx and stock torch trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.testing._internal.common_methods_invocations import op_db

from symfx.proxy_tensor import make_fx
from tools.operators.other_shapes import Admitted, StockAdmitted, SymfxAdmitted, another_shape
from tools.operators.results import copies, disagreement, run
from tools.operators.samples import Call, calls

__all__ = ["PEERS", "SAMPLES", "Row", "full_name", "problem", "row", "rows"]

DTYPES = (torch.float32, torch.int64)

#: Operators that return memory without writing to it: their values are not compared.
EMPTY = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
)


@dataclass
class Row:
    """The outcome of an operator's samples in one form.

    Attributes:
        name: the operator, with its variant.
        form: one of `FORMS`.
        samples: the number of samples that were tried.
        symfx, stock: the number of samples that each traced.
        elsewhere: the number of samples that symfx traced and that ran at another shape too.
        symfx_alone: the number of samples that symfx traced and stock did not.
        problems: the messages about samples that symfx did not trace, with their counts.
        stock_problems: the same for stock.
    """

    name: str
    form: str = "function"
    samples: int = 0
    symfx: int = 0
    stock: int = 0
    elsewhere: int = 0
    symfx_alone: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    stock_problems: dict[str, int] = field(default_factory=dict)


PEERS: dict[str, tuple[Callable[..., Any], Callable[[Any], Admitted]]] = {
    "symfx": (make_fx, SymfxAdmitted),
    "stock": (stock_make_fx, StockAdmitted),
}


def problem(peer: str, call: Call, values: bool) -> tuple[str | None, bool]:
    """The fault of a peer's trace of a call, or None; and whether it ran at another shape too."""
    maker, admitted = PEERS[peer]
    try:
        g = maker(call.f, tracing_mode="symbolic")(*copies(call.tensors))
    except Exception as error:  # noqa: BLE001 - any failure is a finding, and goes into the table
        return f"{type(error).__name__}: {_first_line(error)}", False
    found = _compared(g, call, call.tensors, values)
    if found is not None or not all(t.layout is torch.strided for t in call.tensors):
        return found, False
    other = another_shape(g, admitted(g.shape_env), call)
    if other is None:
        return None, False
    found = _compared(g, call, other, values)
    return found and f"at another shape: {found}", True


def _compared(g: Any, call: Call, tensors: Sequence[torch.Tensor], values: bool) -> str | None:
    try:
        return disagreement(run(g, tensors), run(call.f, tensors), values)
    except Exception as error:  # noqa: BLE001 - a finding
        return f"the graph fails: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def full_name(op: Any) -> str:
    """The name of an operator with its variant."""
    name: str = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
    return name


def row(op: Any, form: str, samples: int) -> Row:
    """The row of an operator in one form, from some of its samples."""
    result = Row(full_name(op), form)
    values = op.name not in EMPTY
    dtypes = [d for d in DTYPES if op.supports_dtype(d, "cpu")]
    if form == "gradient":
        dtypes = [d for d in dtypes if d.is_floating_point]
    for dtype in dtypes:
        for call in calls(op, dtype, form, samples):
            try:
                run(call.f, call.tensors)
            except Exception:  # noqa: BLE001 - samples that torch itself refuses
                continue
            result.samples += 1
            answers = {}
            for peer in PEERS:
                answers[peer], elsewhere = problem(peer, call, values)
                result.elsewhere += peer == "symfx" and elsewhere
            ours, theirs = answers["symfx"], answers["stock"]
            result.symfx += ours is None
            result.stock += theirs is None
            result.symfx_alone += ours is None and theirs is not None
            for said, counts in ((ours, result.problems), (theirs, result.stock_problems)):
                if said is not None:
                    counts[said[:160]] = counts.get(said[:160], 0) + 1
    return result


SAMPLES: Mapping[str, int] = {"function": 3, "in place": 1, "out=": 1, "gradient": 1}
"""The number of samples of each operator and dtype, by form."""


def rows(
    names: Iterable[str] = (),
    operators: Iterable[Any] = op_db,
    samples: Mapping[str, int] = SAMPLES,
) -> Iterator[Row]:
    """The rows of the named operators, or of all operators if no name is given.

    Args:
        names: the names of the wanted operators.
        operators: the operators to choose from.
        samples: the number of samples of each dtype, by form.
    """
    wanted = set(names)
    for op in operators:
        if not wanted or op.name in wanted:
            for form, count in samples.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield row(op, form, count)

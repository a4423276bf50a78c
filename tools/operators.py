"""Which operators symfx traces, and which stock torch does: the operator database, row by row.

    python -m tools.operators               writes docs/operators.md
    python -m tools.operators add matmul    prints the rows of some operators

For each operator of torch's own test database that runs on CPU: sample inputs in float32 and
int64, traced with symbolic shapes. A trace counts where its graph, run at the traced shapes and
at one more shape that its guards admit, gives what the operator itself gives.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from symfx.algebra import evaluate
from symfx.proxy_tensor import make_fx

DTYPES = (torch.float32, torch.int64)
PAGE = Path(__file__).parents[1] / "docs" / "operators.md"

# What they return is memory that nobody has written to.
EMPTY = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
)


@dataclass
class Row:
    """What became of an operator's samples.

    Attributes:
        name: the operator, with its variant.
        samples: how many were tried.
        symfx, stock: how many each traced.
        problems: what was said about the others, with how often.
    """

    name: str
    samples: int = 0
    symfx: int = 0
    stock: int = 0
    elsewhere: int = 0
    problems: Counter[str] = field(default_factory=Counter)


@dataclass
class Call:
    """A sample as a function of its tensors."""

    f: Callable[..., Any]
    tensors: list[torch.Tensor]


def calls(op: Any, dtype: torch.dtype, count: int) -> Iterator[Call]:
    """The first samples of an operator."""
    torch.manual_seed(0)
    for sample in itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), count):
        leaves, spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

        def f(*tensors: Any, leaves: Any = leaves, places: Any = places, spec: Any = spec) -> Any:
            own = list(leaves)
            for i, tensor in zip(places, tensors, strict=True):
                own[i] = tensor
            first, args, kwargs = pytree.tree_unflatten(own, spec)
            return op(first, *args, **kwargs)

        yield Call(f, [leaves[i] for i in places])


def run(f: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> list[Any]:
    """A function's results, and what it made of its inputs."""
    own = copy.deepcopy(list(tensors))
    # Where torch's database fixes the seed of a random operator, it is this one.
    torch.manual_seed(42)
    return pytree.tree_leaves((f(*own), own))


def disagreement(actual: list[Any], expected: list[Any], values: bool) -> str | None:
    """How results differ; None where they do not."""
    if len(actual) != len(expected):
        return f"{len(actual)} results instead of {len(expected)}"
    for a, b in zip(actual, expected, strict=True):
        if not isinstance(b, torch.Tensor):
            if a != b and not (isinstance(b, float) and math.isnan(a) and math.isnan(b)):
                return f"{a} instead of {b}"
            continue
        if a.shape != b.shape or a.dtype is not b.dtype or a.layout is not b.layout:
            return f"{a.dtype} {tuple(a.shape)} instead of {b.dtype} {tuple(b.shape)}"
        if values:
            try:
                torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-4)
            except AssertionError:
                return "other values"
    return None


def traced(
    maker: Callable[..., Any], call: Call, expected: list[Any], values: bool
) -> tuple[Any, str | None]:
    """The graph of a call, and what is wrong with it."""
    try:
        g = maker(call.f, tracing_mode="symbolic")(*copy.deepcopy(call.tensors))
    except Exception as error:  # noqa: BLE001 - any failure is a finding, and goes into the table
        said = (str(error).strip() or "no message").splitlines()[0]
        return None, f"{type(error).__name__}: {said}"
    try:
        return g, disagreement(run(g, call.tensors), expected, values)
    except Exception as error:  # noqa: BLE001 - as above
        return None, f"the graph fails: {str(error).splitlines()[0]}"


def another_shape(g: Any, call: Call) -> list[torch.Tensor] | None:
    """Inputs of other sizes that the guards of a trace admit, and the operator takes."""
    env = g.shape_env
    symbols = [s for s in env.symbol_table() if not s.unbacked and s.hint is not None]
    if not symbols:
        return None
    values = [n.meta["val"] for n in g.graph.nodes if n.op == "placeholder"]
    guards = [guard.term for guard in env.guards]
    for change in (lambda n: n + 1, lambda n: 2 * n, lambda n: n + 2, lambda n: 3 * n):
        sizes = {s.term: change(int(s.hint)) for s in symbols}
        if any(
            (s.lower is not None and sizes[s.term] < s.lower)
            or (s.upper is not None and sizes[s.term] > s.upper)
            for s in symbols
        ) or not all(evaluate(guard, sizes) for guard in guards):
            continue

        def number(n: Any, sizes: Any = sizes) -> int:
            return n if type(n) is int else int(evaluate(n.node.term, sizes))

        made = [
            resized(t, [number(n) for n in v.shape], [number(n) for n in v.stride()])
            for t, v in zip(call.tensors, values, strict=True)
        ]
        try:
            # It may refuse what no guard speaks of; or take it, and read what is not there.
            if all(disagreement(run(call.f, made), run(call.f, made), True) is None for _ in "abc"):
                return made
        except Exception:  # noqa: BLE001 - as said
            continue
    return None


def resized(example: torch.Tensor, size: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """A tensor of another size with values drawn from an example's own."""
    made = torch.empty_strided(size, stride, dtype=example.dtype)
    flat = example.reshape(-1)
    if flat.numel() == 0:
        return made.zero_()
    picks = torch.arange(made.numel()) % flat.numel()
    return made.copy_(flat[picks].reshape(made.shape))


def row(op: Any, stock: Callable[..., Any] | None, samples: int = 2) -> Row:
    """Try an operator's samples."""
    result = Row(op.name + (f".{op.variant_test_name}" if op.variant_test_name else ""))
    values = op.name not in EMPTY
    for dtype in DTYPES:
        if not op.supports_dtype(dtype, "cpu"):
            continue
        for call in calls(op, dtype, samples):
            try:
                expected = run(call.f, call.tensors)
            except Exception:  # noqa: BLE001 - samples that torch itself refuses
                continue
            result.samples += 1
            if stock is not None:
                result.stock += traced(stock, call, expected, values)[1] is None
            g, problem = traced(make_fx, call, expected, values)
            if problem is None:
                other = another_shape(g, call) if all(_plain(t) for t in call.tensors) else None
                if other is not None:
                    result.elsewhere += 1
                    try:
                        problem = disagreement(run(g, other), run(call.f, other), values)
                    except Exception as error:  # noqa: BLE001 - a finding
                        problem = f"the graph fails: {str(error).splitlines()[0]}"
                    problem = problem and f"at another shape: {problem}"
            if problem is None:
                result.symfx += 1
            else:
                result.problems[problem[:160]] += 1
    return result


def _plain(t: torch.Tensor) -> bool:
    return t.layout is torch.strided


def rows(names: Iterable[str] = (), samples: int = 2, with_stock: bool = True) -> Iterator[Row]:
    """The rows of operators by name; of all if none is named."""
    wanted = set(names)
    stock = None
    if with_stock:
        from torch.fx.experimental.proxy_tensor import make_fx as stock
    for op in op_db:
        if not wanted or op.name in wanted:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield row(op, stock, samples)


def page(found: Sequence[Row]) -> str:
    """The table as a page of the documentation."""
    tried = [r for r in found if r.samples]
    ours = sum(r.symfx == r.samples for r in tried)
    stock = sum(r.stock == r.samples for r in tried)
    more = [r.name for r in tried if r.symfx == r.samples > r.stock]
    less = [r.name for r in tried if r.stock == r.samples > r.symfx]
    samples = sum(r.samples for r in tried)
    traced_by = [sum(getattr(r, who) for r in tried) for who in ("symfx", "stock")]
    elsewhere = sum(r.elsewhere for r in tried)
    head = f"""# Operators

Written by `python -m tools.operators` with torch {torch.__version__}. Each operator of torch's own
test database on CPU, with up to two samples each in float32 and int64, is traced with symbolic
shapes. A sample counts where the graph, run at the traced shapes, gives what the operator gives;
for symfx also at another shape that the guards admit, where there is one ({elsewhere} samples).

- Operators tried: {len(tried)}. All their samples traced: by symfx {ours}, by stock torch {stock}.
- Samples: {samples}. Traced by symfx: {traced_by[0]}, by stock torch: {traced_by[1]}.
- By symfx alone ({len(more)}): {", ".join(more) or "none"}.
- By stock torch alone ({len(less)}): {", ".join(less) or "none"}.

| operator | samples | symfx | stock | what symfx says of the others |
| --- | --- | --- | --- | --- |
"""
    return head + "".join(map(_line, tried))


def _line(r: Row) -> str:
    problems = "; ".join(r.problems).translate(str.maketrans("|<>\n", "/() "))
    return f"| {r.name} | {r.samples} | {r.symfx} | {r.stock} | {problems} |\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators to print the rows of")
    parser.add_argument("--samples", type=int, default=2, help="of each operator and dtype")
    options = parser.parse_args()
    found = []
    for r in rows(options.names, options.samples):
        found.append(r)
        if options.names or r.symfx < r.samples:
            print(r, file=sys.stderr, flush=True)
    if not options.names:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()

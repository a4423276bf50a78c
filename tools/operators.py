"""Which operators symfx traces, and which stock torch does: the operator database, row by row.

    python -m tools.operators               writes docs/operators.md
    python -m tools.operators add matmul    prints the rows of some operators

For each operator of torch's own test database that runs on CPU: sample inputs in float32 and
int64, traced with symbolic shapes, as a function, in place, with `out=`, and its gradient. A trace
counts where its graph, run at the traced shapes and at one more shape that its guards admit, gives
what the operator itself gives; for symfx and for stock alike.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
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
    """What became of an operator's samples, in one form.

    Attributes:
        name: the operator, with its variant.
        form: one of `FORMS`.
        samples: how many were tried.
        symfx, stock: how many each traced.
        elsewhere: how many of those that symfx traced ran at another shape too.
        symfx_alone: how many symfx traced and stock did not.
        problems: what was said about those that symfx did not trace, with how often.
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


@dataclass
class Call:
    """A sample as a function of its tensors."""

    f: Callable[..., Any]
    tensors: list[torch.Tensor]


# -- forms ---------------------------------------------------------------------------------------


def _function(op: Any, sample: Any) -> Callable[..., Any] | None:
    return op


def _in_place(op: Any, sample: Any) -> Callable[..., Any] | None:
    return None if sample.broadcasts_input else op.inplace_variant


def _out(op: Any, sample: Any) -> Callable[..., Any] | None:
    if not op.supports_out:
        return None

    # The tensors to write to are inputs: what they are is looked up before the trace.
    def f(outs: Any, *args: Any, **kwargs: Any) -> Any:
        return op(*args, **kwargs, out=outs)

    return f


def _gradient(op: Any, sample: Any) -> Callable[..., Any] | None:
    if not op.supports_autograd:
        return None

    def f(*args: Any, **kwargs: Any) -> Any:
        inputs: list[torch.Tensor] = []

        def leaf(t: torch.Tensor) -> torch.Tensor:
            if not (t.is_floating_point() or t.is_complex()):
                return t
            inputs.append(t.detach().requires_grad_())
            return inputs[-1]

        args, kwargs = pytree.tree_map_only(torch.Tensor, leaf, (args, kwargs))
        results = sample.output_process_fn_grad(op(*args, **kwargs))
        outs = [
            t
            for t in pytree.tree_leaves(results)
            if isinstance(t, torch.Tensor) and t.requires_grad
        ]
        seeds = [torch.ones_like(t) for t in outs]
        return outs, torch.autograd.grad(outs, inputs, seeds, allow_unused=True)

    return f


FORMS: dict[str, Callable[[Any, Any], Callable[..., Any] | None]] = {
    "function": _function,
    "in place": _in_place,
    "out=": _out,
    "gradient": _gradient,
}
"""For an operator and a sample, what is traced; None where it has no such form."""


def calls(op: Any, dtype: torch.dtype, form: str, count: int) -> Iterator[Call]:
    """The first samples of an operator."""
    torch.manual_seed(0)
    samples = op.sample_inputs("cpu", dtype, requires_grad=form == "gradient")
    for sample in itertools.islice(samples, count):
        given = FORMS[form](op, sample)
        if given is None:
            continue
        args = (sample.input, *sample.args)
        if form == "out=":
            try:
                results = op(*args, **sample.kwargs)
            except Exception:  # noqa: BLE001 - samples that torch itself refuses
                continue
            args = (pytree.tree_map_only(torch.Tensor, torch.zeros_like, results), *args)
        leaves, spec = pytree.tree_flatten((args, sample.kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

        def f(
            *tensors: Any, given: Any = given, leaves: Any = leaves, places: Any = places,
            spec: Any = spec,
        ) -> Any:  # fmt: skip
            own = list(leaves)
            for i, tensor in zip(places, tensors, strict=True):
                own[i] = tensor
            args, kwargs = pytree.tree_unflatten(own, spec)
            return given(*args, **kwargs)

        yield Call(f, [leaves[i].detach() for i in places])


# -- running and comparing -----------------------------------------------------------------------


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors with the data and layouts of others."""
    # torch cannot deep-copy sparse tensors of compressed layouts.
    return [t.clone() if t.layout is not torch.strided else copy.deepcopy(t) for t in tensors]


def run(f: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> list[Any]:
    """A function's results, and what it made of its inputs."""
    own = copies(tensors)
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


# -- what a trace admits -------------------------------------------------------------------------


class Admitted(Protocol):
    """The symbols of a trace, and which values its guards admit."""

    symbols: list[tuple[Any, int]]
    """Each symbol of the inputs with its value at tracing."""

    def admits(self, values: Mapping[Any, int]) -> bool:
        """Whether a run with these values of the symbols is one that the trace holds for."""

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """A number in the metadata of a node, for values of the symbols."""


class SymfxAdmitted:
    """What a trace of symfx admits."""

    def __init__(self, env: Any) -> None:
        found = [s for s in env.symbol_table() if not s.unbacked and s.hint is not None]
        self.symbols = [(s.term, int(s.hint)) for s in found]
        self._bounds = {s.term: (s.lower, s.upper) for s in found}
        self._guards = [guard.term for guard in env.guards]

    def admits(self, values: Mapping[Any, int]) -> bool:
        """See `Admitted`."""
        return all(
            (low is None or values[term] >= low) and (high is None or values[term] <= high)
            for term, (low, high) in self._bounds.items()
        ) and all(evaluate(guard, dict(values)) for guard in self._guards)

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """See `Admitted`."""
        return n if type(n) is int else int(evaluate(n.node.term, dict(values)))


class StockAdmitted:
    """What a trace of stock torch admits."""

    def __init__(self, env: Any) -> None:
        self.symbols = [(s, int(v)) for s, v in env.backed_var_to_val.items()]
        self._bounds = {s: env.var_to_range[s] for s, _ in self.symbols}
        self._replacements = env.replacements
        self._guards = [guard.expr for guard in env.guards]

    def _full(self, values: Mapping[Any, int]) -> dict[Any, Any]:
        free = {s: v for s, v in values.items() if s not in self._replacements}
        known = {s: e.xreplace(free) for s, e in self._replacements.items()}
        return {**values, **known}

    def admits(self, values: Mapping[Any, int]) -> bool:
        """See `Admitted`."""
        full = self._full(values)
        return all(
            bounds.lower <= full[s] <= bounds.upper for s, bounds in self._bounds.items()
        ) and all(bool(guard.xreplace(full)) for guard in self._guards)

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """See `Admitted`."""
        return n if type(n) is int else int(n.node.expr.xreplace(self._full(values)))


def another_shape(g: Any, admitted: Admitted, call: Call) -> list[torch.Tensor] | None:
    """Inputs of other sizes that a trace admits, and the operator takes."""
    if not admitted.symbols:
        return None
    values = [n.meta["val"] for n in g.graph.nodes if n.op == "placeholder"]
    for sizes in _other_sizes(admitted.symbols):
        if not admitted.admits(sizes):
            continue
        made = [
            resized(
                t,
                [admitted.number(n, sizes) for n in v.shape],
                [admitted.number(n, sizes) for n in v.stride()],
            )
            for t, v in zip(call.tensors, values, strict=True)
        ]
        try:
            # It may refuse what no guard speaks of; or take it, and read what is not there.
            if all(disagreement(run(call.f, made), run(call.f, made), True) is None for _ in "abc"):
                return made
        except Exception:  # noqa: BLE001 - as said
            continue
    return None


def _other_sizes(symbols: Sequence[tuple[Any, int]]) -> Iterator[dict[Any, int]]:
    """Values of symbols to try: all changed alike, then each in a way of its own."""
    changes = (lambda n: n + 1, lambda n: 2 * n, lambda n: n + 2, lambda n: 3 * n, lambda n: n)
    for change in changes[:-1]:
        yield {symbol: change(hint) for symbol, hint in symbols}
    chance = random.Random(0)
    for _ in range(MIXED):
        sizes = {symbol: chance.choice(changes)(hint) for symbol, hint in symbols}
        if any(sizes[symbol] != hint for symbol, hint in symbols):
            yield sizes


MIXED = 20


def resized(example: torch.Tensor, size: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """A tensor of another size with values drawn from an example's own."""
    made = torch.empty_strided(size, stride, dtype=example.dtype)
    flat = example.reshape(-1)
    if flat.numel() == 0:
        return made.zero_()
    picks = torch.arange(made.numel()) % flat.numel()
    return made.copy_(flat[picks].reshape(made.shape))


# -- rows ----------------------------------------------------------------------------------------

PEERS: dict[str, tuple[Callable[..., Any], Callable[[Any], Admitted]]] = {
    "symfx": (make_fx, SymfxAdmitted),
    "stock": (stock_make_fx, StockAdmitted),
}


def problem(peer: str, call: Call, values: bool) -> tuple[str | None, bool]:
    """What is wrong with a peer's trace of a call, and whether it ran at another shape too."""
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


def _name(op: Any) -> str:
    name: str = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
    return name


def row(op: Any, form: str, samples: int) -> Row:
    """Try an operator's samples."""
    result = Row(_name(op), form)
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
"""How many samples of each operator and dtype are tried in each form."""


def rows(
    names: Iterable[str] = (),
    operators: Iterable[Any] = op_db,
    samples: Mapping[str, int] = SAMPLES,
) -> Iterator[Row]:
    """The rows of operators by name; of all if none is named.

    Args:
        names: those wanted.
        operators: those there are.
        samples: how many samples of each dtype, for each form.
    """
    wanted = set(names)
    for op in operators:
        if not wanted or op.name in wanted:
            for form, count in samples.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield row(op, form, count)


# -- the page ------------------------------------------------------------------------------------


def page(found: Sequence[Row]) -> str:
    """The tables as a page of the documentation."""
    tried = [r for r in found if r.samples]
    text = f"""# Operators

Written by `python -m tools.operators` with torch {torch.__version__}. Each operator of torch's own
test database on CPU, with up to {SAMPLES["function"]} samples each in float32 and int64
(one in the other forms), is traced with symbolic shapes. A sample counts where the graph gives what
the operator gives, at the traced shapes and at another shape that the guards of the trace admit,
where there is one; for symfx and for stock torch alike.

"""
    alone = {r.name for r in tried if r.symfx_alone}
    lost = {r.name for r in tried if r.stock > r.symfx - r.symfx_alone}
    text += f"""Operators with a sample in some form that symfx alone traces: {len(alone)};
that stock torch alone traces: {len(lost)}.

"""
    for form in FORMS:
        text += _section(form, [r for r in tried if r.form == form])
    text += """
## Operator by operator

As functions:

| operator | samples | symfx | stock | what symfx says of the others |
| --- | --- | --- | --- | --- |
"""
    return text + "".join(_line(r) for r in tried if r.form == "function")


def _section(form: str, found: Sequence[Row]) -> str:
    ours = sum(r.symfx == r.samples for r in found)
    stock = sum(r.stock == r.samples for r in found)
    samples = sum(r.samples for r in found)
    by = [sum(getattr(r, who) for r in found) for who in ("symfx", "stock")]
    elsewhere = sum(r.elsewhere for r in found)
    more = [r for r in found if r.symfx_alone]
    less = [r for r in found if r.stock > r.symfx - r.symfx_alone]
    names = ", ".join(r.name for r in more) or "none"
    lost = ", ".join(r.name for r in less) or "none"
    return f"""## {TITLES[form]}

- Operators tried: {len(found)}. All their samples traced: by symfx {ours}, by stock torch {stock}.
- Samples: {samples}. Traced by symfx: {by[0]} ({elsewhere} of them run at another shape too), by
  stock torch: {by[1]}.
- Operators with a sample that symfx alone traces ({len(more)}): {names}.
- Operators with a sample that stock torch alone traces ({len(less)}): {lost}.

"""


TITLES = {
    "function": "As functions",
    "in place": "In place",
    "out=": "With `out=`",
    "gradient": "Gradients",
}


def _line(r: Row) -> str:
    problems = "; ".join(r.problems).translate(str.maketrans("|<>\n", "/() "))
    return f"| {r.name} | {r.samples} | {r.symfx} | {r.stock} | {problems} |\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators to print the rows of")
    parser.add_argument("--part", default="0/1", help="of all operators, such as 0/2 and 1/2")
    parser.add_argument("--save", type=Path, help="write the rows there, a line each; no page")
    parser.add_argument("--join", type=Path, nargs="+", help="make the page of rows so written")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # torch's fake kernels log what they raise
    if options.join:
        lines = [line for path in options.join for line in path.read_text().splitlines()]
        order = {name: i for i, name in enumerate(map(_name, op_db))}
        found = sorted((Row(**json.loads(line)) for line in lines), key=lambda r: order[r.name])
        PAGE.write_text(page(found))
        return
    part, parts = map(int, options.part.split("/"))
    found = []
    for r in rows(options.names, op_db[part::parts]):
        found.append(r)
        if options.save:
            with options.save.open("a") as file:
                file.write(json.dumps(asdict(r)) + "\n")
        elif options.names or r.symfx < r.samples:
            print(r, file=sys.stderr, flush=True)
    if not options.names and not options.save:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()

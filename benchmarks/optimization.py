"""``python -m benchmarks.optimization``: inference before and after, beside torch's own ways.

Each network runs in turn, in one process, in these forms: eager, optimized by stock
`torch.fx.experimental.optimization`, by `symfx.optimize`, by `torch.compile` with freezing, by
ONNX Runtime and by OpenVINO. Each row of figures is written to a file at once; `--resume` adds the
missing rows.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.networks import NETWORKS
from benchmarks.timing import Contestant, Timings, geometric_mean, measure

__all__ = ["PEERS", "NetworkResult", "as_data", "from_data", "time_network"]

LATEST = Path(__file__).parent / "results" / "optimization.json"
EAGER, STOCK, SYMFX, COMPILED = "eager", "stock", "symfx", "compile+freezing"
ONNX_RUNTIME, OPENVINO = "onnxruntime", "openvino"
PEERS = (EAGER, STOCK, SYMFX, COMPILED, ONNX_RUNTIME, OPENVINO)
BFLOAT16, INT8 = "symfx bfloat16", "symfx int8"
#: symfx in other dtypes: no peers, since their results are less exact.
PRECISIONS = (BFLOAT16, INT8)

Built = Callable[[Tensor], Any]


def _stock(model: nn.Module, x: Tensor) -> Built:
    from torch.fx.experimental.optimization import optimize_for_inference

    return optimize_for_inference(model)


def _symfx(model: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> Built:
    import symfx

    return symfx.optimize(model, x, dtype=dtype)


def _compiled(model: nn.Module, x: Tensor) -> Built:
    import torch._dynamo
    import torch._inductor.config as config
    from torch._inductor.utils import fresh_cache

    torch._dynamo.reset()
    config.freezing = True
    compiled: Built = torch.compile(model)
    with fresh_cache():  # a cache that another row has filled would shorten this build
        compiled(x)
    return compiled


def _exported(model: nn.Module, x: Tensor, path: Path) -> None:
    """Write the model as ONNX, without the exporter's progress lines."""
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, verbose=False)


def _onnx_runtime(model: nn.Module, x: Tensor) -> Built:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _exported(model, x, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def _openvino(model: nn.Module, x: Tensor) -> Built:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _exported(model, x, path)
        # Precision and threads as those of the others; OpenVINO would take bfloat16 by itself.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        core: Any = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda x: torch.from_numpy(compiled(x.numpy())[0])


_BUILDERS: dict[str, Callable[[nn.Module, Tensor], Built]] = {
    EAGER: lambda model, x: model,
    STOCK: _stock,
    SYMFX: _symfx,
    COMPILED: _compiled,
    ONNX_RUNTIME: _onnx_runtime,
    OPENVINO: _openvino,
    BFLOAT16: functools.partial(_symfx, dtype=torch.bfloat16),
    INT8: functools.partial(_symfx, dtype=torch.int8),
}


@dataclass
class NetworkResult:
    """The figures of one network at one batch size.

    Attributes:
        name: of the network.
        batch: how many inputs at once.
        threads: how many threads ran.
        timings: of each peer.
        built: the seconds that it took to make each ready, first run included, beyond one run.
        differences: how far each is off eager, relative to the largest value.
    """

    name: str
    batch: int
    threads: int
    timings: Timings
    built: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """How many times as long as symfx a peer takes: the median of the rounds' ratios.

        Runs of one round follow each other within seconds; the machine's speed drifts slower than
        that, so it falls out of each ratio, and not out of the ratio of two medians.
        """
        theirs, ours = (self.timings.seconds.get(name) for name in (peer, SYMFX))
        if not (theirs and ours):
            return None
        return statistics.median(a / b for a, b in zip(theirs, ours, strict=False))


def time_network(
    name: str, batch: int, peers: Sequence[str], repeat: int, budget: float
) -> NetworkResult:
    """Build each peer's form of a network, then run them in turn, and compare their results."""
    network = NETWORKS[name]
    model, x = network.build(), network.inputs(batch)
    result = NetworkResult(name, batch, torch.get_num_threads(), Timings())
    expected = model(x)  # the first run takes longer
    start = time.perf_counter()
    model(x)
    rounds = max(5, min(repeat, int(budget / (time.perf_counter() - start))))
    contestants = []
    failed: dict[str, str] = {}
    for peer in peers:
        start = time.perf_counter()
        try:
            built = _BUILDERS[peer](model, x)
            if peer != COMPILED:  # which has run to be compiled
                built(x)
            result.built[peer] = time.perf_counter() - start
            found = built(x)
        # An error of a peer, of any class, is a result of the comparison, and is reported.
        except Exception as error:  # noqa: BLE001
            failed[peer] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        off = (found - expected).abs().max() / expected.abs().max()
        result.differences[peer] = float(off)

        def run(built: Built = built) -> object:
            return built(x)

        # A model is used many times: each timed run follows one of the same. Otherwise who comes
        # after a peer that leaves the heap and the caches in disorder pays for it.
        contestants.append(Contestant(peer, run, prepare=run))
    result.timings = measure(contestants, rounds)
    result.timings.errors.update(failed)
    for peer, seconds in result.built.items():
        result.built[peer] = max(0.0, seconds - (result.timings.median(peer) or 0.0))
    return result


#: The ratio of two runs of the same thing can be as low as this on a shared machine.
NOISE = 0.97


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    Attributes:
        text: the quantity.
        wanted: the least that will do.
        found: the figure, with where it is from; None where nothing was measured for it.
    """

    text: str
    wanted: float
    found: tuple[float, str] | None

    @property
    def verdict(self) -> str:
        """Whether it is reached."""
        if self.found is None:
            return "not measured"
        if self.found[0] >= self.wanted:
            return "reached"
        return "within noise" if self.found[0] >= NOISE * self.wanted else "missed"


def goals(results: Sequence[NetworkResult]) -> list[Goal]:
    """The figures that `symfx.optimize` is held to."""

    def ratios(peer: str, *, convolutional: bool = False) -> list[tuple[float, str]]:
        found = []
        for result in results:
            ratio = result.ratio(peer)
            if ratio is not None and (NETWORKS[result.name].convolutional or not convolutional):
                where = f"{result.name}, batch {result.batch}, {result.threads} threads"
                found.append((ratio, where))
        return found

    def mean(found: Sequence[tuple[float, str]]) -> tuple[float, str] | None:
        value = geometric_mean([ratio for ratio, _ in found])
        return None if value is None else (value, f"geometric mean of {len(found)}")

    def least(found: Sequence[tuple[float, str]]) -> tuple[float, str] | None:
        return min(found, default=None)

    eager, stock = ratios(EAGER), ratios(STOCK)
    resnet = [r for r in eager if r[1].startswith("resnet18, batch 4")]
    built = [
        (result.built[COMPILED] / result.built[SYMFX], result.name)
        for result in results
        if {COMPILED, SYMFX} <= set(result.built) and result.built[SYMFX]
    ]
    return [
        Goal("eager / symfx, the least", 1.0, least(eager)),
        Goal("eager / symfx, ResNet-18-like at batch 4", 1.6, least(resnet)),
        Goal("stock / symfx", 1.2, mean(stock)),
        Goal("stock / symfx, the least", 1.0, least(stock)),
        Goal("compile+freezing / symfx, nets", 0.95, mean(ratios(COMPILED, convolutional=True))),
        Goal("onnxruntime / symfx, the least", 1.0, least(ratios(ONNX_RUNTIME))),
        Goal("openvino / symfx, the least", 1.0, least(ratios(OPENVINO))),
        Goal("its time to build / symfx's", 10.0, mean(built)),
    ]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def table(results: Sequence[NetworkResult], peers: Sequence[str]) -> Table:
    """Milliseconds of one run of each, and how many times faster symfx is."""
    shown = Table(
        title="One inference: median ms, and the median of the rounds' ratios",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in ("network", "batch", "threads", *peers):
        shown.add_column(column, justify="right" if column in peers else "left")
    others = [peer for peer in peers if peer != SYMFX]
    for other in others:
        shown.add_column(f"{other} / symfx", justify="right")
    shown.add_column("off by", justify="right")
    for result in results:
        medians = {peer: result.timings.median(peer) for peer in peers}
        shown.add_row(
            NETWORKS[result.name].title,
            str(result.batch),
            str(result.threads),
            *(_cell(None if m is None else 1e3 * m, ".1f") for m in medians.values()),
            *(_cell(result.ratio(other), ".2f") for other in others),
            _cell(result.differences.get(SYMFX), ".1e"),
        )
    for group in sorted({(result.threads, result.batch) for result in results}):
        means = []
        for other in others:
            found = [
                result.ratio(other) for result in results if (result.threads, result.batch) == group
            ]
            means.append(_cell(geometric_mean([r for r in found if r is not None]), ".2f"))
        threads, batch = group
        shown.add_row("geometric mean", str(batch), str(threads), *("" for _ in peers), *means, "")
    return shown


def precision_table(results: Sequence[NetworkResult]) -> Table:
    """How many times as fast bfloat16 and int8 are as float32, and their errors."""
    shown = Table(
        title="Other dtypes: their gain over symfx in float32, and their error",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in ("network", "batch", "threads"):
        shown.add_column(column)
    for dtype in PRECISIONS:
        name = dtype.removeprefix("symfx ")
        shown.add_column(f"{name} gain", justify="right")
        shown.add_column(f"{name} error", justify="right")
    for result in results:
        cells = []
        for dtype in PRECISIONS:
            ratio = result.ratio(dtype)
            cells.append(_cell(None if ratio is None else 1 / ratio, ".2f"))
            cells.append(_cell(result.differences.get(dtype), ".1e"))
        title = NETWORKS[result.name].title
        shown.add_row(title, str(result.batch), str(result.threads), *cells)
    return shown


def goal_table(results: Sequence[NetworkResult]) -> Table:
    """Each goal with the figure wanted, the figure found, and the verdict."""
    shown = Table(title="Goals", title_justify="left", box=SIMPLE_HEAD)
    for column in ("goal", "wanted", "found", "", "of"):
        shown.add_column(column)
    for goal in goals(results):
        found, where = goal.found or (None, "")
        shown.add_row(goal.text, f"{goal.wanted:g}", _cell(found, ".2f"), goal.verdict, where)
    return shown


def as_data(results: Sequence[NetworkResult]) -> dict[str, Any]:
    """The figures as data, for a file."""
    rows = [
        {
            "network": result.name,
            "batch": result.batch,
            "threads": result.threads,
            "medians": {peer: result.timings.median(peer) for peer in result.timings.seconds},
            "seconds": result.timings.seconds,
            "built": result.built,
            "differences": result.differences,
            "errors": result.timings.errors,
        }
        for result in results
    ]
    return {"torch": torch.__version__, "results": rows}


def from_data(data: Mapping[str, Any]) -> list[NetworkResult]:
    """The figures that `as_data` wrote."""
    return [
        NetworkResult(
            row["network"],
            row["batch"],
            row["threads"],
            Timings(seconds=row["seconds"], errors=row["errors"]),
            row["built"],
            row["differences"],
        )
        for row in data["results"]
        if row["network"] in NETWORKS
    ]


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"This network alone (repeats): {', '.join(NETWORKS)}.")
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="This batch size alone (repeats); 4, 1 and 16 else.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="This many threads (repeats); one, and all, else.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help=f"Leave this peer out (repeats): {', '.join((STOCK, *PEERS[3:]))}."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Timed rounds of each.")] = 7,
    budget: Annotated[
        float, typer.Option(min=0, help="Seconds for eager alone; at least five rounds.")
    ] = 2.0,
    dtypes: Annotated[
        bool, typer.Option("--dtypes", help="Run symfx in bfloat16 and in int8 too.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the rows that the file has, and add to them.")
    ] = False,
    json_path: Annotated[Path, typer.Option("--json", help="Where the figures go.")] = LATEST,
) -> None:
    """Time inference before and after optimization. Trust the ratios, not the milliseconds.

    ONNX Runtime and OpenVINO come with the extra "bench". Without compile+freezing all of it takes
    about forty minutes on two idle cores; torch.compile adds half a minute to two minutes a row.
    """
    progress = Console(stderr=True)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    names = only or list(NETWORKS)
    for name in names:
        if name not in NETWORKS:
            raise typer.BadParameter(f"there is no network {name!r}", param_hint="--only")
    for peer in without or ():
        if peer not in PEERS or peer in (EAGER, SYMFX):
            raise typer.BadParameter(f"no peer {peer!r} can be left out", param_hint="--without")
    peers = [peer for peer in PEERS if peer not in (without or ())]
    forms = [*peers, *(PRECISIONS if dtypes else ())]
    results: list[NetworkResult] = []
    if resume and json_path.exists():
        results = from_data(json.loads(json_path.read_text()))
    known = {(result.name, result.batch, result.threads) for result in results}
    rows = [
        (name, size, count)
        for count in threads or sorted({1, torch.get_num_threads()})
        for size in batch or (4, 1, 16)
        for name in names
        if (name, size, count) not in known
    ]
    json_path.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    for index, (name, size, count) in enumerate(rows):
        torch.set_num_threads(count)
        with torch.no_grad():
            results.append(time_network(name, size, forms, repeat, budget))
        json_path.write_text(json.dumps(as_data(results), indent=1) + "\n")
        found = ", ".join(
            f"{peer} {_cell(results[-1].ratio(peer), '.2f')}" for peer in peers if peer != SYMFX
        )
        spent = time.perf_counter() - started
        done = f"{index + 1}/{len(rows)} {name}, batch {size}, {count} threads: {found}"
        progress.print(f"[dim]{spent:4.0f} s  {done}[/]", soft_wrap=True)
    order = list(NETWORKS)
    results.sort(key=lambda result: (result.threads, result.batch, order.index(result.name)))
    shown = [peer for peer in PEERS if any(peer in r.timings.seconds for r in results)]
    console.print(table(results, shown))
    if any(result.ratio(dtype) for result in results for dtype in PRECISIONS):
        console.print(precision_table(results))
    console.print(goal_table(results))
    for result in results:
        for peer, why in result.timings.errors.items():
            progress.print(f"{result.name}, batch {result.batch}, {peer}: {why}", markup=False)
    for peer in shown[1:]:
        seconds = [result.built[peer] for result in results if result.built.get(peer)]
        mean = geometric_mean(seconds)
        console.print(f"building, geometric mean, {peer}: {_cell(mean, '.2f')} s", markup=False)
    console.print(f"written to {json_path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)

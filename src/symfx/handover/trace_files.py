"""A trace as one file of data: `write_trace` and `read_trace`.

The file is a zip of ``trace.json``, in the form of `SCHEMA`, and ``tensors.safetensors``. Nothing
in it is pickled or run. Operators, classes and dtypes are looked up by name among those that torch
and symfx have. A name that becomes part of the source that torch.fx writes is checked first. The
error for an unknown name tells its place in the file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from symfx._version import __version__
from symfx.collection import uncollected
from symfx.errors import SymfxError, TraceFileError
from symfx.handover.archive import read_archive, write_archive
from symfx.handover.calls import describe_call, read_call
from symfx.handover.environments import describe_environment, read_environment
from symfx.handover.graphs import describe_graph, read_graph
from symfx.handover.numbers import NumberWriter
from symfx.handover.structures import describe_structure, read_structure
from symfx.handover.tensors import TensorReader, TensorWriter, read_dtype
from symfx.handover.values import ValueReader
from symfx.tracing.admission import Admission
from symfx.tracing.autocast import Autocast
from symfx.tracing.model_state import written_tensors
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Run, Verification
from symfx.untrusted import Item, Limits, Source, one_line, parse, shown
from symfx.work import share_of_work

__all__ = ["FORMAT", "VERSION", "read_trace", "schema", "write_trace"]

FORMAT, VERSION = "symfx trace", 4
_LIMITS = Limits(size=256 << 20, items=8_000_000)
_GIVE = "give a file that Trace.save wrote"
#: The usual shares of the time of saving: the graph as data, and with it the reading as a test.
_DESCRIBED, _CHECKED = 0.4, 0.8
_KEEP_OUT = "keep such parts out of the model that you trace"


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the text of a file."""
    text = resources.files("symfx.handover").joinpath("trace.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


# -- writing ---------------------------------------------------------------------------------------


def write_trace(
    trace: TracedModel,
    path: Path,
    verification: Verification | None,
    *,
    weights: bool,
    examples: bool,
) -> None:
    """Write a trace to a file; see `symfx.Trace.save`.

    Args:
        trace: the trace.
        path: the file.
        verification: the last verification of the trace.
        weights: whether the file gets the elements of parameters and buffers.
        examples: whether it gets those of the example inputs.

    Raises:
        TraceFileError: the trace has a part that a file cannot hold.
        OSError: the file cannot be written.
    """
    numbers, tensors = NumberWriter(), TensorWriter()
    state_names = trace.state_names
    _refuse_shared_memory(trace)

    def describe_tensor(target: str, tensor: torch.Tensor) -> dict[str, Any]:
        name = state_names.get(target)
        key = f"constants/{target}" if name is None else f"state/{name}"
        return {
            "state": name,
            "parameter": isinstance(tensor, torch.nn.Parameter),
            **tensors.describe(tensor, key, data=weights or name is None),
        }

    with share_of_work(0.0, _DESCRIBED):
        graph = describe_graph(trace.graph_module, numbers, describe_tensor)
    data = {
        "format": FORMAT,
        "version": VERSION,
        "symfx": __version__,
        "torch": torch.__version__,
        "model": trace.name,
        "call": describe_call(
            trace.admission.layout, trace.admission.entries, tensors, data=examples
        ),
        "result": {
            "structure": describe_structure(trace.out_spec, "the result"),
            "flat": trace.flat_output,
        },
        "graph": graph,
        "environment": describe_environment(trace.shape_env, numbers),
        "training": trace.graph_module.training,
        "grad_enabled": trace.grad_enabled,
        "autocast": [
            [device, None if dtype is None else str(dtype).removeprefix("torch.")]
            for device, dtype in trace.autocast.dtypes
        ],
        "steps": trace.steps,
        "notes": list(trace.notes),
        "verification": _describe_verification(verification, numbers),
        "terms": numbers.terms,
    }
    source = Source(str(path), TraceFileError, _KEEP_OUT)
    with source.guarding("this trace cannot be saved"):
        text = json.dumps(data, allow_nan=False)
    with share_of_work(_DESCRIBED, _CHECKED):
        _check_readable(text, tensors.stored, source)
    with share_of_work(_CHECKED, 1.0):
        write_archive(path, text, tensors.stored)


def _refuse_shared_memory(trace: TracedModel) -> None:
    """Refuse a trace that writes to a tensor whose memory another of its tensors shares.

    A file has each tensor by itself, so that a write would no longer show in the other one.

    Raises:
        TraceFileError: the trace is such.
    """
    written = {t.untyped_storage()._cdata: t for t in written_tensors(trace.graph_module)}
    module = trace.graph_module
    named = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in named:
        other = written.get(tensor.untyped_storage()._cdata)
        if other is not None and other is not tensor:
            raise TraceFileError(
                f"the graph writes to a tensor that shares its memory with {name}, and a file "
                "has each tensor by itself",
                fix="give each buffer memory of its own, by clone()",
            )


def _check_readable(text: str, stored: Mapping[str, torch.Tensor], source: Source) -> None:
    """Read a text before it is written: a file that cannot be read again is of no use.

    Raises:
        TraceFileError: the text cannot be read.
    """
    libraries = {node["target"].partition(".")[0] for node in _calls(json.loads(text)["graph"])}
    _build(parse(text, source, _LIMITS), stored, libraries, None)


def _calls(graph: Any) -> list[Any]:
    nodes = [node for node in graph["nodes"] if node["op"] == "call_function"]
    for attribute in graph["attributes"].values():
        nodes += _calls(attribute["graph"]) if "graph" in attribute else []
    return nodes


def _describe_verification(
    verification: Verification | None, numbers: NumberWriter
) -> dict[str, Any] | None:
    if verification is None:
        return None
    return {
        "wanted": verification.wanted,
        "note": verification.note,
        "remarks": list(verification.remarks),
        "runs": [
            {
                "sizes": {name: int(size) for name, size in run.sizes.items()},
                "example": run.example,
                "difference": numbers.number(run.difference),
                "relative": numbers.number(run.relative),
                "failure": run.failure,
                "model_error": run.model_error,
            }
            for run in verification.runs
        ],
    }


# -- reading ---------------------------------------------------------------------------------------


def read_trace(
    path: Path, libraries: Collection[str], model: Any, *, checked: bool = True
) -> tuple[dict[str, Any], Verification | None]:
    """Read a file that `write_trace` wrote; see `symfx.load`.

    Args:
        path: the file.
        libraries: the libraries of operators beside torch's that the file may name.
        model: the model that was traced, if it is at hand: the graph uses its parameters and
            buffers.
        checked: whether the values of nodes are made and the Python code of the graph is compiled
            now, to find out that they can be; or when they are first needed, as for a file that
            symfx keeps itself.

    Returns:
        The arguments of the constructor of a `symfx.Trace`, and the last verification.

    Raises:
        TraceFileError: the file is no saved trace, or a part of it is not known.
        OSError: the file cannot be read.
    """
    source = Source(str(path), TraceFileError, _GIVE)
    if not path.is_file():
        raise source.refusal("there is no such file")
    with uncollected():
        return _read(path, source, libraries, model, checked)


def _read(
    path: Path, source: Source, libraries: Collection[str], model: Any, checked: bool
) -> tuple[dict[str, Any], Verification | None]:
    text, stored = read_archive(path, source, _LIMITS)
    header = parse(text, source, _LIMITS)
    entries = header.entries()
    if "format" not in entries or entries["format"].value != FORMAT:
        raise source.refusal("the file is no saved trace")
    version = entries["version"].value if "version" in entries else None
    if type(version) is not int or not 1 <= version <= VERSION:
        writer = entries["symfx"].value if "symfx" in entries else None
        raise source.refusal(
            f"the file has version {shown(version)} of the format, and symfx {__version__} reads "
            f"versions 1 to {VERSION}",
            fix=f"use the symfx that wrote it ({shown(writer)}), or a newer one",
        )
    return _build(header, stored, libraries, model, checked)


def _build(
    header: Item,
    stored: Mapping[str, torch.Tensor],
    libraries: Collection[str],
    model: Any,
    checked: bool = True,
) -> tuple[dict[str, Any], Verification | None]:
    try:
        with header.source.guarding("the file describes no trace"):
            return _build_parts(header, stored, libraries, model, checked)
    except TraceFileError:
        raise
    except SymfxError as error:  # a part of the file is wrong in the eyes of another module
        raise header.source.refusal(error.what) from error


def _build_parts(
    header: Item,
    stored: Mapping[str, torch.Tensor],
    libraries: Collection[str],
    model: Any,
    checked: bool = True,
) -> tuple[dict[str, Any], Verification | None]:
    fields = header.fields(*schema()["required"])
    tensors = TensorReader(stored)
    env, numbers = read_environment(fields["environment"], fields["terms"])
    layout, entries = read_call(fields["call"], tensors)
    state_names: dict[str, str] = {}
    seen: dict[str, torch.Tensor] = {}
    theirs = _state_of(model)

    def read_tensor(path: str, item: Item) -> torch.Tensor:
        inner = dict(item.entries())
        name, parameter = inner.pop("state", None), inner.pop("parameter", None)
        if name is None or parameter is None:
            raise item.refusal("'state' and 'parameter' must be given")
        plain = Item({key: each.value for key, each in inner.items()}, item.path, item.source)
        if name.value is None:
            made = tensors.read(plain)
            return _as_parameter(made) if parameter.truth() else made
        known = name.text(5_000)
        state_names[path] = known
        if theirs is not None:
            return _fitting(theirs.get(known), plain, tensors, known)
        made = tensors.read(plain)
        if known not in seen:
            seen[known] = _as_parameter(made) if parameter.truth() else made
        return seen[known]

    values = ValueReader(env, numbers, checked=checked)
    graph_module = read_graph(fields["graph"], values, read_tensor, libraries, checked=checked)
    graph_module.training = fields["training"].truth()
    graph_module.shape_env = env  # type: ignore[assignment]
    placeholders = [n.target for n in graph_module.graph.nodes if n.op == "placeholder"]
    if placeholders != [leaf.name for leaf in layout.leaves]:
        raise fields["graph"].refusal("the inputs of the graph are not those of the call")
    result = fields["result"].fields("structure", "flat")
    arguments = {
        "graph_module": graph_module,
        "admission": Admission(layout, entries, env),
        "out_spec": read_structure(result["structure"]),
        "flat_output": result["flat"].truth(),
        "grad_enabled": fields["grad_enabled"].truth(),
        "autocast": _read_autocast(fields["autocast"]),
        "steps": fields["steps"].truth(),
        "notes": tuple(one_line(note.text(10_000)) for note in fields["notes"].items(10_000)),
        "state_names": state_names,
        "missing": [name for name, made in seen.items() if isinstance(made.data, FakeTensor)],
        "model": model if model is not None else fields["model"].identifier(),
    }
    return arguments, _read_verification(fields["verification"], numbers)


def _state_of(model: Any) -> dict[str, torch.Tensor] | None:
    from symfx.tracing.model_state import module_of

    module = None if model is None else module_of(model)
    if module is None:
        return None if model is None else {}
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _as_parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)


def _fitting(
    theirs: torch.Tensor | None, described: Item, tensors: TensorReader, name: str
) -> torch.Tensor:
    """The tensor of the model that stands for one of the file.

    Raises:
        TraceFileError: the model has no such tensor.
    """
    fix = "give the model that was traced, or load the file without a model"
    if theirs is None:
        raise described.refusal(f"the model has no parameter or buffer {shown(name)}", fix=fix)
    difference = tensors.difference(described, theirs)
    if difference is not None:
        raise described.refusal(f"{name} of the model has {difference}", fix=fix)
    return theirs


def _read_autocast(item: Item) -> Autocast:
    read = []
    for pair in item.items(20):
        device, dtype = pair.items(exactly=2)
        kind = device.text(50)
        if not torch.amp.is_autocast_available(kind):
            raise device.refusal(f"this torch has no autocast for {shown(kind)}")
        read.append((kind, None if dtype.value is None else read_dtype(dtype)))
    return Autocast(tuple(read))


def _read_verification(item: Item, numbers: Any) -> Verification | None:
    if item.value is None:
        return None
    fields = item.fields("wanted", "note", "remarks", "runs")
    return Verification(
        tuple(_read_run(run, numbers) for run in fields["runs"].items(10_000)),
        fields["wanted"].whole(0, 1 << 31),
        _sentence(fields["note"]),
        tuple(one_line(remark.text(10_000)) for remark in fields["remarks"].items(100)),
    )


def _read_run(item: Item, numbers: Any) -> Run:
    fields = item.fields("sizes", "example", "difference", "relative", "failure", "model_error")
    return Run(
        {one_line(k): v.whole(-(1 << 63), 1 << 63) for k, v in fields["sizes"].entries().items()},
        fields["example"].truth(),
        _difference(fields["difference"], numbers),
        _difference(fields["relative"], numbers),
        _sentence(fields["failure"]),
        _sentence(fields["model_error"]),
    )


def _difference(item: Item, numbers: Any) -> float | None:
    value = numbers.number(item)
    if value is None or isinstance(value, float):
        return value
    raise item.refusal("a float or null is needed here")


def _sentence(item: Item) -> str | None:
    return None if item.value is None else one_line(item.text(10_000))

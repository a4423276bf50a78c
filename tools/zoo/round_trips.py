"""Traces of models of the zoo, saved and loaded again: here, and in processes of other torches."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

import symfx
from symfx.sweep.architectures import ARCHITECTURES, Architecture

__all__ = ["RoundTrip", "facts_of", "round_trip"]

_REPOSITORY = Path(__file__).parents[2]
#: The libraries whose classes a trace of the zoo may name.
_LIBRARIES = ("transformers",)


@dataclass
class RoundTrip:
    """What became of a trace that was saved and loaded.

    Attributes:
        name: the model.
        differences: what differs after loading, a sentence each; empty if nothing does.
    """

    name: str
    differences: list[str] = field(default_factory=list)


def _leaves(value: Any) -> list[Any]:
    return [
        leaf.double().sum().item() if isinstance(leaf, torch.Tensor) else repr(leaf)
        for leaf in pytree.tree_leaves(value)
    ]


def facts_of(t: symfx.Trace, inputs: dict[str, Any]) -> dict[str, Any]:
    """The text of a trace, its guards, and the sums of its results."""
    torch.manual_seed(0)  # a speech model drops elements in eval mode too
    with torch.no_grad():
        results = _leaves(t(**inputs))
    return {
        "graph": t.graph_module.graph.python_code("self").src,
        "symbols": [(str(s.name), s.lower, s.upper) for s in t.symbols],
        "guards": [(str(guard.term), str(guard.provenance)) for guard in t.guards],
        "results": results,
    }


def _differences(before: dict[str, Any], after: dict[str, Any], where: str) -> list[str]:
    found = []
    for name, value in before.items():
        if name == "results":
            pairs = zip(value, after[name], strict=True)
            same = all(
                a == b if isinstance(a, str) else abs(a - b) <= 1e-4 * (1 + abs(a))
                for a, b in pairs
            )
        else:
            same = json.loads(json.dumps(value)) == json.loads(json.dumps(after[name]))
        if not same:
            found.append(f"{where}: the {name} differ")
    return found


def round_trip(model: Architecture, pythons: Sequence[str]) -> RoundTrip:
    """Save a trace of a model, load it here and in other processes, and compare.

    Args:
        model: the model.
        pythons: interpreters that load the trace too, in a process each.
    """
    row = RoundTrip(model.name)
    module, inputs = model.build(), model.example()
    try:
        with torch.no_grad():
            t = symfx.trace(module, (), inputs, dynamic=dict(model.dynamic), strict=False)
    except Exception as error:  # noqa: BLE001 - docs/zoo.md has the reason
        row.differences.append(f"not traced: {type(error).__name__}")
        return row
    with tempfile.TemporaryDirectory() as folder:
        path, values = Path(folder) / "model.symfx", Path(folder) / "inputs.pt"
        try:
            t.save(path)
            before = facts_of(t, inputs)
            again = symfx.load(path, libraries=_LIBRARIES)
            row.differences += _differences(before, facts_of(again, inputs), "in this process")
            with_model = symfx.load(path, model=module, libraries=_LIBRARIES)
            if not with_model.verify(shapes=1, make_inputs=model.at):
                row.differences.append("in this process: the loaded trace does not verify")
        except Exception as error:  # noqa: BLE001 - a finding
            row.differences.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return row
        torch.save(inputs, values)
        for python in pythons:
            command = [python, "-m", "tools.zoo.round_trips", model.name, str(path), str(values)]
            done = subprocess.run(
                command, cwd=_REPOSITORY, capture_output=True, text=True, check=False
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                row.differences.append(f"{python}: {last}")
                continue
            after = json.loads(done.stdout)
            row.differences += _differences(before, after, f"torch {after['torch']}")
    return row


def main() -> None:
    """Print the facts of a saved trace as JSON.

    The arguments are the name of the model, the file of the trace, and the file of the inputs.
    """
    name, path, values = sys.argv[1:]
    ARCHITECTURES[name].build()  # imports the classes that the trace may name
    t = symfx.load(path, libraries=_LIBRARIES)
    inputs = torch.load(values, weights_only=True)
    print(json.dumps({**facts_of(t, inputs), "torch": torch.__version__}))


if __name__ == "__main__":
    main()

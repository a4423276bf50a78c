"""Inputs of a saved trace from files and from descriptions; results into files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symfx.cli.example_calls import make_inputs
from symfx.cli.output_files import written_beside
from symfx.errors import SpecError, describe
from symfx.shape_language import parse_input

if TYPE_CHECKING:
    import torch

    from symfx.tracing import Trace

__all__ = ["read_inputs", "write_results"]

_WHERE = "--input"
_FORMS = ".pt, .pth, .npz, .npy or .safetensors"


def read_inputs(
    trace: Trace, texts: Sequence[str], seed: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call of a trace.

    Args:
        trace: the trace.
        texts: the files and descriptions of the option ``--input``.
        seed: the seed from which described inputs are drawn.

    Raises:
        SpecError: a file cannot be read, a name is no input of the trace, or an input is missing.
    """
    layout = trace.admission.layout
    names = [leaf.name for leaf in layout.leaves]
    values: dict[str, Any] = {}

    def give(name: str, value: Any, text: str) -> None:
        by_path = {leaf.path: leaf.name for leaf in layout.leaves}
        known = by_path.get(name, name)
        if known not in names:
            raise SpecError(
                f"{text} gives {name!r}, which is not an input of the trace",
                where=_WHERE,
                fix=f"its inputs are {', '.join(names)}",
            )
        if known in values:
            raise SpecError(f"the input {known!r} is given twice", where=_WHERE, fix="give it once")
        values[known] = value

    described = []
    for text in texts:
        match = re.fullmatch(r"(?:([A-Za-z_]\w*)=)?(.+\.(?:pt|pth|npz|npy|safetensors))", text)
        if match is None:
            described.append(parse_input(text))
            continue
        name, path = match[1], Path(match[2])
        found = _read(path)
        if isinstance(found, Mapping):
            if name is not None:
                found = {name: _only(found, text)}
        else:
            missing = [n for n in names if n not in values]
            found = dict(zip([name] if name else missing, _several(found), strict=False))
        for key, value in found.items():
            give(str(key), value, text)
    made, _ = make_inputs(described, seed)
    for key, value in made.items():
        give(key, value, "--input")
    return layout.unflatten([_value(leaf, values) for leaf in layout.leaves])


def _value(leaf: Any, values: Mapping[str, Any]) -> Any:
    """The value of an input; a static one that is not given has its value at tracing."""
    import torch

    if leaf.name in values:
        given = values[leaf.name]
        if isinstance(given, torch.Tensor) and not isinstance(leaf.example, torch.Tensor):
            return given.item() if given.numel() == 1 else given
        return given
    if isinstance(leaf.example, torch.Tensor):
        raise SpecError(
            f"the trace needs an input {leaf.name!r}",
            where=_WHERE,
            fix=f"give a file, {leaf.name}=FILE, or describe it: --input "
            f"'{leaf.name}: f32[{', '.join(map(str, leaf.example.shape))}]'",
        )
    return leaf.example


def _several(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _only(found: Mapping[str, Any], text: str) -> Any:
    if len(found) != 1:
        raise SpecError(
            f"{text} should give one tensor, but the file has {len(found)}: "
            f"{', '.join(map(str, found))}",
            where=_WHERE,
            fix="leave out the name before =; then the names in the file are those of the inputs",
        )
    return next(iter(found.values()))


def _read(path: Path) -> Any:
    """The content of a file: a tensor, several in a list, or several by name. Nothing is run."""
    import torch

    if not path.is_file():
        raise SpecError(f"there is no file {path}", where=_WHERE, fix="check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        if path.suffix in (".npz", ".npy"):
            import numpy

            found = numpy.load(path, allow_pickle=False)
            if path.suffix == ".npy":
                return torch.from_numpy(found)
            return {name: torch.from_numpy(found[name]) for name in found.files}
        content = torch.load(path, weights_only=True)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError(
            f"{path} cannot be read: {first:.200}",
            where=_WHERE,
            fix=f"give tensors in a file of {_FORMS}; nothing in it is run",
        ) from error
    if not isinstance(content, (torch.Tensor, list, tuple, dict)):
        raise SpecError(
            f"{path} holds {describe(content)}",
            where=_WHERE,
            fix="save a tensor, a list of tensors, or a dict of tensors by name",
        )
    return content


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write the tensors among results to a file, by name.

    Raises:
        SpecError: the file is of another form than those of inputs.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {
        name: value.detach().cpu() if isinstance(value, torch.Tensor) else torch.tensor(value)
        for name, value in results.items()
        if isinstance(value, torch.Tensor | bool | int | float)
    }
    writers: dict[str, Callable[[Path], Any]] = {
        ".pt": lambda path: torch.save(tensors, path),
        ".pth": lambda path: torch.save(tensors, path),
        ".safetensors": lambda path: _save_safetensors(tensors, path),
        ".npz": lambda path: _save_npz(tensors, path),
    }
    write = writers.get(path.suffix)
    if write is None:
        raise SpecError(
            f"symfx cannot write a file that ends in {path.suffix or path.name!r}",
            where="--output",
            fix="use .pt, .npz or .safetensors",
        )
    with written_beside(path) as unfinished:
        write(unfinished)


def _save_safetensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, str(path))


def _save_npz(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    import numpy

    arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
    numpy.savez(path, **arrays)

"""The options ``--onnx``, ``--pt2`` and ``--aoti``: a trace written for what comes next."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from symfx.cli.output_files import written_beside
from symfx.cli.steps import progress_of_work
from symfx.errors import SymfxError, TracingError
from symfx.user_code import user_line_of_trace
from symfx.work import share_of_work

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from symfx.tracing import Trace

__all__ = ["hand_on"]


#: The usual share of the time that symfx takes to convert a trace, before torch writes the file.
_CONVERTED = {"--onnx": 0.06, "--pt2": 0.5, "--aoti": 0.01}


def hand_on(trace: Trace, onnx: Path | None, pt2: Path | None, aoti: Path | None) -> None:
    """Write a trace for other programs.

    Args:
        trace: the trace, made with ``pre_dispatch=True``.
        onnx: the file for an ONNX model.
        pt2: the file for `torch.export.load`.
        aoti: the file for `torch._inductor.aoti_load_package`.

    Raises:
        SymfxError: a package or a compiler is missing, or torch cannot convert the program.
    """
    asked: list[tuple[Path | None, str, Callable[[ExportedProgram, Path], None]]] = [
        (onnx, "--onnx", _write_onnx),
        (pt2, "--pt2", _write_pt2),
        (aoti, "--aoti", _write_aoti),
    ]
    for path, option, write in asked:
        if path is None:
            continue
        with progress_of_work(f"writing {path}"), contextlib.redirect_stdout(sys.stderr):
            # Each gets a program of its own, because the passes of torch may change it.
            with share_of_work(0.0, _CONVERTED[option]):
                exported = trace.to_exported_program()
            with written_beside(path) as unfinished, _refusing(option), _quiet():
                write(exported, unfinished)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep notes of torch on optional packages and on its outdated calls off the screen."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _refusing(option: str) -> Iterator[None]:
    """Turn an error of torch's converters into one of symfx's."""
    try:
        yield
    except (SymfxError, OSError):
        raise
    except Exception as error:
        # The first cause has the reason; what torch wraps it in tells of its own steps.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line for line in Text.from_ansi(str(cause)).plain.splitlines() if line.strip()]
        first = lines[0] if lines else "no message"
        raise TracingError(
            f"torch cannot convert the program: {type(cause).__name__}: {first:.300}",
            where=option,
            fix="run again with --debug to see the message of torch as a whole",
        ) from error


def _write_onnx(exported: ExportedProgram, path: Path) -> None:
    import torch

    try:
        import onnx  # noqa: F401 - told here by name, before torch reports it in its own words
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise TracingError(
            f"{error.name} is not installed",
            where="--onnx",
            fix='pip install "symfx[onnx]"',
        ) from None
    _refuse_batch_statistics(exported)
    program: Any = torch.onnx.export(exported, dynamo=True, verbose=False)
    program.save(str(path))


def _refuse_batch_statistics(exported: ExportedProgram) -> None:
    """Refuse batch normalization in train mode, since torch's exporter writes wrong numbers for it.

    Raises:
        TracingError: the program has it.
    """
    for node in exported.graph.nodes:
        places = [a.name for a in getattr(node.target, "_schema", _NoSchema).arguments]
        if "batch_norm" not in str(node.target) or "training" not in places:
            continue
        at = places.index("training")
        if at < len(node.args) and node.args[at] is True:
            raise TracingError(
                f"the program normalizes by the statistics of a batch ({node.name}), and the ONNX "
                "model that torch makes of it would use the running statistics",
                where=user_line_of_trace(node.stack_trace or "") or "--onnx",
                fix="trace the model in eval mode: --eval",
            )


class _NoSchema:
    """Stands for the schema of a function that is no operator."""

    arguments: tuple[Any, ...] = ()


def _write_pt2(exported: ExportedProgram, path: Path) -> None:
    import torch

    torch.export.save(exported, str(path))


def _write_aoti(exported: ExportedProgram, path: Path) -> None:
    import torch

    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise TracingError(
            "Inductor needs a C++ compiler, and there is no g++",
            where="--aoti",
            fix="install g++, such as by apt-get install g++",
        )
    torch._inductor.aoti_compile_and_package(exported, package_path=str(path))

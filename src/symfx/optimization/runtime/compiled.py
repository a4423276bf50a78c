"""The compiled kernels of ``kernels.c``, where the machine has a C compiler.

The library is built once for each processor, compiler and version of the source, in seconds, and
kept in the user's cache directory. Without a compiler `kernels` returns None, and torch's operators
run instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["SWITCH", "Kernels", "compiler", "kernels"]

SWITCH = "SYMFX_COMPILED_KERNELS"
"""The environment variable that turns the compiled kernels off if it is 0."""

_SOURCE = Path(__file__).with_name("kernels.c")
_COMPILERS = ("gcc", "cc", "clang")
#: Not -ffast-math: NaN and infinities must come out as they do in torch.
_FLAGS = (
    "-O3",
    "-march=native",
    "-std=gnu11",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
)
#: A compiler that takes more seconds than this is not waited for.
_PATIENCE = 60

Size, Pointer = ctypes.c_int64, ctypes.c_void_p


class Kernels:
    """The functions of the library; ``kernels.c`` says what each of them takes.

    Args:
        path: the library.
        threaded: it runs on several threads.
    """

    def __init__(self, path: Path, threaded: bool) -> None:
        library = ctypes.CDLL(str(path))
        self.threaded = threaded
        whole, number = ctypes.c_int, ctypes.c_float
        self.attention = library.symfx_attention
        self.attention.argtypes = [*[Pointer] * 5, whole, whole, number, Pointer, Pointer, whole]
        self.attention.restype = whole
        self.normalize = library.symfx_normalize
        self.normalize.argtypes = [
            *(Pointer, Size, Size, number),
            *(Pointer, Pointer, whole, Pointer, whole),
        ]
        self.normalize.restype = None
        self.linear = library.symfx_linear
        self.linear.argtypes = [*[Pointer] * 5, *[Size] * 3, whole, whole]
        self.linear.restype = None
        self.columns: int = library.symfx_columns()
        self.depthwise = library.symfx_depthwise
        self.depthwise.argtypes = [*[Pointer] * 5, number, number, whole]
        self.depthwise.restype = None
        self.lanes: int = library.symfx_lanes()
        self.rotate = library.symfx_rotate
        self.rotate.argtypes = [*[Pointer] * 6, whole]
        self.rotate.restype = None
        self.quantize = library.symfx_quantize
        self.quantize.argtypes = [Pointer, Size, *[Pointer] * 3, whole]
        self.quantize.restype = whole

    @property
    def threads(self) -> int:
        """The number of threads to run on: as many as torch's operators take."""
        return torch.get_num_threads() if self.threaded else 1


@functools.cache
def kernels() -> Kernels | None:
    """The compiled kernels; None where there are none."""
    if os.environ.get(SWITCH) == "0" or not hasattr(os, "getuid"):
        return None
    found = compiler()
    if found is None:
        return None
    try:
        return _built(found)
    except (OSError, subprocess.SubprocessError):
        return None


def compiler() -> str | None:
    """The path of the machine's C compiler, or None."""
    return next(filter(None, map(shutil.which, _COMPILERS)), None)


def _built(found: str) -> Kernels | None:
    """The kernels out of the cache, or built with this compiler; None if they do not compute."""
    name = hashlib.sha256("\0".join(_identity(found)).encode()).hexdigest()[:32]
    with _folder() as folder:
        for threaded in (True, False):
            path = folder / f"{name}{'' if threaded else '-single'}.so"
            if not path.exists() and not _build(found, path, threaded):
                continue
            return Kernels(path, threaded)
    return None


def _identity(found: str) -> list[str]:
    """Texts that differ where the library must: source, flags, compiler, processor, OpenMP."""
    version = subprocess.run(
        [found, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=True
    ).stdout
    processor = platform.processor() + platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        known = ("model name", "flags", "Features", "CPU part")
        processor += "".join(sorted({line for line in lines if line.startswith(known)}))
    return [_SOURCE.read_text(), " ".join(_FLAGS), found, version, processor, str(_openmp())]


def _openmp() -> Path | None:
    """The OpenMP library that torch brings along; None if it brings none.

    A second one in the process would have threads of its own, in the way of torch's.
    """
    return next((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"), None)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """The folder of the library: in the user's cache, or one for this moment.

    A library that another user could have written is not loaded. One that is loaded needs its
    file no more.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "symfx" / "kernels"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield folder
            return
    with tempfile.TemporaryDirectory(prefix="symfx-") as temporary:
        yield Path(temporary)


def _build(found: str, path: Path, threaded: bool) -> bool:
    """Compile the library; whether that worked. Several processes may do so at once."""
    gomp = _openmp()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        object_file, made = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        openmp = ["-fopenmp"] if threaded else []
        steps = [
            [found, *_FLAGS, *openmp, "-c", str(_SOURCE), "-o", str(object_file)],
            [found, "-shared", str(object_file), "-o", str(made)],
        ]
        if threaded:
            steps[1] += openmp if gomp is None else [str(gomp)]
        for step in steps:
            done = subprocess.run(step, capture_output=True, timeout=_PATIENCE, check=False)
            if done.returncode:
                return False
        if not _loads(made):
            return False
        made.replace(path)
    return True


def _loads(path: Path) -> bool:
    """Whether a library can be loaded: it may lack a function of another compiler's OpenMP."""
    try:
        ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError:
        return False
    return True

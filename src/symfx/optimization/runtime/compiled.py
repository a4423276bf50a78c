"""The compiled kernels in the C files of this folder, where the machine has a C compiler.

The library is built once for each processor, compiler and version of the source, in seconds, and
kept in the user's cache directory. Without a compiler `kernels` returns None, and torch's operators
run instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import math
import os
import platform
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from symfx.optimization.runtime.tape import Step, running_tape

__all__ = ["SWITCH", "Kernels", "compiler", "kernels"]

SWITCH = "SYMFX_COMPILED_KERNELS"
"""The environment variable that turns the compiled kernels off if it is 0."""

_SOURCE = Path(__file__).with_name("steps.c")
_SOURCES = [
    _SOURCE.with_name(name) for name in ("kernels.c", "layers.c", "convolutions.c", "steps.c")
]
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
    """The functions of the library; the files in C say what each of them takes.

    A tape that is running notes each call; see `symfx.optimization.runtime.tape`.

    Args:
        path: the library.
        threaded: it runs on several threads.
    """

    def __init__(self, path: Path, threaded: bool) -> None:
        library = ctypes.CDLL(str(path))
        self.threaded = threaded
        whole, number = ctypes.c_int, ctypes.c_float

        def function(name: str, *arguments: Any, refuses: bool = False) -> Any:
            found = getattr(library, f"symfx_{name}")
            found.argtypes, found.restype = arguments, whole if refuses else None
            return found

        self._attention = function(
            "attention",
            *(*[Pointer] * 5, whole, whole, number, Pointer, Pointer, whole),
            refuses=True,
        )
        self._normalize = function(
            "normalize",
            *(Pointer, Size, Size, number, Pointer, Pointer, whole, Pointer, whole),
        )
        self._linear = function(
            "linear", *[Pointer] * 5, *[Size] * 3, whole, number, number, whole, Pointer
        )
        self._depthwise = function("depthwise", *[Pointer] * 5, number, number, whole)
        self._rotate = function("rotate", *[Pointer] * 6, whole)
        layer = *[Pointer] * 6, number, number, whole
        self._convolve = function("convolve", *layer, Pointer, refuses=True)
        self._winograd = function("winograd", *layer, refuses=True)
        self._mean = function("mean", Pointer, Pointer, Size, Size, Size)
        self._pool = function("pool", *[Pointer] * 3, whole)
        self.quantize = function("quantize", Pointer, Size, *[Pointer] * 3, whole, refuses=True)
        self.run = function("run", Pointer, Size, Pointer, whole, refuses=True)
        self.columns: int = library.symfx_columns()
        self.lanes: int = library.symfx_lanes()
        self.deepest: int = library.symfx_deepest()

    @property
    def threads(self) -> int:
        """The number of threads to run on: as many as torch's operators take."""
        return torch.get_num_threads() if self.threaded else 1

    def attention(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
        mask_is_bool: bool,
        causal: bool,
        scale: float,
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> bool:
        """Attention of queries to keys and values, into a result, under a mask.

        Returns:
            whether the kernel refuses the numbers.
        """
        query, key, value, result, mask = tensors
        refused = self._attention(
            query.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            result.data_ptr(),
            None if mask is None else mask.data_ptr(),
            mask_is_bool,
            causal,
            scale,
            _seven(*sizes),
            _sixteen(*strides),
            self.threads,
        )
        if (tape := running_tape()) is not None:
            numbers = (mask_is_bool, causal, *sizes, *strides)
            tape.add(Step.ATTENTION, tensors, 3, numbers, (scale,))
        return bool(refused)

    def normalize(
        self,
        tensors: tuple[Tensor, Tensor | None, Tensor | None, Tensor],
        size: int,
        eps: float,
        centers: bool,
    ) -> None:
        """LayerNorm or RMSNorm of rows, times a weight, plus a bias, into a result."""
        x, weight, bias, result = tensors
        rows = x.numel() // size
        self._normalize(
            x.data_ptr(),
            rows,
            size,
            eps,
            None if weight is None else weight.data_ptr(),
            None if bias is None else bias.data_ptr(),
            centers,
            result.data_ptr(),
            self.threads,
        )
        if (tape := running_tape()) is not None:
            tape.add(Step.NORMALIZE, tensors, 3, (rows, size, centers), (eps,))

    def linear(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor],
        sizes: tuple[int, int, int],
        post: int,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> None:
        """A linear layer of rows by packed panels, plus a bias and a sum, into a result."""
        x, panels, bias, other, result = tensors
        self._linear(
            x.data_ptr(),
            panels.data_ptr(),
            bias.data_ptr(),
            None if other is None else other.data_ptr(),
            result.data_ptr(),
            *sizes,
            post,
            low,
            high,
            self.threads,
            None,
        )
        if (tape := running_tape()) is not None:
            tape.hold(panels)
            tape.hold(bias)
            tape.add(Step.LINEAR, tensors, 4, (*sizes, post), (low, high))

    def depthwise(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor],
        sizes: tuple[int, ...],
        low: float,
        high: float,
    ) -> None:
        """A convolution of each channel by a packed weight, plus a bias, into a result."""
        x, weight, bias, result = tensors
        self._depthwise(
            x.data_ptr(),
            weight.data_ptr(),
            bias.data_ptr(),
            result.data_ptr(),
            _fourteen(*sizes),
            low,
            high,
            self.threads,
        )
        if (tape := running_tape()) is not None:
            tape.hold(weight)
            tape.hold(bias)
            tape.add(Step.DEPTHWISE, tensors, 3, sizes, (low, high))

    def convolve(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor],
        sizes: tuple[int, ...],
        low: float,
        high: float,
    ) -> bool:
        """A convolution by packed panels, plus a bias and a sum, into a result.

        Returns:
            whether the kernel finds no memory.
        """
        found = self._convolve(*map(_pointer, tensors), _packed(sizes), low, high, self.threads, 0)
        return self._note_layer(Step.CONVOLVE, tensors, sizes, (low, high), found)

    def winograd(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor],
        sizes: tuple[int, ...],
        low: float,
        high: float,
    ) -> bool:
        """A 3x3 convolution by Winograd's algorithm, plus a bias and a sum, into a result.

        Returns:
            whether the kernel refuses the numbers.
        """
        found = self._winograd(*map(_pointer, tensors), _packed(sizes), low, high, self.threads)
        return self._note_layer(Step.WINOGRAD, tensors, sizes, (low, high), found)

    def _note_layer(
        self,
        step: Step,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor],
        sizes: tuple[int, ...],
        reals: tuple[float, float],
        refused: int,
    ) -> bool:
        if not refused and (tape := running_tape()) is not None:
            tape.hold(tensors[1])
            tape.hold(tensors[2])
            tape.add(step, tensors, 4, sizes, reals)
        return bool(refused)

    def pool(self, x: Tensor, result: Tensor, sizes: tuple[int, ...]) -> None:
        """The greatest value of each window of an image that is channels last, into a result."""
        self._pool(x.data_ptr(), result.data_ptr(), _packed(sizes), self.threads)
        if (tape := running_tape()) is not None:
            tape.add(Step.POOL, (x, result), 1, sizes)

    def mean(self, x: Tensor, result: Tensor) -> None:
        """The mean of all pixels of an image that is channels last, into a result."""
        images, channels, height, width = x.shape
        sizes = images, height * width, channels
        self._mean(x.data_ptr(), result.data_ptr(), *sizes)
        if (tape := running_tape()) is not None:
            tape.add(Step.MEAN, (x, result), 1, sizes)

    def rotate(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor],
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        """Rotary positions of queries or keys, by cosines and sines, into a result."""
        x, cos, sin, result = tensors
        self._rotate(
            x.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            result.data_ptr(),
            _four(*sizes),
            _ten(*strides),
            self.threads,
        )
        if (tape := running_tape()) is not None:
            tape.add(Step.ROTATE, tensors, 3, (*sizes, *strides))


# Sizes and strides, as the kernels read them from memory.
_four, _seven = struct.Struct("4q").pack, struct.Struct("7q").pack
_ten, _fourteen = struct.Struct("10q").pack, struct.Struct("14q").pack
_sixteen = struct.Struct("16q").pack


def _pointer(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _packed(sizes: tuple[int, ...]) -> bytes:
    return struct.pack(f"{len(sizes)}q", *sizes)


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
    return [
        *(source.read_text() for source in _SOURCES),
        " ".join(_FLAGS),
        found,
        version,
        processor,
        str(_openmp()),
    ]


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

"""Calls of compiled kernels, noted while a graph runs, as a program that makes them all at once."""

from __future__ import annotations

import enum
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["NotOnTapeError", "Program", "Result", "Step", "Tape", "running_tape"]


class Step(enum.IntEnum):
    """The kernels, as ``steps.c`` numbers them."""

    ATTENTION = 0
    NORMALIZE = 1
    LINEAR = 2
    DEPTHWISE = 3
    ROTATE = 4
    COPY = 5
    COMBINE = 6
    SEPARABLE = 7
    CONVOLVE = 8
    WINOGRAD = 9
    POOL = 10
    MEAN = 11


class NotOnTapeError(Exception):
    """A value was computed by another operator than the kernels."""


# As in steps.c.
_PLACES, _NUMBERS, _REALS = 9, 28, 6
_STEP = struct.Struct(f"{1 + 2 * _PLACES + _NUMBERS}q{_REALS}d")
_ABSOLUTE, _SCRATCH, _FIRST = 0, 1, 2
#: Intermediate values begin at multiples of so many bytes.
_LINE = 64
#: A separable convolution runs strip by strip if the values in it take more bytes than this.
_LARGE = 2**20
_thread = threading.local()


def running_tape() -> Tape | None:
    """The tape that notes the kernels of this thread, if any."""
    return getattr(_thread, "tape", None)


@dataclass
class _Memory:
    """A piece of memory that kernels of a tape write to.

    Attributes:
        made: by this step.
        last: the last step that reads it.
        size: in bytes.
        tensor: a tensor in it, which keeps it alive while the tape runs.
    """

    made: int
    last: int
    size: int
    tensor: Tensor


@dataclass(frozen=True)
class Result:
    """A tensor that a program returns: a view of one of its inputs or of its new tensors.

    Attributes:
        source: the place of that tensor, inputs first.
        offset: in elements, from that tensor's first.
        shape: of the result.
        stride: of the result.
    """

    source: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class Program:
    """Kernels that run in one call.

    Attributes:
        steps: as ``steps.c`` reads them.
        count: of the steps.
        scratch: the bytes of memory that intermediate values need.
        outputs: the number of elements of each piece of memory that is made for results.
        results: the values to return; others than tensors are returned as they are.
        held: the tensors at fixed addresses.
    """

    steps: bytes
    count: int
    scratch: int
    outputs: list[int]
    results: list[Result | Any]
    held: list[Tensor]


@dataclass(frozen=True)
class _Noted:
    """A step.

    Attributes:
        step: the kernel.
        at: for each pointer, the start of the memory and the distance from it in bytes.
        numbers: the whole arguments.
        reals: the real arguments.
    """

    step: Step
    at: list[tuple[int, int] | None]
    numbers: list[int]
    reals: list[float]


_IDLE = _Noted(Step.COPY, [], [], [])


class Tape:
    """Notes the kernels that run in this thread while it is entered.

    Each pointer of a kernel must lead to an input, to a tensor that is held, or to memory that an
    earlier kernel of the tape has written. Otherwise another operator has computed the value, and
    the kernels alone would not.

    Args:
        inputs: the tensors whose addresses differ from call to call. Those that share memory do so
            in each call, at the same distance.
        held: tensors that stay where they are.
    """

    def __init__(self, inputs: Sequence[Tensor], held: Iterable[Tensor]) -> None:
        self._inputs: dict[int, tuple[int, Tensor]] = {}
        for place, x in enumerate(inputs):
            self._inputs.setdefault(_start(x), (place, x))
        self._count = len(inputs)
        self._held = {_start(x): x for x in held}
        if self._held.keys() & self._inputs.keys():
            raise NotOnTapeError
        self._made: dict[int, _Memory] = {}
        self._steps: list[_Noted] = []

    def __enter__(self) -> Tape:
        _thread.tape = self
        return self

    def __exit__(self, *error: object) -> None:
        _thread.tape = None

    def knows(self, x: Tensor) -> bool:
        """Whether a tensor's memory is an input, held, or written by a kernel."""
        start = _start(x)
        return start in self._inputs or start in self._held or start in self._made

    def hold(self, x: Tensor) -> None:
        """Let a tensor be one that stays where it is."""
        self._held[_start(x)] = x

    def add(
        self,
        step: Step,
        pointers: Sequence[Tensor | None],
        result: int,
        numbers: Sequence[int],
        reals: Sequence[float] = (),
    ) -> None:
        """Note a kernel.

        Args:
            step: the kernel.
            pointers: the tensors whose addresses it takes.
            result: the place of the one that it writes, which is new, or has been written in part.
            numbers: its other whole arguments.
            reals: its other real arguments.
        """
        index = len(self._steps)
        target = pointers[result]
        assert target is not None
        places: list[tuple[int, int] | None] = []
        for place, x in enumerate(pointers):
            if x is None:
                places.append(None)
                continue
            start = _start(x)
            if place == result and start in self._made:
                self._made[start].last = index  # the parts of a concatenation
            elif place == result:
                size = x.untyped_storage().nbytes()
                self._made[start] = _Memory(index, index, size, x)
            elif start in self._made:
                self._made[start].last = index
            elif not self.knows(x):
                raise NotOnTapeError
            places.append((start, x.data_ptr() - start))
        self._steps.append(_Noted(step, places, list(numbers), list(reals)))

    def add_copy(self, source: Tensor, target: Tensor) -> None:
        """Note a copy of a tensor of floats, along the order of the target's memory.

        Args:
            source: of up to four dimensions.
            target: of the same shape; its memory may be larger.
        """
        if source.dim() > 4 or source.element_size() != 4 or not source.numel():
            raise NotOnTapeError
        fill = 4 - source.dim()
        steps = target.stride()
        order = sorted(range(source.dim()), key=lambda each: -steps[each])
        sizes = (*[1] * fill, *[source.shape[each] for each in order])
        strides = [(*[0] * fill, *[x.stride(each) for each in order]) for x in (source, target)]
        self.add(Step.COPY, (source, target), 1, (*sizes, *strides[0], *strides[1]))

    def finish(self, values: Sequence[Any]) -> Program:
        """The program of the noted kernels.

        Args:
            values: the values to return.
        """
        bases: dict[int, tuple[int, int]] = {start: (_ABSOLUTE, start) for start in self._held}
        for start, (place, x) in self._inputs.items():
            bases[start] = _FIRST + place, start - x.data_ptr()
        outputs: list[int] = []
        for value in values:
            if not isinstance(value, Tensor):
                continue
            start = _start(value)
            if not self.knows(value) or start in self._held or value.element_size() != 4:
                raise NotOnTapeError
            if start not in bases:
                bases[start] = _FIRST + self._count + len(outputs), 0
                outputs.append(-(-self._made[start].size // 4))
        self._join_separable(bases)
        scratch = self._arrange(bases)
        packed = [
            _STEP.pack(
                each.step,
                *_split([(0, 0) if at is None else _moved(bases[at[0]], at[1]) for at in each.at]),
                *each.numbers,
                *[0] * (_NUMBERS - len(each.numbers)),
                *each.reals,
                *[0.0] * (_REALS - len(each.reals)),
            )
            for each in self._steps
        ]
        results = [_result(x, *bases[_start(x)]) if isinstance(x, Tensor) else x for x in values]
        held = list(self._held.values())
        return Program(b"".join(packed), len(packed), scratch, outputs, results, held)

    def _join_separable(self, bases: Mapping[int, Any]) -> None:
        """Join a depthwise convolution with the layers of each pixel around it, if it is large."""
        index = 0
        while index + 1 < len(self._steps):
            index += 1
            middle, last = self._steps[index - 1 : index + 1]
            if middle.step is not Step.DEPTHWISE or last.step is not Step.LINEAR:
                continue
            between = self._between(index - 1, index, bases)
            if between is None:
                continue
            before = self._steps[index - 2] if index > 1 else None
            wide = self._between(index - 2, index - 1, bases) if before else None
            joins = before is not None and before.step is Step.LINEAR and before.at[3] is None
            sizes = middle.numbers
            if 4 * sizes[0] * sizes[1] * sizes[2] * sizes[3] < _LARGE:
                continue
            if before is None or wide is None or not joins:
                at, reals, inputs, post = [middle.at[0], None, None], [0.0, 0.0], sizes[1], 0
                wide = None
            else:
                at, reals = before.at[:3], before.reals
                inputs, post = before.numbers[1], before.numbers[3]
            at = [*at, *middle.at[1:3], *last.at[1:5]]
            numbers = [*sizes, inputs, last.numbers[2], post, last.numbers[3]]
            joint = _Noted(Step.SEPARABLE, at, numbers, [*reals, *middle.reals, *last.reals])
            # The steps keep their numbers, since the lives of values are told in them.
            self._steps[index] = joint
            self._steps[index - 1] = _IDLE
            del self._made[between]
            if wide is not None:
                self._steps[index - 2] = _IDLE
                del self._made[wide]
            source = at[0]
            if source is not None and source[0] in self._made:
                self._made[source[0]].last = max(index, self._made[source[0]].last)
        self._steps = [each for each in self._steps if each is not _IDLE]

    def _between(self, one: int, two: int, bases: Mapping[int, Any]) -> int | None:
        """The memory that one step writes and only another one reads, as its first argument."""
        place = self._steps[two].at[0]
        memory = None if place is None else self._made.get(place[0])
        if place is None or memory is None or place[0] in bases or place[1] != 0:
            return None
        return place[0] if (memory.made, memory.last) == (one, two) else None

    def _arrange(self, bases: dict[int, tuple[int, int]]) -> int:
        """Give each intermediate value a place; values that are not needed at once share memory."""
        placed: list[tuple[int, int, _Memory]] = []
        for start, memory in sorted(self._made.items(), key=lambda item: item[1].made):
            if start in bases:
                continue
            size = -(-memory.size // _LINE) * _LINE
            at = 0
            for first, end, other in sorted(placed, key=lambda place: place[0]):
                if other.last < memory.made:
                    continue
                if at + size <= first:
                    break
                at = max(at, end)
            placed.append((at, at + size, memory))
            bases[start] = _SCRATCH, at
        return max((end for _, end, _ in placed), default=0)


def _start(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def _moved(place: tuple[int, int], offset: int) -> tuple[int, int]:
    return place[0], place[1] + offset


def _split(places: list[tuple[int, int]]) -> list[int]:
    """The bases, then the offsets, each filled up to the number that a step has."""
    rest = [0] * (_PLACES - len(places))
    return [base for base, _ in places] + rest + [offset for _, offset in places] + rest


def _result(x: Tensor, base: int, moved: int) -> Result:
    offset = x.data_ptr() - _start(x) + moved
    return Result(base - _FIRST, offset // 4, tuple(x.shape), x.stride())

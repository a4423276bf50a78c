"""A search for programs of one operator that the two routes of capture type otherwise than eager.

The programs are calls of torch's operator database, in all dtypes, as functions, methods and in
place. Some sizes of the inputs get names. Each program is typed twice: as torch.fx traces it, and as
symfx's own tracer records it operator by operator. At the sizes of the call, and at other sizes,
eager must run where the conditions of the types hold, with the shapes that they predict.
"""

from __future__ import annotations

import copy
import linecache
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from rule_search import LEFT_OPEN, changed, put
from torch import Tensor, nn

from symfx.dtypes import LONG_NAMES, short_name
from symfx.errors import TracingError
from symfx.shape_rules import GradualError, IllTypedError
from symfx.static_migration import Migration, migrate, program_graph
from symfx.static_migration.conditions import parse_input
from symfx.static_migration.operator_trace import OperatorTrace
from symfx.static_migration.operator_tracing import trace_operators

#: How eager refuses arguments.
REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError, TypeError)
#: Operators whose kernels check no sizes and write outside of their memory, or refuse only some
#: sources.
_UNCHECKED = {
    "_native_batch_norm_legit",
    "native_batch_norm",
    "_batch_norm_with_update",
    "as_strided",
    "as_strided_copy",
    "as_strided_scatter",
    "max_pool2d_with_indices_backward",
    "_segment_reduce",
    "nn.functional.linear_cross_entropy",
    "index_reduce",
    "histogramdd",
    "linalg.lstsq",
    "lu_unpack",  # of pivots that are 0
}
#: The dtypes that inputs can be given.
_DTYPES = {getattr(torch, name) for name in LONG_NAMES.values()}
#: The most elements of the tensors of a program.
_LARGEST = 20_000


class Anything:
    """A number that depends on data: equal to all numbers."""

    def _same(self, *others: Any) -> Anything:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _same
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _same

    def __eq__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return True

    __le__ = __gt__ = __ge__ = __lt__
    __hash__ = None  # type: ignore[assignment]


class _Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        if name == "Dyn" or re.fullmatch(r"[us]\d+", name):
            return Anything()
        raise KeyError(name)


def value_of(text: str, sizes: Mapping[str, int]) -> Any:
    """A shape or a condition as text, with numbers for names."""
    if "tensor" in text:
        return Anything()  # as "no tensor", and "n tensors"
    functions: dict[str, Any] = {
        "min": min,
        "max": max,
        "math": math,
        "float": float,
        "where": lambda c, a, b: a if c else b,
    }
    return eval(text, {"__builtins__": {}}, _Names({**functions, **sizes}))


def shapes_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [*value.shape]
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return tuple(map(shapes_of, value))
    return Anything()


def agree(one: Any, other: Any) -> bool:
    if isinstance(one, Anything) or isinstance(other, Anything):
        return True
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


@dataclass
class Program:
    """A program of one operator.

    Args:
        name: the operator, for messages.
        call: the operator.
        args: its arguments.
        kwargs: its keyword arguments.
    """

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places = self._take_tensors((self.args, self.kwargs))

    def _take_tensors(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            self.tensors.append(value)
            return _Place(len(self.tensors) - 1)
        if isinstance(value, dict):
            return {key: self._take_tensors(part) for key, part in value.items()}
        if type(value) in (tuple, list):
            return type(value)(map(self._take_tensors, value))
        return value

    def with_size(self, rng: random.Random) -> Program | None:
        """The program with one of its numbers as the size of a further input, if it has numbers."""
        places = [(path, n) for path, n in numbers_in(self._places) if n >= 1]
        if not places:
            return None
        path, number = rng.choice(places)
        args, kwargs = put(self._places, path, _SizeOf(len(self.tensors)))
        made = Program(f"{self.name} of a size", self.call, args, kwargs)
        made.tensors = [*self.tensors, torch.rand(number)]
        return made

    def run(self, given: list[Any]) -> Any:
        args, kwargs = _filled(self._places, given)
        return self.call(*args, **kwargs)

    def module(self) -> nn.Module:
        """The program as a module with one input for each tensor."""
        names = ", ".join(f"x{i}" for i in range(len(self.tensors)))
        source = f"def forward(self, {names}):\n    return run([{names}])\n"
        path = f"/programs/of_{len(self.tensors)}_tensors.py"
        linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
        scope: dict[str, Any] = {"run": self.run}
        exec(compile(source, path, "exec"), scope)
        return type("One", (nn.Module,), {"forward": scope["forward"]})()

    def __str__(self) -> str:
        return f"{self.name} {_shown((self.args, self.kwargs))}"


@dataclass(frozen=True)
class _Place:
    index: int


@dataclass(frozen=True)
class _SizeOf:
    """The place of the size of a vector."""

    index: int


def numbers_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """The numbers in arguments, with their places."""
    if type(value) is int:
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from numbers_in(part, (*path, key))
    elif type(value) in (tuple, list):
        for i, part in enumerate(value):
            yield from numbers_in(part, (*path, i))


def _filled(value: Any, given: list[Any]) -> Any:
    if isinstance(value, _Place):
        return given[value.index]
    if isinstance(value, _SizeOf):
        return given[value.index].shape[0]
    if isinstance(value, dict):
        return {key: _filled(part, given) for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_filled(part, given) for part in value)
    if isinstance(value, slice):
        return slice(*(_filled(part, given) for part in (value.start, value.stop, value.step)))
    return value


def _shown(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{short_name(value.dtype)}{[*value.shape]}"
    if isinstance(value, dict):
        return {key: _shown(part) for key, part in value.items()}
    return type(value)(map(_shown, value)) if type(value) in (tuple, list) else value


def programs(rng: random.Random, share: float, samples: int) -> Iterator[Program]:
    """Programs of a share of the operators in torch's database."""
    from torch.testing._internal.common_methods_invocations import op_db

    for operator in op_db:
        dtypes = sorted(operator.dtypes & _DTYPES, key=str)
        left_out = operator.name in LEFT_OPEN or operator.name in _UNCHECKED
        if not dtypes or left_out or rng.random() > share:
            continue
        forms = {operator.name: operator.op}
        for variant in (operator.method_variant, operator.inplace_variant):
            method = getattr(variant, "__name__", "<lambda>")
            if method not in ("<lambda>", "addbmm_"):  # addbmm_ may resize its tensor
                forms[f".{method}"] = _method(method)
        for _ in range(samples):
            dtype = rng.choice((torch.float32, rng.choice(dtypes)))
            if dtype not in dtypes:
                continue
            try:
                drawn = [*zip(range(20), operator.sample_inputs("cpu", dtype), strict=False)]
            except REFUSALS:
                continue  # the database has no such samples
            if not drawn:
                continue
            sample = rng.choice(drawn)[1]
            arguments = ((sample.input, *sample.args), dict(sample.kwargs))
            if rng.random() < 0.5:
                arguments = changed(rng, arguments)
            name = rng.choice([*forms])
            made = Program(f"{operator.name} as {name}", forms[name], *arguments)
            if made.tensors and sum(x.numel() for x in made.tensors) <= _LARGEST:
                yield made


def _method(name: str) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)


# -- comparison ------------------------------------------------------------------------------------


def by_fx(module: nn.Module, types: Any) -> Migration:
    try:
        graph = program_graph(module, types)
    except IllTypedError as error:
        raise TracingError("torch.fx does not trace the program") from error
    if OperatorTrace.of(graph) is not None:
        raise TracingError("torch.fx does not trace the program")
    return migrate(graph, types)


def by_operators(module: nn.Module, types: Any) -> Migration:
    return migrate(trace_operators(module, types, (), 10.0), types)


def named_types(
    rng: random.Random, tensors: list[Tensor], share: float
) -> tuple[dict[str, Any], dict[str, int]]:
    """The types of inputs, with names for a share of the sizes; and the sizes of the names."""
    types: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for i, x in enumerate(tensors):
        dims: list[str] = []
        for size in x.shape:
            if rng.random() < share:
                name = f"n{len(sizes)}"
                sizes[name] = size
                dims.append(name)
            else:
                dims.append(str(size))
        text = f"x{i}: {short_name(x.dtype)}[{', '.join(dims)}]"
        types[f"x{i}"] = parse_input(text)[1]
    return types, sizes


def _resized(x: Tensor, type_: Any, sizes: Mapping[str, int]) -> Tensor:
    shape = [value_of(str(dim), sizes) for dim in type_.dims]
    if shape == [*x.shape]:
        return x
    if x.dtype.is_floating_point or x.dtype.is_complex:
        return torch.rand(shape, dtype=x.dtype)
    return torch.zeros(shape, dtype=x.dtype)


def differences(
    rng: random.Random, program: Program, route: Callable[..., Migration], names: float
) -> Iterator[str]:
    """What a route and eager think differently of a program."""
    if any(0 in x.shape for x in program.tensors) or any(
        x.is_sparse or x.is_quantized for x in program.tensors
    ):
        return
    types, sizes = named_types(rng, program.tensors, names)
    shown = f"{route.__name__}: {program} as {', '.join(t.written for t in types.values())}"
    module = program.module()
    refused = ""
    found: Migration | None = None
    try:
        found = route(module, types)
    except IllTypedError as error:
        refused = error.what
    except (TracingError, GradualError):
        return  # the program cannot be traced
    if found is not None and found.verdict == "unknown":
        return
    if found is not None and found.conflict is not None:
        refused = found.conflict.message
    others = [{n: max(1, s + rng.choice((-1, 0, 1))) for n, s in sizes.items()} for _ in range(2)]
    # A trace of operators may hold for fewer sizes than the program, never for more.
    narrow = route is by_operators and bool(sizes)
    for at in (sizes, *others) if sizes else (sizes,):
        inputs = [
            _resized(x, type_, at) for x, type_ in zip(program.tensors, types.values(), strict=True)
        ]
        try:
            with torch.no_grad():
                eager = shapes_of(module(*copy.deepcopy(inputs)))
            failure = None
        except NotImplementedError:
            return
        except REFUSALS as error:
            failure = str(error).splitlines()[0] if str(error) else type(error).__name__
        if found is None or refused:
            if failure is None and not narrow:
                yield f"{shown} at {at}: refused ({refused}), eager: {eager}"
            continue
        conditions = [*found.conditions, *(f"{f.name} == {f.value}" for f in found.fixed)]
        holds = all(value_of(condition, at) for condition in conditions)
        if failure is None and holds:
            output = found.shapes[found.graph.output_node()]
            if not agree(value_of(output, at), eager):
                yield f"{shown} at {at}: {output}, eager: {eager}"
        elif failure is None and not narrow:
            yield f"{shown} at {at}: excluded by {conditions}, eager: {eager}"
        elif failure is not None and holds and not _about_data(failure):
            output = found.shapes[found.graph.output_node()]
            on_data = re.search(r"\bu\d", output) and narrow
            if output != "Dyn" and not on_data:
                yield f"{shown} at {at}: {output}, eager: {failure}"


def _about_data(failure: str) -> bool:
    """Whether eager refuses values, about which types say nothing."""
    return any(
        words in failure
        for words in (
            "out of bounds",
            "out of range",
            "not implemented for",
            "singular",
            "positive-definite",
            "must be in the range",
            "converge",
            "ZeroDivisionError",
            "std >= 0.0",
            "expected scalar type Char but found Long",
            "number of ones in mask",
            "must be smaller than num_classes",
            "allocated size does not match",
            "Expected idx >= 0",
            "greater than input's length",
            "'from' to be less than 'to'",
            "expects std",
            "expects sigma",
            "to indexing result of shape [0",  # of a mask
        )
    )

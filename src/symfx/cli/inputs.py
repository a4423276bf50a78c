"""The inputs of a model written on a command line: ``x: f32[batch, seq, 64]``.

The grammar::

    input   = NAME ":" ( tensor | scalar )
    tensor  = DTYPE "[" [ dim { "," dim } ] "]" [ "<" INT ]
    dim     = INT                                          a static size
            | [ INT "<=" ] NAME [ "=" INT ] [ "<=" INT ]   a dynamic one: bounds, example
    scalar  = "int" [ "=" INT ]                            a dynamic int
            | ( "float" | "bool" | "str" ) "=" VALUE       a constant
            | VALUE                                        a constant
    VALUE   = INT | FLOAT | "true" | "false" | "none" | quoted text

``f32[]`` is a tensor without dimensions. A dimension of one name is one size in all inputs, an
int of that name included. ``< 100`` bounds the example's integers from above (2 where it is
not given: 0 and 1 are rows of any embedding).
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from symfx.dtypes import LONG_NAMES
from symfx.errors import SpecError

if TYPE_CHECKING:
    import torch

__all__ = [
    "ConstantSpec",
    "DimSpec",
    "InputSpec",
    "IntSpec",
    "TensorSpec",
    "arrange",
    "make_inputs",
    "parse",
]

#: Words for dtypes beside their short names: torch's own, and Python's and C's.
_OTHER_NAMES = {long: long for long in LONG_NAMES.values()} | {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}
_BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint8": 8}
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_FORM = 'such as "x: f32[batch, seq, 64]", "n: int=5" or "flag: bool=true"'


@dataclass(frozen=True)
class DimSpec:
    """One dimension: a static size, or a name with an example and bounds if they were given."""

    name: str | None
    size: int | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its dtype by torch's name, its dimensions, the bound of its integers."""

    name: str
    dtype: str
    dims: tuple[DimSpec, ...]
    below: int | None = None


@dataclass(frozen=True)
class IntSpec:
    """A dynamic int, with its example if one was given."""

    name: str
    value: int | None = None


@dataclass(frozen=True)
class ConstantSpec:
    """A value that becomes part of the graph."""

    name: str
    value: Any


InputSpec = TensorSpec | IntSpec | ConstantSpec


# -- reading -----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<sign><=|[\[\]<=,:])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> InputSpec:
    """Read one input.

    Raises:
        SpecError: it does not follow the grammar; the message points at the place.

    Example:
        >>> parse("x: f32[batch=3]").dims
        (DimSpec(name='batch', size=3, low=None, high=None),)
        >>> parse("n: int=5")
        IntSpec(name='n', value=5)
        >>> parse("flag: bool=true")
        ConstantSpec(name='flag', value=True)
    """
    return _Parser(text).input()


class _Parser:
    """Reads one input by recursive descent: a method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.position = 0

    def _split(self) -> Iterator[_Token]:
        at = 0
        while self.text[at:].strip():
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                self.fail(f"{self.text[at]!r} has no meaning here", at)
            kind = match.lastgroup or ""
            yield _Token(kind, match[kind], match.start(kind))
            at = match.end()
        yield _Token("end", "", len(self.text.rstrip()))

    def fail(self, what: str, at: int | None = None, fix: str | None = None) -> NoReturn:
        """Raise a SpecError that points at a place, the next token's if none is given."""
        column = self.now.at if at is None else at
        raise SpecError(
            what,
            where=f"--input\n      {self.text}\n      {' ' * column}^",
            fix=fix or f"write an input {_FORM}",
        )

    @property
    def now(self) -> _Token:
        return self.tokens[self.position]

    def advance(self) -> _Token:
        token = self.now
        self.position += 1
        return token

    def accept(self, *signs: str) -> str | None:
        if self.now.kind == "sign" and self.now.text in signs:
            return self.advance().text
        return None

    def expect(self, sign: str, after: str) -> None:
        if not self.accept(sign):
            self.fail(f"expected {sign!r} {after}, found {self.found()}")

    def found(self) -> str:
        return repr(self.now.text) if self.now.kind != "end" else "the end"

    def name(self, what: str) -> str:
        if self.now.kind != "name":
            self.fail(f"expected {what}, found {self.found()}")
        return self.advance().text

    def integer(self, what: str) -> int:
        token = self.now
        if token.kind != "number" or not re.fullmatch(r"[-+]?\d+", token.text):
            self.fail(f"expected {what}, found {self.found()}")
        self.advance()
        return int(token.text)

    def input(self) -> InputSpec:
        name = self.name("the name of an input")
        self.expect(":", f"after the name {name!r}")
        follows_bracket = self.tokens[min(self.position + 1, len(self.tokens) - 1)].text == "["
        if self.now.kind == "name" and (follows_bracket or self.now.text.lower() not in _WORDS):
            result = self.tensor(name) if follows_bracket else self.typed_scalar(name)
        else:
            result = ConstantSpec(name, self.value())
        if self.now.kind != "end":
            self.fail(f"expected nothing more, found {self.found()}")
        return result

    def tensor(self, name: str) -> TensorSpec:
        token = self.advance()
        dtype = LONG_NAMES.get(token.text) or _OTHER_NAMES.get(token.text)
        if dtype is None:
            self.unknown_type(token)
        self.expect("[", "after the dtype")
        dims = []
        if not self.accept("]"):
            dims.append(self.dim())
            while self.accept(","):
                dims.append(self.dim())
            self.expect("]", "after the last dimension")
        below = None
        if self.now.text == "<":
            if dtype not in _BITS:
                self.fail(f"only integers are bounded from above, and these are {dtype}")
            self.advance()
            at = self.now.at
            below = self.integer("the bound of the values")
            if not 1 <= below <= 2 ** _BITS[dtype]:
                self.fail(f"{dtype} values below {below} cannot be drawn", at)
        return TensorSpec(name, dtype, tuple(dims), below)

    def unknown_type(self, token: _Token) -> NoReturn:
        known = [*LONG_NAMES, *_OTHER_NAMES]
        near = difflib.get_close_matches(token.text, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.fail(
            f"{token.text!r} is no dtype{hint}", token.at, fix=f"use one of {', '.join(LONG_NAMES)}"
        )

    def dim(self) -> DimSpec:
        low = None
        start = self.now.at
        if self.now.kind == "number":
            size = self.integer("a size")
            if size < 0:
                self.fail("a size cannot be negative", start)
            if not self.accept("<="):
                return DimSpec(None, size)
            low = size
        name = self.name("a size or the name of a dimension")
        example = high = None
        while sign := self.accept("=", "<="):
            at = self.now.at
            if sign == "=" and example is None and high is None:
                example = self.integer(f"the example size of {name}")
                if example < 0:
                    self.fail("a size cannot be negative", at)
            elif sign == "<=" and high is None:
                high = self.integer(f"the largest size of {name}")
            else:
                self.fail(f"{name} is described twice", at)
        return DimSpec(name, example, low, high)

    def typed_scalar(self, name: str) -> InputSpec:
        kind = self.advance()
        if kind.text == "int":
            if not self.accept("="):
                return IntSpec(name)
            return IntSpec(name, self.integer("an int"))
        if kind.text not in ("float", "bool", "str"):
            if kind.text in LONG_NAMES or kind.text in _OTHER_NAMES:
                self.fail(
                    f"expected '[' after the dtype {kind.text}, found {self.found()}",
                    fix=f"write {kind.text}[] for a tensor without dimensions",
                )
            self.unknown_type(kind)
        if not self.accept("="):
            self.fail(
                f"the {kind.text} {name!r} needs a value",
                fix=f"write it, such as {name}: "
                + {"float": "float=0.5", "bool": "bool=true", "str": "str='mean'"}[kind.text],
            )
        at = self.now.at
        value = self.value()
        if kind.text == "float" and type(value) is int:
            value = float(value)
        if type(value).__name__ != kind.text:
            self.fail(f"{value!r} is no {kind.text}", at)
        return ConstantSpec(name, value)

    def value(self) -> Any:
        token = self.now
        if token.kind in ("number", "text"):
            self.advance()
            return ast.literal_eval(token.text)
        if token.kind == "name" and token.text.lower() in _WORDS:
            self.advance()
            return _WORDS[token.text.lower()]
        self.fail(f"expected a type or a value, found {self.found()}")


# -- making -------------------------------------------------------------------------------------


def make_inputs(specs: Sequence[InputSpec], seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Example inputs for these specs by name, and what of them is dynamic.

    The second value is what `symfx.trace` takes as ``dynamic``. A dimension without an example
    size gets an odd prime that no other name and no static size has, so that sizes which are
    equal by chance do not look equal by design.

    Raises:
        SpecError: an input or a dimension is described twice, in two ways.

    Example:
        >>> values, dynamic = make_inputs([parse("x: f32[batch, 4]"), parse("n: int=9")])
        >>> values["x"].shape, values["n"]
        (torch.Size([3, 4]), 9)
        >>> dynamic
        {'x': (Dim(name='batch', min=None, max=None), None), 'n': Dim(name='n', min=None, max=None)}
    """
    import torch

    from symfx.symbolic_shapes import Dim

    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"the input {name!r} is described twice", where="--input")
    known = _known_dims(specs)
    sizes = _example_sizes(specs, known)
    dims = {name: Dim(name, min=dim.low, max=dim.high) for name, dim in known.items()}
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Any] = {}
    dynamic: dict[str, Any] = {}
    for spec in specs:
        if isinstance(spec, ConstantSpec):
            values[spec.name] = spec.value
        elif isinstance(spec, IntSpec):
            values[spec.name] = sizes[spec.name]
            dynamic[spec.name] = dims[spec.name]
        else:
            shape = [sizes[dim.name] if dim.name else dim.size or 0 for dim in spec.dims]
            values[spec.name] = _draw(spec, shape, generator)
            extents = tuple(dims[dim.name] if dim.name else None for dim in spec.dims)
            if any(extents):
                dynamic[spec.name] = extents
    return values, dynamic


def arrange(
    model: Callable[..., Any], values: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for calling a model with inputs by name.

    A builtin that tells nothing of its parameters gets them in their order.

    Raises:
        SpecError: the model has no such parameter, or needs one that is not there.

    Example:
        >>> arrange(lambda x, scale=1: x * scale, {"scale": 3, "x": 2})
        ((2, 3), {})
    """
    called = getattr(model, "forward", model)
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return tuple(values.values()), {}
    kinds = inspect.Parameter
    parameters = signature.parameters
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    plain = {
        name: p
        for name, p in parameters.items()
        if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    takes = ", ".join(plain) or "none that has a name"
    for name in values:
        if name not in plain and not takes_any:
            raise SpecError(
                f"the model has no input {name!r}",
                where=f"--input, for {signature}",
                fix=f"its inputs are {takes}",
            )
    for name, parameter in plain.items():
        if name not in values and parameter.default is kinds.empty:
            raise SpecError(
                f"the model needs an input {name!r}",
                where=f"the signature {signature}",
                fix=f'describe it: --input "{name}: f32[batch, 64]"',
            )
    bound = inspect.BoundArguments(signature, OrderedDict())
    for name in plain:
        if name in values:
            bound.arguments[name] = values[name]
    others = {name: value for name, value in values.items() if name not in plain}
    return bound.args, {**bound.kwargs, **others}


def _known_dims(specs: Sequence[InputSpec]) -> dict[str, DimSpec]:
    """All that is said of each named dimension, in all inputs together."""
    known: dict[str, DimSpec] = {}
    for spec in specs:
        if isinstance(spec, TensorSpec):
            said = [dim for dim in spec.dims if dim.name]
        elif isinstance(spec, IntSpec):
            said = [DimSpec(spec.name, spec.value)]
        else:
            said = []
        for dim in said:
            name = dim.name or ""
            before = known.get(name, DimSpec(name))
            known[name] = DimSpec(
                name,
                _agreed(name, "example", before.size, dim.size),
                _agreed(name, "smallest size", before.low, dim.low),
                _agreed(name, "largest size", before.high, dim.high),
            )
    return known


def _agreed(name: str, what: str, one: int | None, other: int | None) -> int | None:
    if one is not None and other is not None and one != other:
        raise SpecError(
            f"the dimension {name!r} has two values of its {what}: {one} and {other}",
            where="--input",
            fix="say it once, or use two names",
        )
    return other if one is None else one


def _example_sizes(specs: Sequence[InputSpec], known: dict[str, DimSpec]) -> dict[str, int]:
    taken = {0, 1} | {dim.size for dim in known.values() if dim.size is not None}
    for spec in specs:
        if isinstance(spec, TensorSpec):
            taken.update(dim.size for dim in spec.dims if dim.name is None and dim.size is not None)
    sizes: dict[str, int] = {}
    for name, dim in known.items():
        low = 2 if dim.low is None else dim.low
        if dim.size is not None:
            sizes[name] = dim.size
            continue
        candidates = (n for n in itertools.count(max(low, 3)) if n not in taken)
        size = next(n for n in candidates if _is_odd_prime(n))
        if dim.high is not None and size > dim.high:
            # A narrow range: any free size will do, and then any size at all.
            inside = range(low, dim.high + 1)
            size = next((n for n in inside if n not in taken), max(dim.high, low))
        sizes[name] = size
        taken.add(size)
    return sizes


def _is_odd_prime(n: int) -> bool:
    return n > 2 and all(n % d for d in range(2, int(n**0.5) + 1))


def _draw(spec: TensorSpec, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, spec.dtype)
    if spec.dtype in _BITS or dtype is torch.bool:
        high = spec.below or 2
        return torch.randint(0, high, shape, generator=generator).to(dtype)
    return torch.randn(
        shape, generator=generator, dtype=torch.complex128 if dtype.is_complex else torch.float64
    ).to(dtype)

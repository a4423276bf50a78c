"""Arguments of events as JSON and back.

Reading makes data only, of the classes that this module lists by name.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import sympy
import torch
from torch._guards import Source

from symfx.algebra import Table, Term
from symfx.algebra.terms.portable import pack, unpack
from symfx.errors import SpecError, SymfxError
from symfx.recording.term_limits import TermLimits
from symfx.shape_language import parse_dimension
from symfx.shape_language.syntax import Size, names_in
from symfx.sym_node import SymNode, SymTypes
from symfx.symbolic_shapes.dims import Dim, DimExpression
from symfx.symbolic_shapes.environment.event_arguments import HeldTerm
from symfx.untrusted import shown

__all__ = ["EventLogError", "decode", "encode", "encode_new_symbol"]


class EventLogError(SymfxError, ValueError):
    """A log cannot be saved, or a file is no log."""


# Records of symfx and of torch that may be arguments, by the module that has them.
_RECORDS: dict[str, tuple[str, ...]] = {
    "symfx.symbolic_shapes": (
        "Dim",
        "StatelessSymbolicContext",
        "StatefulSymbolicContext",
        "SubclassSymbolicContext",
        "SymIntSymbolicContext",
        "StrictMinMaxConstraint",
        "RelaxedUnspecConstraint",
        "EqualityConstraint",
        "TrackedFake",
    ),
    "symfx.recording": ("FakeTensorMeta",),
    "torch._dynamo.source": (
        "AttrSource",
        "CallMethodItemSource",
        "ConstantSource",
        "ConvertIntSource",
        "DictGetItemSource",
        "EphemeralSource",
        "FloatTensorSource",
        "GetItemSource",
        "GlobalSource",
        "GradSource",
        "ListGetItemSource",
        "LocalSource",
        "NegateSource",
        "NumpyTensorSource",
        "ParamBufferSource",
        "RandomValueSource",
        "ShapeEnvSource",
        "SubclassAttrListSource",
        "SyntheticLocalSource",
        "TensorPropertySource",
        "UnspecializedParamBufferSource",
    ),
    "torch.utils._sympy.value_ranges": ("ValueRanges",),
}
_MODULE_OF = {name: module for module, names in _RECORDS.items() for name in names}
# The most characters in the name of a source.
_LONGEST_NAME = 5_000
# Fields of a context in which an environment caches values.
_CACHES = frozenset({"shape_env_to_source_to_symbol_cache", "_hash"})
_ENUMS: dict[str, str] = {
    "DimDynamic": "symfx.symbolic_shapes",
    "TensorProperty": "torch._dynamo.source",
}


@functools.cache
def _named(module: str, name: str) -> Any:
    from importlib import import_module

    found = getattr(import_module(module), name, None)
    if found is None:
        raise EventLogError(f"this release has no {name} in {module}")
    return found


# -- writing --------------------------------------------------------------------------------


def encode(value: Any, read: Callable[[Any], Term]) -> Any:
    """An argument as JSON.

    Args:
        value: the argument.
        read: gives the term of a sympy expression.

    Raises:
        EventLogError: the argument is of a kind that cannot be saved; the message names it.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Term):
        return {"term": pack(value)}
    if isinstance(value, HeldTerm):
        return {value.view: pack(value.term)}
    if isinstance(value, SymTypes) and type(value.node) is SymNode:
        return {"number": pack(value.node.term)}
    if type(value) is SymNode:
        return {"node": pack(value.term)}
    if isinstance(value, sympy.Basic):
        return _encode_sympy(value, read)
    if isinstance(value, torch.fx.Node):
        return None  # its graph is not saved
    again = functools.partial(encode, read=read)
    if isinstance(value, DimExpression):
        dims = [again(dim) for dim in value.dims.values()]
        return {"expression": str(value), "dims": dims, "sizes": dict(value.sizes)}
    if isinstance(value, Enum):
        return _encode_enum(value)
    if isinstance(value, (tuple, set, frozenset)):
        kind = "tuple" if isinstance(value, tuple) else "set"
        return {kind: [again(v) for v in value]}
    if isinstance(value, list):
        return [again(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[again(k), again(v)] for k, v in value.items()]}
    return _encode_record(value, again)


def _encode_sympy(value: sympy.Basic, read: Callable[[Any], Term]) -> Any:
    from torch.utils._sympy.numbers import int_oo

    infinities = {int_oo: "int_oo", -int_oo: "-int_oo", sympy.oo: "oo", -sympy.oo: "-oo"}
    for infinity, name in infinities.items():
        if value is infinity or value == infinity:
            return {"infinity": name}
    for name, kind, plain, _ in _SYMPY_NUMBERS:
        if isinstance(value, kind):
            return {name: plain(value)}
    return {"sympy": pack(read(value))}


# Numbers of sympy: their name in JSON, their class, the conversion to Python and back.
_SYMPY_NUMBERS: tuple[tuple[str, Any, Any, Any], ...] = (
    ("integer", sympy.Integer, int, sympy.Integer),
    ("double", sympy.Float, float, sympy.Float),
    ("truth", (type(sympy.true), type(sympy.false)), bool, sympy.sympify),
)


def encode_new_symbol(symbol: sympy.Symbol) -> Any:
    """A sympy symbol that other code made and registered with the environment, as JSON."""
    claims = [name for name in _CLAIMS if symbol.assumptions0.get(name) is True]
    return {"new symbol": symbol.name, "claims": claims}


# The assumptions that a sympy symbol may have, the strongest first.
_CLAIMS = ("positive", "nonnegative", "integer", "real")


def _encode_enum(value: Enum) -> Any:
    kind = type(value).__name__
    if kind not in _ENUMS:
        raise EventLogError(f"{value} cannot be saved: {kind} is no enumeration that logs know")
    return {"enum": kind, "member": value.name}


def _encode_record(value: Any, again: Callable[[Any], Any]) -> Any:
    kind = type(value).__name__
    if is_dataclass(value) and kind in _MODULE_OF:
        inner = {
            f.name: again(getattr(value, f.name))
            for f in fields(value)
            if (f.init or not hasattr(value, "__post_init__")) and f.name not in _CACHES
        }
        return {"record": kind, "fields": inner}
    source = getattr(value, "name", None)
    if isinstance(source, str) and hasattr(value, "is_ephemeral"):
        # Of a source of another class only the name is saved.
        return {"record": "ConstantSource", "fields": {"source_name": source}}
    raise EventLogError(
        f"an argument of type {type(value).__module__}.{kind} cannot be saved: {value!r:.100}",
        fix="logs keep numbers, text, expressions, sources, contexts and constraints",
    )


# -- reading --------------------------------------------------------------------------------


def decode(data: Any, table: Table) -> Any:
    """The argument of an event from its JSON, as `encode` wrote it.

    Args:
        data: the JSON.
        table: the table of the expressions, until they are put into an environment.

    Raises:
        EventLogError: `encode` writes no such JSON; the message shows it.
    """
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return [decode(v, table) for v in data]
    match data:
        case {"float": "inf" | "-inf" | "nan" as text, **rest} if not rest:
            return float(text)
        case {"tuple": list(items), **rest} if not rest:
            return tuple(decode(v, table) for v in items)
        case {"set": list(items), **rest} if not rest:
            return set(_collected("set", [(decode(v, table), None) for v in items]))
        case {"dict": list(items), **rest} if not rest:
            pairs = [item for item in items if isinstance(item, list) and len(item) == 2]
            if len(pairs) != len(items):
                raise EventLogError(f"{shown(items)} are not the items of a dict")
            return _collected("dict", [(decode(k, table), decode(v, table)) for k, v in pairs])
        case {"infinity": str(name), **rest} if not rest:
            return _infinity(name)
        case {"enum": str(kind), "member": str(member), **rest} if not rest:
            if kind not in _ENUMS:
                raise EventLogError(f"no enumeration of a log is called {shown(kind)}")
            found = getattr(_named(_ENUMS[kind], kind), "__members__", {}).get(member)
            if found is None:
                raise EventLogError(f"{kind} has no member {shown(member)}")
            return found
        case {"new symbol": str(name), "claims": list(claims), **rest} if not rest:
            if not all(claim in _CLAIMS for claim in claims):
                raise EventLogError(f"a symbol cannot have the assumptions {shown(claims)}")
            return sympy.Symbol(name, **dict.fromkeys(claims, True))
        case {"expression": str(text), "dims": list(dims), "sizes": dict(sizes), **rest} if (
            not rest
        ):
            return _decode_expression(text, [decode(dim, table) for dim in dims], sizes)
        case {"record": str(kind), "fields": dict(inner), **rest} if not rest:
            return _decode_record(kind, inner, table)
        case {**only} if len(only) == 1:
            ((view, parts),) = only.items()
            if view in ("term", "sympy", "number", "node") and isinstance(parts, list):
                return HeldTerm(unpack(parts, table, check=TermLimits()), view)
            for name, _, plain, back in _SYMPY_NUMBERS:
                if view == name and type(parts) is plain:
                    return back(parts)
    raise EventLogError(f"{shown(data)} is no argument that a log can have")


def _collected(kind: str, items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The dict of some keys and values.

    Raises:
        EventLogError: a key cannot be one; the message calls the collection by `kind`.
    """
    try:
        return dict(items)
    except TypeError as error:
        raise EventLogError(f"{shown(items)} cannot be in a {kind}: {error}") from None


def _infinity(name: str) -> Any:
    from torch.utils._sympy.numbers import int_oo

    known = {"int_oo": int_oo, "-int_oo": -int_oo, "oo": sympy.oo, "-oo": -sympy.oo}
    if name not in known:
        raise EventLogError(f"no infinity is called {shown(name)}")
    return known[name]


def _decode_record(kind: str, inner: dict[str, Any], table: Table) -> Any:
    if kind not in _MODULE_OF:
        raise EventLogError(
            f"no record of a log is called {shown(kind)}",
            fix=f"logs have these: {', '.join(sorted(_MODULE_OF))}",
        )
    cls = _named(_MODULE_OF[kind], kind)
    known = {f.name: f for f in fields(cls)}
    strange = inner.keys() - known.keys()
    if strange:
        raise EventLogError(f"{kind} has no field {shown(min(strange))}")
    values = {name: decode(v, table) for name, v in inner.items()}
    accepted = inspect.signature(cls).parameters
    made = {name: v for name, v in values.items() if name in accepted}
    try:
        record = cls(**made)
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise EventLogError(f"{kind} cannot be made of {shown(made)}: {error}") from None
    if isinstance(record, Source):
        _check_source(record, kind)
    return record


def _decode_expression(text: str, dims: list[Any], sizes: dict[str, Any]) -> DimExpression:
    try:
        read = parse_dimension(text)
    except SpecError as error:
        raise EventLogError(f"{shown(text)} is no expression: {error.what}") from None
    named = {dim.name: dim for dim in dims if isinstance(dim, Dim)}
    plain = isinstance(read, Size) and (read.low, read.high, read.example) == (None, None, None)
    if not isinstance(read, Size) or not plain or set(names_in(read.value)) != named.keys():
        raise EventLogError(f"{shown(text)} is no expression of {shown(sorted(named))}")
    if sizes.keys() != named.keys() or not all(type(size) is int for size in sizes.values()):
        raise EventLogError(f"{shown(sizes)} are not the sizes of {shown(sorted(named))}")
    return DimExpression(read.value, named, sizes)


def _check_source(source: Source, kind: str) -> None:
    """Refuse a source that has no name because a field of it is of a wrong type.

    Raises:
        EventLogError: the source has no name, or a very long one.
    """
    try:
        name = source.name
    except Exception as error:
        raise EventLogError(f"a {kind} of a log has no name: {error}") from error
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise EventLogError(f"a {kind} of a log has the name {shown(name)}, which is no short text")

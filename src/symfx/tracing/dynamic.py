"""The argument ``dynamic`` of `symfx.trace`, checked and brought to one form.

The one form is an entry for each leaf of the arguments. The entry of a tensor is a tuple with an
`Extent` for each dimension; the entry of any other leaf is one `Extent`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from symfx.dynamic_spec import TensorSpec
from symfx.errors import SpecError, describe
from symfx.proxy_tensor.shape_specs import BoundSpec, ParameterEntries, leaf_entries
from symfx.shape_language import parse_dimension
from symfx.shape_language.lowering import Measured, determined
from symfx.shape_language.syntax import (
    Dimension,
    Leading,
    Name,
    Number,
    Size,
    Unknown,
    names_in,
)
from symfx.symbolic_shapes import Dim, DimExpression
from symfx.torch_bridge.nested_tensors import JaggedTensor
from symfx.tracing.arguments import Layout
from symfx.tracing.entries import (
    bounds_of,
    entries_by_parameter,
    identifier,
    tensor_parts,
    with_leading,
)
from symfx.tracing.stated import Stated, check_example
from symfx.tracing.torch_shapes import (
    Wish,
    annotated,
    dimension_of_torch,
    marked,
    shapes_of_torch,
)

__all__ = ["Dynamic", "Entry", "Extent", "entries_of_spec", "read_dynamic", "read_spec"]

#: None is static, True is dynamic without a name.
Extent: TypeAlias = Dim | DimExpression | bool | None
Entry: TypeAlias = tuple[Extent, ...] | Extent

_WAYS = (
    "a name, an expression such as '8*batch', a symfx.Dim, True (dynamic, unnamed) or None (static)"
)


@dataclass(frozen=True)
class Dynamic:
    """What the argument ``dynamic`` asks for.

    Attributes:
        entries: the entry for each leaf of the call.
        promised: the dimensions and ints that have an entry of their own, each in words such as
            ``dimension 1 of x``. A program must not pin them. That a whole tensor may be dynamic
            (True) promises no dimension of it.
        stated: the conditions that the user states.
    """

    entries: list[Entry]
    promised: frozenset[str]
    stated: tuple[Stated, ...] = ()


def read_dynamic(
    layout: Layout,
    dynamic: Any,
    stated: Sequence[Stated] = (),
    called: Callable[..., Any] | None = None,
) -> Dynamic:
    """The entry for each leaf of a call, and the dimensions that must stay dynamic.

    Args:
        layout: the arguments of the call.
        dynamic: the argument of `symfx.trace`.
        stated: the conditions that the user states.
        called: the function that is called, whose annotations count where `dynamic` is None.

    Raises:
        SpecError: ``dynamic`` names an input or a dimension that is not there, or contradicts
            the example.
    """
    reader = _Reader(marks=dynamic is None)
    if dynamic is None and called is not None:
        wanted = annotated(called, layout)
    else:
        wanted = entries_by_parameter(layout, shapes_of_torch(dynamic, layout))
    entries: list[Entry] = []
    for parameter, value in layout.names().items():
        explicit = dynamic is not True
        entries.extend(reader.read(parameter, value, wanted.get(parameter), explicit=explicit))
    reader.agree()
    conditions = (*stated, *reader.bounds)
    check_example(conditions, reader.sizes)
    merged = [reader.merged(entry) for entry in entries]
    return Dynamic(merged, frozenset(reader.promised), conditions)


def read_spec(layout: Layout, spec: Any) -> BoundSpec:
    """Match a spec with the leaves of a call.

    Args:
        layout: the arguments of the call.
        spec: a `symfx.dynamic_spec.ShapesSpec`.

    Raises:
        SpecError: the spec does not fit the arguments.
    """
    entries = ParameterEntries(spec)
    leaves: list[Any] = []
    for name, value in layout.given.items():
        kind = layout.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            for i, member in enumerate(value):
                leaves += leaf_entries(f"{name}[{i}]", member, entries.star(i))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            for key, member in value.items():
                leaves += leaf_entries(key, member, entries.named(key))
        else:
            leaves += leaf_entries(name, value, entries.named(name))
    entries.refuse_unused(layout.names())
    return BoundSpec(tuple(leaves), entries.assumptions)


def entries_of_spec(spec: BoundSpec) -> list[Entry]:
    """The entry for each leaf of a call, from a spec: dynamic and without a name, or static."""
    return [
        tuple(True if isinstance(size, torch.SymInt) else None for size in entry)
        if isinstance(entry, TensorSpec)
        else (True if isinstance(entry, torch.SymInt) else None)
        for entry in spec.leaves
    ]


class _Reader:
    """Reads entries one after another, and remembers each use of a named dimension.

    Args:
        marks: whether a tensor without an entry has that of its marks (``mark_dynamic``).
    """

    def __init__(self, *, marks: bool) -> None:
        self._marks = marks
        #: name -> [(the dimension or int that has it, its description, its example size)]
        self.uses: dict[str, list[tuple[str, Dim, int]]] = {}
        #: The dimensions that are expressions: each with its place and its example size.
        self.expressions: list[tuple[str, DimExpression, int]] = []
        #: name -> its example size; `agree` fills it
        self.sizes: dict[str, int] = {}
        #: The bounds that were written for expressions.
        self.bounds: list[Stated] = []
        #: name -> the dimension as all its uses together describe it; `agree` fills it
        self.dims: dict[str, Dim] = {}
        #: The places that have an entry of their own, other than None.
        self.promised: set[str] = set()

    def read(self, path: str, value: Any, entry: Any, *, explicit: bool) -> list[Entry]:
        """The entries of the leaves of a value.

        Args:
            path: the Python that reads the value from the parameters.
            value: the value.
            entry: its entry, as the user wrote it.
            explicit: whether the entry was written for this value, and not for a container of it
                or for all inputs.
        """
        if isinstance(value, torch.Tensor):
            return [self._tensor(path, value, entry)]
        if isinstance(value, JaggedTensor):
            return self._jagged(path, value, entry)
        leaves = pytree.tree_leaves(value)
        is_leaf = len(leaves) == 1 and leaves[0] is value
        if is_leaf:
            return [self._scalar(path, value, entry, explicit)]
        if entry is None or entry is True:
            return [
                extent
                for key, child in _children(path, value)
                for extent in self.read(key, child, entry, explicit=False)
            ]
        return [
            extent
            for (key, child), part in zip(
                _children(path, value), self._parts(path, value, entry), strict=True
            )
            for extent in self.read(key, child, part, explicit=True)
        ]

    def _parts(self, path: str, value: Any, entry: Any) -> list[Any]:
        if isinstance(value, (list, tuple)):
            fits = isinstance(entry, (list, tuple)) and len(entry) == len(value)
            if fits:
                return list(entry)
            expected = f"a sequence of {len(value)} entries, one for each member"
        elif isinstance(value, dict):
            if isinstance(entry, Mapping):
                return self._members(path, value, entry)
            expected = f"a dict by {', '.join(map(repr, value))}"
        else:
            expected = "None or True (it is neither a sequence nor a dict)"
        raise SpecError(
            f"{path} is a {type(value).__name__}; its entry {entry!r} has another structure",
            where=f"dynamic, for {path}",
            fix=f"give {expected}",
        )

    @staticmethod
    def _members(path: str, value: dict[Any, Any], entry: Mapping[Any, Any]) -> list[Any]:
        """The entries of the members of a dict, in the order of its keys.

        Raises:
            SpecError: a key of the entry is none of the dict, or a member that holds tensors has
                no entry.
        """
        where = f"dynamic, for {path}"
        for key in entry:
            if key not in value:
                near = difflib.get_close_matches(str(key), [str(k) for k in value], n=1)
                raise SpecError(
                    f"{path} has no member {key!r}",
                    where=where,
                    fix=f"did you mean {near[0]!r}?"
                    if near
                    else f"its members are {', '.join(map(repr, value)) or 'none at all'}",
                )
        for key, member in value.items():
            leaves = pytree.tree_leaves(member)
            if key not in entry and any(isinstance(leaf, torch.Tensor) for leaf in leaves):
                raise SpecError(
                    f"{path}[{key!r}] has no entry",
                    where=where,
                    fix=f"give each member with tensors an entry; {key!r}: None makes it static",
                )
        return [entry.get(key) for key in value]

    def _tensor(self, path: str, value: torch.Tensor, entry: Any) -> tuple[Extent, ...]:
        where = f"dynamic, for {path}"
        rank = value.dim()
        if entry is None and self._marks:
            entry = marked(value, identifier(path))
        if entry is None or entry is True:
            return (entry,) * rank
        if isinstance(entry, str) and not entry.isidentifier():
            entry = tensor_parts(path, value, entry, where)
        if isinstance(entry, Mapping):
            extents: list[Any] = [None] * rank
            places: dict[int, Any] = {}
            for key, extent in entry.items():
                if not isinstance(key, int) or isinstance(key, bool) or not -rank <= key < rank:
                    raise SpecError(
                        f"{path} has no dimension {key!r}: it has {rank} dimensions",
                        where=where,
                        fix=f"number the dimensions 0 to {rank - 1}" if rank else "leave it out",
                    )
                if key % rank in places:
                    raise SpecError(
                        f"dimensions {places[key % rank]} and {key} of {path} are the same one, "
                        "and it is described twice",
                        where=where,
                        fix="describe each dimension once",
                    )
                places[key % rank] = key
                extents[key] = extent
        elif isinstance(entry, (list, tuple)):
            entry = with_leading(entry, rank, where)
            if len(entry) != rank:
                parts = ", ".join(str(e) if isinstance(e, Size) else repr(e) for e in entry)
                raise SpecError(
                    f"{path} has {rank} dimensions, and its entry ({parts}) has {len(entry)}",
                    where=where,
                    fix="give one part for each dimension; None is static",
                )
            extents = list(entry)
        else:
            raise SpecError(
                f"{path} is a tensor, and its entry is {entry!r}",
                where=where,
                fix="give a tuple with one part for each dimension, a dict {dimension: part}, "
                "text such as '[batch, 64]', True or None",
            )
        return tuple(
            self._extent(
                f"dimension {i} of {path}",
                value.shape[i],
                dimension_of_torch(extent, f"{identifier(path)}_{i}"),
                where,
            )
            for i, extent in enumerate(extents)
        )

    def _jagged(self, path: str, parts: JaggedTensor, entry: Any) -> list[Entry]:
        """The entries of the values and of the offsets; how many of each there are is dynamic."""
        rank = parts.values.dim() + 1
        if isinstance(entry, Mapping):
            wrong = [key for key in entry if type(key) is not int or not -rank <= key < rank]
            entry = (
                tuple(entry.get(d, entry.get(d - rank)) for d in range(rank))
                if not wrong
                else entry
            )
        if entry is None or entry is True:
            # Of a tensor that is dynamic as a whole no dimension is promised: see `_tensor`.
            return [(True, *(entry,) * (rank - 2)), (True,)]
        fits = isinstance(entry, (list, tuple)) and len(entry) == rank
        if not fits or any(part not in (None, True) for part in entry[:2]):
            raise SpecError(
                f"{path} is a nested tensor of {rank} dimensions, and its entry is {entry!r}",
                where=f"dynamic, for {path}",
                fix="give True, None, or a part for each dimension. The first two, the members and "
                "their rows, are dynamic always and have no name: give True for them",
            )
        return [
            (True, *self._tensor(f"{path}.values", parts.values, (None, *entry[2:]))[1:]),
            (True,),
        ]

    def _scalar(self, path: str, value: Any, entry: Any, explicit: bool) -> Extent:
        entry = dimension_of_torch(entry, identifier(path))
        if entry is None or not explicit:
            return None
        where = f"dynamic, for {path}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise SpecError(
                f"{path} is {describe(value)}; only tensors and ints can be dynamic",
                where=where,
                fix="leave it out: its value becomes part of the graph",
            )
        if isinstance(entry, (Mapping, list, tuple)):
            raise SpecError(
                f"{path} is an int, and its entry is {entry!r}", where=where, fix=f"give {_WAYS}"
            )
        return self._extent(path, value, entry, where)

    def _extent(self, place: str, size: int, extent: Any, where: str) -> Extent:
        wished = isinstance(extent, Wish)
        if isinstance(extent, Wish):
            extent = extent.extent if size > 1 else None
        if extent is None:
            return None
        if extent is True:
            if not wished:
                self.promised.add(place)
            return True
        if isinstance(extent, int) and not isinstance(extent, bool):
            if extent != size:
                raise SpecError(
                    f"{place} is {size} in the example, not {extent}",
                    where=where,
                    fix="a number is a static size: give the example's size, or None",
                )
            return None
        if isinstance(extent, (str, Size, Unknown, Leading)):
            read = parse_dimension(extent, where) if isinstance(extent, str) else extent
            extent = self._described(place, size, read, where)
            if extent is None:
                return None
        if isinstance(extent, DimExpression):
            self.expressions.append((place, extent, size))
            for name, dim in extent.dims.items():
                self.uses.setdefault(name, []).append((place, dim, -1))
            if not wished:
                self.promised.add(place)
            return extent
        if not isinstance(extent, Dim):
            raise SpecError(
                f"{place} cannot be described by {extent!r}", where=where, fix=f"give {_WAYS}"
            )
        self.uses.setdefault(extent.name, []).append((place, extent, size))
        # A range of one size pins it already.
        if not wished and (extent.min is None or extent.min != extent.max):
            self.promised.add(place)
        return extent

    def _described(self, place: str, size: int, read: Dimension, where: str) -> Extent:
        """The extent of a dimension that was written as text."""
        if isinstance(read, Leading):
            raise SpecError(
                f"{read} stands for several dimensions, and {place} is one",
                where=where,
                fix="write it in an entry for the whole tensor: ('*dims', 64) or '[*dims, 64]'",
            )
        if isinstance(read, Unknown):
            return None
        if isinstance(read.value, Number):
            return self._extent(place, size, read.value.value, where)
        if read.example is not None and read.example != size:
            raise SpecError(
                f"{place} is {size} in the example, not {read.example}",
                where=where,
                fix="leave the example size out: the tensor has it",
            )
        if isinstance(read.value, Name):
            try:
                return Dim(read.value.name, min=read.low, max=read.high)
            except SpecError as error:
                raise SpecError(error.what, where=where, fix=error.fix) from None
        if read.low is not None or read.high is not None:
            self.bounds.append(bounds_of(read, where))
        return DimExpression(read.value, {name: Dim(name) for name in names_in(read.value)})

    def agree(self) -> None:
        """Merge the descriptions of each name, and find its size in the example.

        Raises:
            SpecError: two descriptions contradict each other.
        """
        measured = []
        for name, uses in self.uses.items():
            plain = [(place, size) for place, _, size in uses if size >= 0]
            for other, again in plain[1:]:
                place, size = plain[0]
                if again != size:
                    raise SpecError(
                        f"{name} names two sizes: {size} ({place}) and {again} ({other})",
                        where="dynamic",
                        fix="a name is one size: use two names, or equal example sizes",
                    )
            measured += [Measured(place, Name(name), size) for place, size in plain[:1]]
            low = self._one(name, "min", [dim.min for _, dim, _ in uses])
            high = self._one(name, "max", [dim.max for _, dim, _ in uses])
            self.dims[name] = Dim(name, min=low, max=high)
        measured += [Measured(place, e.tree, size) for place, e, size in self.expressions]
        self.sizes = determined(measured)
        for name, uses in self.uses.items():
            places = [place for place, _, size in uses if size >= 0]
            self._check_range(self.dims[name], [*places, name][0], self.sizes[name])

    @staticmethod
    def _one(name: str, bound: str, given: list[int | None]) -> int | None:
        """The one value of a bound; None if no use of the name gives it."""
        values = sorted({value for value in given if value is not None})
        if len(values) > 1:
            raise SpecError(
                f"{name} has two values for {bound}: {values[0]} and {values[-1]}",
                where="dynamic",
                fix="give one value",
            )
        return values[0] if values else None

    @staticmethod
    def _check_range(dim: Dim, place: str, size: int) -> None:
        # Without a bound of the user's, sizes 0 and 1 are excluded.
        low, high = 2 if dim.min is None else dim.min, dim.max
        if size < low and dim.min is None:
            raise SpecError(
                f"{place} is {size} in the example, and {dim.name} is to be dynamic",
                where="dynamic",
                fix="give an example size of 2 or more: PyTorch treats 0 and 1 differently "
                "(emptiness, broadcasting), so a trace at one of them holds for it alone",
            )
        if size < low or (high is not None and size > high):
            right = f" <= {high}" if high is not None else ""
            raise SpecError(
                f"{place} is {size} in the example, outside {low} <= {dim.name}{right}",
                where="dynamic",
                fix="choose an example within the range, or widen the range",
            )

    def merged(self, entry: Entry) -> Entry:
        """The entry with each named dimension as all its uses together describe it."""
        if isinstance(entry, tuple):
            return tuple(self._merged(extent) for extent in entry)
        return self._merged(entry)

    def _merged(self, extent: Extent) -> Extent:
        if isinstance(extent, DimExpression):
            return extent.at(self.dims, self.sizes)
        return self.dims[extent.name] if isinstance(extent, Dim) else extent


def _children(path: str, value: Any) -> list[tuple[str, Any]]:
    """The members of a container with their paths, in the order of its leaves."""
    found, _ = pytree.tree_flatten_with_path(value, is_leaf=lambda node: node is not value)
    return [(path + pytree.keystr(keys), child) for keys, child in found]

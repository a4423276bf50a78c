"""The guards, symbols and pins of a trace as tuples that a notebook shows as tables."""

from __future__ import annotations

from symfx.symbolic_shapes import (
    Provenance,
    RuntimeAssert,
    ShapeGuard,
    SpecializationRecord,
)
from symfx.tracing.markup import table

__all__ = ["AssertTable", "GuardTable", "PinTable", "cause_in_cells"]

_CAUSE = ("operator", "line", "source")


class GuardTable(tuple[ShapeGuard, ...]):
    """The guards of a trace: a tuple, which a notebook shows as a table.

    Example:
        >>> GuardTable()._repr_html_()
        '<p>no guards</p>'
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [(str(guard.term), *cause_in_cells(guard.provenance)) for guard in self]
        return table("guards", ("guard", *_CAUSE), rows)


class PinTable(tuple[SpecializationRecord, ...]):
    """The dimensions that a program pinned: a tuple, which a notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [
            (record.symbol_name, str(record.value), *cause_in_cells(record.provenance))
            for record in self
        ]
        return table("pinned dimensions", ("dimension", "the only value", *_CAUSE), rows)


class AssertTable(tuple[RuntimeAssert, ...]):
    """What a graph asserts when it runs: a tuple, which a notebook shows as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [(str(each.term), each.message, *cause_in_cells(each.provenance)) for each in self]
        return table("assertions at run time", ("condition", "message", *_CAUSE), rows)


def cause_in_cells(cause: Provenance) -> tuple[str, str, str]:
    """The operator, the place of the line and the text of the line; empty where unknown."""
    frame = cause.frame
    if frame is None:
        return cause.operator or "", "", ""
    return cause.operator or "", str(frame), frame.line

"""The node of an int that is a constant, beside the nodes of ragged sizes."""

from __future__ import annotations

from typing import Any

from symfx.errors import SymfxError

__all__ = ["ConstantIntNode"]


class ConstantIntNode:
    """The node of a constant int; the other operand of each operation does the work.

    Args:
        val: the value.

    Example:
        >>> node = ConstantIntNode(3)
        >>> node, node.maybe_as_int(), node.is_symbolic()
        (3, 3, False)
    """

    def __init__(self, val: int) -> None:
        if type(val) is not int:
            raise SymfxError(f"a ConstantIntNode holds an int, not a {type(val).__name__}: {val!r}")
        self.val = val

    def __repr__(self) -> str:
        return str(self.val)

    _str = _graph_repr = __repr__

    def is_constant(self) -> bool:
        """True: the node holds its value."""
        return True

    is_int = is_constant

    def is_symbolic(self) -> bool:
        """False: a constant has no symbols."""
        return False

    is_float = is_bool = is_nested_int = is_symbolic

    def maybe_as_int(self) -> int:
        """The value."""
        return self.val

    constant_int = maybe_as_int

    def guard_int(self, file: str, line: int) -> int:
        """The value; a constant needs no guard."""
        return self.val

    def clone(self) -> ConstantIntNode:
        """The node itself: it never changes."""
        return self

    def add(self, other: Any) -> Any:
        """``self + other``."""
        return other.add(self)

    def sub(self, other: Any) -> Any:
        """``self - other``."""
        return other.neg().add(self)

    def mul(self, other: Any) -> Any:
        """``self * other``."""
        return other.mul(self)

    def eq(self, other: Any) -> Any:
        """``self == other``."""
        return other.eq(self)

    def ne(self, other: Any) -> Any:
        """``self != other``."""
        return other.ne(self)

    def lt(self, other: Any) -> Any:
        """``self < other``."""
        return other.gt(self)

    def le(self, other: Any) -> Any:
        """``self <= other``."""
        return other.ge(self)

    def gt(self, other: Any) -> Any:
        """``self > other``."""
        return other.lt(self)

    def ge(self, other: Any) -> Any:
        """``self >= other``."""
        return other.le(self)

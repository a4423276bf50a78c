"""z3's expressions as short text: ``(== s0 (idiv s1 2))``."""

from __future__ import annotations

from typing import Any

from symfx.errors import SymfxError
from symfx.extras import importing

with importing("z3", "symfx.validator"):
    import z3

__all__ = ["z3str"]

# z3 rewrites a != b as not(a == b), and a > b as not(a <= b).
_NEGATED = {z3.Z3_OP_EQ: "!=", z3.Z3_OP_LE: ">", z3.Z3_OP_GE: "<"}


def z3str(e: Any) -> str:
    """The text of a z3 expression, simplified, in prefix form and without casts.

    Example:
        >>> import z3
        >>> a, b = z3.Ints("a b")
        >>> z3str(z3.ToInt(z3.ToReal(a) / z3.ToReal(b)) > 3 + b)
        '(> (idiv a b) (+ 3 b))'
    """
    if not z3.is_expr(e):
        raise SymfxError(f"{e!r} is no expression of z3")
    return _text(z3.simplify(e))


def _text(e: Any) -> str:
    if not z3.is_app(e):
        raise SymfxError(f"{e} is a quantified expression of z3, which has no short text")
    if z3.is_int_value(e) or z3.is_rational_value(e):
        return str(e.as_string())
    kind = e.decl().kind()
    parts = e.children()
    if kind == z3.Z3_OP_UNINTERPRETED and not parts:
        return str(e)
    if kind in (z3.Z3_OP_TO_INT, z3.Z3_OP_TO_REAL):
        inner = _text(parts[0])
        # The floor of a quotient is the quotient of integers.
        return f"(idiv{inner[2:]}" if inner.startswith("(/") else inner
    name = "pow" if kind == z3.Z3_OP_POWER else str(e.decl())
    if kind == z3.Z3_OP_NOT and parts[0].decl().kind() in _NEGATED:
        name = _NEGATED[parts[0].decl().kind()]
        parts = parts[0].children()
    elif kind in (z3.Z3_OP_ADD, z3.Z3_OP_MUL):
        parts = _chain(e, kind)
    return f"({' '.join([name, *map(_text, parts)])})"


def _chain(e: Any, kind: int) -> list[Any]:
    """The operands of nested sums, or of nested products."""
    if e.decl().kind() != kind:
        return [e]
    return [part for child in e.children() for part in _chain(child, kind)]

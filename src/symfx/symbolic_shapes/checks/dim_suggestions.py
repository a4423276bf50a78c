"""Fixes of dynamic dimensions in the notation of ``torch.export``: ``dx = Dim('dx', max=20)``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import sympy

from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.size_solutions import SizeSolution

__all__ = ["LEAST_SIZE", "dim_text", "explain_forced", "given_dims", "is_as_given", "is_derivable",
           "is_number", "root_of", "through_root"]  # fmt: skip

LEAST_SIZE = 2
"""The least size that a suggestion mentions; every program is specialized on sizes 0 and 1."""


def given_dims(dynamic_shapes: Any) -> dict[str, Any]:
    """The dimensions that the user gave to ``torch.export``, by name."""
    if not dynamic_shapes:
        return {}
    from torch.export.dynamic_shapes import _get_dim_name_mapping

    return dict(_get_dim_name_mapping(dynamic_shapes))


def is_number(name: str) -> bool:
    """Whether the name of a dimension is a size, by which torch.export calls a fixed dimension."""
    return name.lstrip("-").isdecimal()


def is_derivable(size: sympy.Basic) -> bool:
    """Whether a `Dim` can be a size: a number, or one dimension times a number plus one."""
    if size.is_Integer or size.is_Symbol:
        return True
    numbers = [part for part in size.args if part.is_Integer]
    rest = [part for part in size.args if not part.is_Integer]
    plain = isinstance(size, (sympy.Add, sympy.Mul)) and len(numbers) == len(rest) == 1
    return plain and is_derivable(rest[0])


def root_of(name: str) -> tuple[str, int, int] | None:
    """The root, factor and summand of a derived dimension's name, such as ``2*dx + 1``.

    Returns:
        None for the name of a dimension that is not derived.
    """
    if name.isidentifier() or is_number(name):
        return None
    tree = ast.parse(name, mode="eval").body
    roots = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    summand = _linear_value(tree, 0)
    return min(roots), _linear_value(tree, 1) - summand, summand


def _linear_value(tree: ast.AST, root: int) -> int:
    """The value of sums and products of integers and a name, given the name's value `root`."""
    match tree:
        case ast.Name():
            return root
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_linear_value(inner, root)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _linear_value(left, root) + _linear_value(right, root)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _linear_value(left, root) - _linear_value(right, root)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _linear_value(left, root) * _linear_value(right, root)
    raise SymfxError(f"{ast.unparse(tree)!r} is no size derived from a dimension")


def through_root(root: tuple[str, int, int], solution: SizeSolution) -> SizeSolution | None:
    """The sizes that the root of a derived size may have; None where they are no range.

    Args:
        root: from `root_of`.
        solution: the sizes that the derived dimension may have.
    """
    _, factor, summand = root
    if solution.modulus > 1 or factor <= 0:
        return None
    low = None if solution.low is None else -((summand - solution.low) // factor)
    high = None if solution.high is None else (solution.high - summand) // factor
    return SizeSolution(low, high, 1, 0)


def is_as_given(solution: SizeSolution, dim: Any) -> bool:
    """Whether a range is the one that the user gave."""
    low = None if dim is None else max(LEAST_SIZE, getattr(dim, "min", 0))
    top = getattr(dim, "max", None)
    high = int(top) if isinstance(top, int) else None
    solved = max(LEAST_SIZE, solution.low or 0)
    return dim is not None and (solved, solution.high) == (low, high)


def dim_text(name: str, low: int | None, high: int | None, *, below: bool = False) -> str:
    """A line of Python that makes a dimension with a range.

    Args:
        name: its name; that of a new root begins with an underscore.
        low: its least size, None for no bound.
        high: its greatest size, None for no bound.
        below: whether sizes below the least one would make the derived size negative, which
            torch refuses unless the least size is stated.
    """
    usual = low == LEAST_SIZE and not below
    if name[0] != "_":
        usual = usual or (low is not None and low < LEAST_SIZE)
    bounds = [] if low is None or usual else [f"min={low}"]
    bounds += [] if high is None else [f"max={high}"]
    return f"{name} = Dim({', '.join([repr(name), *bounds])})"


def explain_forced(forced: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The dimensions that the program specialized although they were promised to vary, in words.

    Args:
        forced: from `DimConstraints.forced_specializations`.
        given: from `given_dims`.

    Returns:
        The explanation; empty where no dimension was specialized.
    """
    if not forced:
        return ""
    names = set()
    for key in forced:
        name = key.split(" = ")[0]
        root = getattr(given.get(name), "root", None)
        names.add(name if root is None else root.__name__)
    text = f"Specializations unexpectedly required ({', '.join(sorted(names))})!\n"
    for key, value in sorted(forced.items()):
        text += f"  - solving the guards generated for {key} resulted in a specialized value of "
        text += f"{value}.\n"
    return text

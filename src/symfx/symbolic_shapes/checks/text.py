"""Conditions on shapes as text: written as Python or C++ about the inputs, and evaluated again.

Text is checked before it is evaluated: it may contain numbers, comparisons, the sizes, strides and
offsets of the inputs, and a few functions. Text with any other construct is refused.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch.utils._sympy.printers import CppPrinter, PythonPrinter

from symfx.errors import SymfxError

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = [
    "Condition",
    "CppGuardPrinter",
    "DynamicDimConstraintPrinter",
    "LoggingShapeGuardPrinter",
    "ShapeGuardPythonPrinter",
    "SymExprPrinter",
    "_CppShapeGuardsHelper",
    "_ShapeGuardsHelper",
    "conditions_as_text",
    "run_guard_code",
]


class SymExprPrinter(PythonPrinter):
    """Sympy as Python, with floats in Python's notation."""

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))


class _FromSources:
    """Prints a symbol as the input that it stands for.

    Args:
        symbol_to_source: the inputs that each symbol stands for.
        source_ref: gives the text of an input.
        var_to_sources: the inputs of the symbols that `symbol_to_source` lacks.
    """

    def __init__(
        self,
        symbol_to_source: Mapping[sympy.Symbol, Sequence[Source]],
        source_ref: Callable[[Source], str],
        var_to_sources: Mapping[sympy.Symbol, Sequence[Source]],
    ) -> None:
        super().__init__()
        self.symbol_to_source = symbol_to_source
        self.source_ref = source_ref
        self.var_to_sources = var_to_sources

    def print_source(self, source: Source) -> str:
        """The text of an input."""
        return self.source_ref(source)

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        sources = self.symbol_to_source.get(expr) or self.var_to_sources.get(expr)
        if not sources:
            raise SymfxError(
                f"no input has the size {expr}, so no check of the inputs can be about it",
                fix="pass every tensor that was made symbolic as a placeholder",
            )
        return self.print_source(sources[0])


class ShapeGuardPythonPrinter(_FromSources, PythonPrinter):
    """Sympy as Python, in which inputs stand for symbols."""

    def doprint(self, expr: sympy.Basic) -> str:
        """An expression as Python."""
        return str(PythonPrinter.doprint(self, expr))


class LoggingShapeGuardPrinter(ShapeGuardPythonPrinter):
    """`ShapeGuardPythonPrinter` with the names of the sources.

    Args:
        var_to_sources: the inputs that each symbol stands for.
    """

    def __init__(self, var_to_sources: Mapping[sympy.Symbol, Sequence[Source]]) -> None:
        super().__init__(var_to_sources, lambda source: source.name, var_to_sources)


class CppGuardPrinter(_FromSources, CppPrinter):
    """Sympy as C++, in which a variable stands for each input.

    Attributes:
        source_to_symbol: the variable of each input that was printed.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.source_to_symbol: dict[Source, sympy.Symbol] = {}

    def print_source(self, source: Source) -> str:
        """The variable of an input."""
        known = self.source_to_symbol.get(source)
        if known is None:
            plain = re.sub(r"\W+", "_", source.name, flags=re.ASCII)
            taken = {symbol.name for symbol in self.source_to_symbol.values()}
            name, n = plain, 0
            while name in taken:
                name, n = f"{plain}_{n}", n + 1
            known = self.source_to_symbol[source] = sympy.Symbol(name)
        return str(known.name)

    def doprint(self, expr: sympy.Basic) -> str:
        """An expression as C++."""
        return str(CppPrinter.doprint(self, expr))


class DynamicDimConstraintPrinter(PythonPrinter):
    """Sympy as Python, in which the first input stands for each symbol.

    Args:
        symbol_to_source: the inputs that each symbol stands for.
        source_name_to_debug_name: the names of inputs in messages.
    """

    def __init__(
        self,
        symbol_to_source: dict[sympy.Symbol, list[Source]],
        source_name_to_debug_name: Mapping[str, str],
    ) -> None:
        self.source_name_to_debug_name = source_name_to_debug_name
        self.symbol_to_source = symbol_to_source
        super().__init__()

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        sources = self.symbol_to_source.get(expr)
        # torch's callers expect an AssertionError here.
        if not sources:
            raise AssertionError(f"Unknown symbol {expr} created by constraints solver")
        return sources[0].name


@dataclass(frozen=True)
class _ShapeGuardsHelper:
    """Conditions on the inputs in one language.

    Attributes:
        exprs: the conditions.
    """

    exprs: list[str]


@dataclass(frozen=True)
class _CppShapeGuardsHelper(_ShapeGuardsHelper):
    """Conditions in C++.

    Attributes:
        source_to_symbol: the variable of each input that occurs in them.
    """

    source_to_symbol: dict[Any, sympy.Symbol]


@dataclass(frozen=True)
class Condition:
    """One check of the inputs.

    Attributes:
        expr: a sympy condition; where `source` is given, the expression that the source equals.
        comment: the cause of the check.
        source: the input that equals `expr`.
    """

    expr: sympy.Basic
    comment: str
    source: Source | None = None


def conditions_as_text(
    lang: str,
    conditions: Sequence[Condition],
    symbol_to_source: Mapping[sympy.Symbol, Sequence[Source]],
    source_ref: Callable[[Source], str],
    var_to_sources: Mapping[sympy.Symbol, Sequence[Source]],
) -> _ShapeGuardsHelper:
    """The checks of the inputs in one language.

    Args:
        lang: ``"python"``, ``"verbose_python"`` (with the cause of each check) or ``"cpp"``.
        conditions: the checks.
        symbol_to_source: the inputs that each symbol stands for.
        source_ref: how an input is written.
        var_to_sources: the inputs of the symbols that `symbol_to_source` lacks.

    Raises:
        SymfxError: the language is unknown, or a symbol has no input.
    """
    if lang not in ("python", "verbose_python", "cpp"):
        raise SymfxError(
            f"{lang!r} is no language of checks", fix="use python, verbose_python or cpp"
        )
    printer: Any = (CppGuardPrinter if lang == "cpp" else ShapeGuardPythonPrinter)(
        symbol_to_source, source_ref, var_to_sources
    )
    texts = []
    for condition in conditions:
        if condition.source is not None:
            text = f"{printer.print_source(condition.source)} == {printer.doprint(condition.expr)}"
        elif getattr(condition.expr.func, "__name__", "") == "isnan":
            isnan = "!std::isnan" if lang == "cpp" else "not math.isnan"
            text = f"{isnan}({printer.doprint(condition.expr.args[0])})"
        else:
            chain = _as_chain(condition.expr, printer) if lang == "verbose_python" else None
            text = chain or printer.doprint(condition.expr)
        texts.append(f"{text}  # {condition.comment}" if lang == "verbose_python" else text)
    if lang == "cpp":
        return _CppShapeGuardsHelper(texts, printer.source_to_symbol)
    return _ShapeGuardsHelper(texts)


def _as_chain(expr: sympy.Basic, printer: Any) -> str | None:
    """Both bounds of one number as ``2 <= n <= 4``, as torch's logs have them; None for others."""
    if not isinstance(expr, sympy.And) or len(expr.args) != 2:
        return None
    ends = {part.args for part in expr.args if isinstance(part, sympy.Le)}
    low = [(least, number) for least, number in ends if least.is_number]
    high = [(number, most) for number, most in ends if most.is_number]
    if len(low) != 1 or len(high) != 1 or low[0][1] != high[0][0]:
        return None
    return " <= ".join(map(printer.doprint, (*low[0], high[0][1])))


# -- evaluating text -------------------------------------------------------------------------------

_EXPRESSIONS = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd,
    ast.Invert, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
    ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor, ast.Compare, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.IfExp, ast.Constant, ast.Name, ast.Load, ast.Subscript,
    ast.Attribute, ast.Call,
)  # fmt: skip
_MEASURES = frozenset(("size", "stride", "storage_offset"))
_TORCH_FUNCTIONS = frozenset(name for name in dir(torch) if name.startswith(("sym_", "_sym_")))
_MATH_FUNCTIONS = frozenset(name for name in dir(math) if not name.startswith("_"))
_FUNCTIONS: dict[str, Any] = {
    "max": max, "min": min, "abs": abs, "round": round, "int": int, "float": float, "bool": bool,
    "math": math, "torch": torch, "inf": math.inf, "nan": math.nan,
}  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _checked(code: str, names: frozenset[str]) -> CodeType:
    """The compiled expression, after a check that it contains only permitted constructs."""
    try:
        tree = ast.parse(code, mode="eval")
    except SyntaxError as error:
        raise SymfxError(f"{code!r} is not a Python expression: {error}") from None

    def refuse(node: ast.AST, why: str) -> None:
        raise SymfxError(f"`{ast.unparse(node)}` in a guard is refused: {why}")

    for node in ast.walk(tree):
        if not isinstance(node, _EXPRESSIONS):
            refuse(node, f"guards do not use {type(node).__name__}")
        if isinstance(node, ast.Name) and node.id not in names:
            refuse(node, "the name is neither an input nor a function that guards use")
        if isinstance(node, ast.Attribute):
            base = node.value
            module = base.id if isinstance(base, ast.Name) else None
            allowed = {"math": _MATH_FUNCTIONS, "torch": _TORCH_FUNCTIONS}.get(
                module or "", _MEASURES
            )
            if node.attr not in allowed:
                refuse(node, "guards read sizes, strides and storage offsets only")
        if isinstance(node, ast.Call) and (
            node.keywords or not isinstance(node.func, (ast.Name, ast.Attribute))
        ):
            refuse(node, "guards call functions by name, without keywords")
    return compile(tree, "<guards>", "eval")


def run_guard_code(
    code: str, values: Mapping[str, Any], functions: Mapping[str, Any] | None = None
) -> Any:
    """The value of an expression that `produce_guards` or a printer wrote.

    Args:
        code: the expression.
        values: the value of each name in it.
        functions: further functions, by name.

    Raises:
        SymfxError: the expression contains a construct that guards do not use.
    """
    known = {**_FUNCTIONS, **(functions or {}), **values}
    checked = _checked(code, frozenset(known))
    return eval(checked, {"__builtins__": {}}, known)

"""A validator of one's own: whether target conditions imply source conditions, asked of z3."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch import fx
from torch.utils._sympy.interp import sympy_interp

from symfx import config
from symfx.errors import SymfxError
from symfx.extras import importing
from symfx.symbolic_shapes import ValidationError
from symfx.validator.operations import PythonOnZ3, real, whole, z3op
from symfx.validator.text import z3str

with importing("z3", "symfx.validator"):
    import z3

__all__ = [
    "PopulateValidator",
    "SympyToZ3",
    "TranslationValidator",
    "translation_validation_enabled",
    "translation_validation_timeout",
]

log = logging.getLogger("symfx.validator")


def translation_validation_enabled() -> bool:
    """Whether new environments validate their checks: the switch ``translation_validation``."""
    return config.translation_validation


def translation_validation_timeout() -> int:
    """The milliseconds that z3 may take: the switch ``translation_validation_timeout``."""
    return config.translation_validation_timeout


class SympyToZ3:
    """Translates sympy's expressions into z3's.

    Args:
        validator: has the z3 variables of the symbols, and takes the requirements of operations,
            such as that a divisor is not 0.

    Example:
        >>> import sympy, z3
        >>> validator = TranslationValidator(); s0 = sympy.Symbol("s0", integer=True)
        >>> _ = validator.add_var(s0, int)
        >>> SympyToZ3(validator).run(s0 * 2 + 1)
        1 + 2*s0
    """

    def __init__(self, validator: TranslationValidator) -> None:
        self._validator = validator
        python = PythonOnZ3(validator.add_assertion)
        self._operations: dict[str, Callable[..., Any]] = {
            **{n: getattr(operator, n) for n in ("add", "mul", "eq", "ne", "lt", "gt", "le", "ge")},
            "and_": z3.And,
            "or_": z3.Or,
            "not_": z3.Not,
            "where": z3.If,
            "modular_indexing": lambda a, b, c: python.mod(python.floordiv(a, b), c),
            "minimum": python.least,
            "maximum": python.largest,
            "div": python.floordiv,
            "floordiv": python.floordiv,
            "int_truediv": python.truediv,
            "truediv": python.truediv,
            "mod": python.mod,
            "python_mod": python.mod,
            "pow": python.power,
            "pow_by_natural": python.power,
            "sqrt": python.sqrt,
            "abs": z3.Abs,
            "floor": whole,
            "ceil": python.ceil,
            **{
                f"bitwise_{name}": functools.partial(python.bits, getattr(operator, f"{name}_"))
                for name in ("and", "or")
            },
            "lshift": functools.partial(python.bits, operator.lshift),
            "rshift": functools.partial(python.bits, operator.rshift),
            # torch's interpreter passes the type of the result too.
            "to_dtype": self._cast,
            "floor_to_int": lambda x, dtype: whole(x),
            "ceil_to_int": lambda x, dtype: python.ceil(x),
            "trunc_to_int": lambda x, dtype: python.trunc(x),
            "round_to_int": lambda x, dtype: python.round(x),
        }

    def constant(self, value: Any, dtype: torch.dtype) -> Any:
        """A number as a z3 value."""
        if dtype is torch.bool:
            return z3.BoolVal(bool(value))
        return z3.RealVal(float(value)) if dtype is torch.double else z3.IntVal(int(value))

    def _cast(self, x: Any, dtype: torch.dtype) -> Any:
        if dtype is not torch.float64:
            raise SymfxError(f"z3 has no numbers like those of {dtype}")
        return real(x)

    def __getattr__(self, name: str) -> Any:
        # torch's interpreter of sympy asks for each operation by name.
        if name.startswith("__") or name not in self._operations:
            raise AttributeError(f"sympy's {name} has no counterpart in z3")
        return self._operations[name]

    def run(self, expr: sympy.Basic) -> Any:
        """The expression in z3.

        Raises:
            SymfxError: a symbol has no variable, or an operation no counterpart.
        """
        try:
            return sympy_interp(self, self._validator.symbols, expr)
        except KeyError as error:
            raise self._validator.unknown(error.args[0]) from None
        except AttributeError as error:
            raise SymfxError(f"{expr}: {error}") from None


class TranslationValidator:
    """Whether the target conditions, which a program checks, imply the source conditions.

    `symfx.symbolic_shapes.ShapeEnv` has a validator inside, which checks every guard that it
    issues. This class is for conditions of one's own.

    Attributes:
        symbols: the z3 variable of each symbol.

    Example:
        >>> import sympy
        >>> validator = TranslationValidator(); s0 = sympy.Symbol("s0", integer=True)
        >>> n = validator.add_var(s0, int)
        >>> validator.add_target_expr(s0 > 5); validator.add_source_expr(n > 3)
        >>> validator.validate()
        >>> validator.add_source_expr(n > 9)
        >>> validator.validate()
        Traceback (most recent call last):
        ...
        symfx.symbolic_shapes.checks.validation.ValidationError: ...s0 = 6...
    """

    def __init__(self) -> None:
        self.symbols: dict[sympy.Symbol, Any] = {}
        # z3's expressions hash by structure; dicts keep their order.
        self._source_exprs: dict[Any, None] = {}
        self._target_exprs: dict[Any, None] = {}
        self._assertions: dict[Any, None] = {}

    def unknown(self, symbol: Any) -> SymfxError:
        """The error that a symbol has no variable."""
        return SymfxError(f"{symbol} has no variable in z3", fix="add_var(symbol, int) makes one")

    def z3var(self, symbol: sympy.Symbol) -> Any:
        """The variable of a symbol."""
        if symbol not in self.symbols:
            raise self.unknown(symbol)
        return self.symbols[symbol]

    def add_var(self, symbol: sympy.Symbol, type: type) -> Any:
        """The variable of a symbol, made if it has none; a positive symbol's is above 0.

        Args:
            symbol: the symbol.
            type: int, float or bool.
        """
        if symbol not in self.symbols:
            make = {int: z3.Int, float: z3.Real, bool: z3.Bool}.get(type)
            if make is None:
                raise SymfxError(f"z3 has no variables of type {type!r}", fix="int, float or bool")
            variable = self.symbols[symbol] = make(symbol.name)
            if type is int and symbol.is_positive:
                self._target_exprs[variable > 0] = None
        return self.symbols[symbol]

    def to_z3_boolean_expr(self, e: sympy.Basic) -> Any:
        """A condition of sympy in z3."""
        condition = SympyToZ3(self).run(e)
        if not z3.is_bool(condition):
            raise SymfxError(f"{e} is no condition")
        return condition

    def add_source_expr(self, e: Any) -> None:
        """Add a condition of z3 that the others have to imply."""
        self._source_exprs[e] = None

    def add_target_expr(self, e: sympy.Basic) -> None:
        """Add a condition of sympy that the program checks."""
        self._target_exprs[self.to_z3_boolean_expr(e)] = None

    def add_assertion(self, e: Any) -> None:
        """Add a condition, of z3 or sympy, that holds in any case."""
        condition = self.to_z3_boolean_expr(e) if isinstance(e, sympy.Basic) else e
        if not z3.is_bool(condition):
            raise SymfxError(f"{e} is no condition")
        self._assertions[condition] = None

    def validate(self) -> None:
        """Ask z3 whether the target conditions imply the source conditions.

        Where z3 finds no answer in time, that is logged.

        Raises:
            ValidationException: they do not; it has the values for which they do not.
        """
        if not self._source_exprs or not self._target_exprs:
            return
        solver = z3.SolverFor("QF_NRA")
        solver.set(timeout=translation_validation_timeout())
        solver.add(*self._assertions, *self._target_exprs)
        solver.add(z3.Not(z3.And(*self._source_exprs)))
        answer = solver.check()
        if answer == z3.unknown:
            log.warning("translation validation: z3 came to no answer")
        if answer != z3.sat:
            return
        model = solver.model()
        raise ValidationError(
            {str(variable): str(model[variable]) for variable in model},
            [z3str(e) for e in self._source_exprs if z3.is_false(model.evaluate(e, True))],
            fix="the checks let in inputs for which the program is wrong: add a check, or drop "
            "what the program relies on",
        )


class PopulateValidator(fx.Interpreter):
    """Gives a validator the conditions that a graph of numbers asserts, as source conditions.

    Args:
        graph: its placeholders have the sympy symbol in ``meta["symbol"]``.
        validator: has a variable for each of these symbols.
    """

    def __init__(self, graph: fx.Graph, validator: TranslationValidator) -> None:
        super().__init__(fx.GraphModule({}, graph))
        self.validator = validator

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node in z3; that of a placeholder is the variable of its symbol."""
        if n.op == "placeholder":
            return self.validator.z3var(n.meta["symbol"])
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """An operation on z3's numbers; an assertion goes to the validator."""
        if target is torch._assert:
            self.validator.add_source_expr(args[0])
            return None
        return z3op(target, self.validator)(*args, **kwargs)

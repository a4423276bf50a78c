"""Terms as sympy expressions, and sympy expressions as terms.

torch's internals read shapes as sympy; symfx thinks in terms. `to_sympy` shows a term in the
vocabulary that torch's own tools know (``FloorDiv``, ``PythonMod``, ``Max``, …), `SympyReader`
reads such expressions back. No other module of the algebra imports sympy, and a term is converted
only when its sympy is asked for.

The view is built unevaluated wherever sympy's or torch's automatic evaluation could change a
value: ``FloorDiv(FloorDiv(a, b), c)`` evaluates to ``FloorDiv(a, b*c)``, wrong for ``c < 0``;
``PythonMod(p, q)`` with ``p < q < 0`` to ``p``; sums of doubles reassociate. Terms are in
normal form already, so that evaluating them would find little and cost much.

sympy has no negative zero, and its real symbols are never NaN. Integers, conditions and finite
doubles keep their exact value in both directions.
"""

from symfx.algebra.languages.sympy.functions import register_function
from symfx.algebra.languages.sympy.reader import SympyReader, SympyReadError
from symfx.algebra.languages.sympy.writer import to_sympy

__all__ = ["SympyReadError", "SympyReader", "register_function", "to_sympy"]

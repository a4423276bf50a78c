"""A question about data in the words of torch's own error, which programs and their tests read."""

from __future__ import annotations

import traceback
from collections.abc import Set

import sympy

from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.torch_bridge.interpreted_lines import interpreted_stack
from symfx.torch_bridge.structured_trace import trace_event

__all__ = ["in_torchs_words"]

_APIS = (
    "consider using data-dependent friendly APIs such as guard_or_false, guard_or_true and "
    "statically_known_true."
)


def in_torchs_words(
    condition: sympy.Basic, sort: str, size_like: Set[sympy.Symbol], provenance: Provenance
) -> list[str]:
    """The lines of torch's error about a question, which goes into torch's structured trace too.

    Args:
        condition: the expression whose value is open.
        sort: ``bool``, ``int`` or ``real``.
        size_like: the symbols that stand for sizes.
        provenance: the line of the user's program that asks.
    """
    question = f"{condition} (unhinted: {condition})"
    symbols = sorted(condition.free_symbols, key=str)
    if sort == "bool":
        begin, apis = "Could not guard on data-dependent expression", _APIS
    else:
        kind = "integer" if sort == "int" else "float"
        begin, apis = f"Could not extract specialized {kind} from data-dependent expression", ""
    trace_event(
        "guard_on_data_dependent_error",
        provenance.summary,
        lambda: {"expr": repr(condition), "unhinted_expr": repr(condition), "expr_id": None},
        detailed=True,
    )
    sizes = ", ".join(str(s) for s in symbols if s in size_like) or "none"
    names = ",".join(map(str, symbols))
    lines = [
        "In torch's words:",
        f"{begin} {question}.  (Size-like symbols: {sizes})",
        "",
        apis,
        f"Caused by: {provenance.in_torchs_words()}",
        'For more information, run with TORCH_LOGS="dynamic"',
        "For extended logs when we create symbols, also add "
        f'TORCHDYNAMO_EXTENDED_DEBUG_CREATE_SYMBOL="{names}"',
        "If you suspect the guard was triggered from C++, add TORCHDYNAMO_EXTENDED_DEBUG_CPP=1",
    ]
    stack = interpreted_stack()
    if stack:
        lines += ["", "User Stack (most recent call last):"]
        lines += "".join(traceback.format_list(stack)).splitlines()
    return lines

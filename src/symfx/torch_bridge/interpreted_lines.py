"""The line and the variables of the program that Dynamo interprets, which runs in no frame."""

from __future__ import annotations

from typing import Any

from torch._guards import TracingContext

__all__ = ["interpreted_lines", "interpreted_variables"]


def interpreted_lines() -> list[tuple[str, int, str]]:
    """The calls in the program that Dynamo interprets, the innermost last.

    Returns:
        File, line and function of each; an empty list where Dynamo interprets no program.
    """
    context = TracingContext.try_get()
    if context is None or context.loc_in_frame is None:
        return []
    around = [
        (frame.filename, frame.lineno or 0, frame.name) for frame in context.frame_summary_stack
    ]
    return [*around, context.loc_in_frame]


def interpreted_variables() -> dict[str, Any]:
    """The local variables that hold symbolic numbers or tensors, by name, each as its fake value.

    Empty where Dynamo interprets no program, and where it interprets a function that the compiled
    one calls: Dynamo shows only the variables of the compiled function.
    """
    if len(interpreted_lines()) != 1:
        return {}
    from torch._dynamo.symbolic_convert import InstructionTranslator
    from torch._dynamo.variables.tensor import SymNodeVariable, TensorVariable

    try:
        translator = InstructionTranslator.current_tx()
    except AttributeError:  # an exported graph is run again, by no translator
        return {}
    found: dict[str, Any] = {}
    for name, variable in translator.symbolic_locals.items():
        # By type: isinstance has Dynamo look at a variable that it has not looked at yet, which
        # may add a guard.
        known: Any = variable.unwrap()
        if issubclass(type(known), SymNodeVariable):
            found[name] = known.sym_num
        elif issubclass(type(known), TensorVariable):
            value = known.proxy.node.meta.get("example_value")
            if value is not None:
                found[name] = value
    return found

"""What `symfx.trace` refuses: unknown arguments, models that are not ready, pinned dimensions."""

from __future__ import annotations

import difflib
import inspect
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from symfx.errors import SpecError, TracingError, describe
from symfx.torch_bridge.modules import named_state, registered_modules
from symfx.tracing.arguments import Layout
from symfx.tracing.model_state import module_of
from symfx.tracing.pin_advice import advice_for, pin_advice
from symfx.tracing.traced_model import TracedModel, name_of
from symfx.user_code import raised_at, user_line_of_trace, where

__all__ = [
    "refuse_fake_constants",
    "refuse_nested",
    "refuse_pins",
    "refuse_unknown",
    "refuse_unready",
    "unfit_output",
    "untraceable",
]

#: Python names these types where a function of a library takes no symbolic number.
_SYMBOLS = r"\bSym(Int|Float|Bool)\b|\bnumpy\.object_|\bRational instances"
_ARGUMENTS = ("model", "args", "kwargs", "dynamic", "where", "strict")


def refuse_unknown(unknown: Mapping[str, object]) -> None:
    """Refuse keyword arguments that `symfx.trace` does not have.

    Raises:
        SpecError: there is one.
    """
    for name in unknown:
        near = difflib.get_close_matches(name, _ARGUMENTS, n=1)
        fix = f"did you mean {near[0]}?" if near else f"its arguments are {', '.join(_ARGUMENTS)}"
        if name == "dynamic_shapes":
            fix = (
                'name the sizes in dynamic=, such as dynamic={"x": ("batch", None)}: a name or a '
                "symfx.Dim for each dimension that changes, None for each that does not"
            )
        raise SpecError(
            f"symfx.trace has no argument {name}",
            where=f"symfx.trace({name}=...)",
            fix=f"{fix}; arguments of the model go into kwargs={{...}}",
        )


def refuse_unready(model: Callable[..., Any]) -> None:
    """Refuse what is no model, a compiled model, and one whose parameters have no shape yet.

    Raises:
        SpecError: the object cannot be called, or is a class.
        TracingError: the model is not ready.
    """
    if not callable(model):
        raise SpecError(f"{describe(model)} cannot be called", fix="pass a module or a function")
    if inspect.isclass(model) and issubclass(model, torch.nn.Module):
        raise SpecError(
            f"{model.__name__} is a class, and only an instance of it can be traced",
            where="symfx.trace(model)",
            fix=f"make one: {model.__name__}(...)",
        )
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise TracingError(
            f"{name_of(model)} is compiled by TorchScript",
            fix="pass the module or function that was compiled",
        )
    module = module_of(model)
    is_lazy: Any = torch.nn.parameter.is_lazy
    if module is None or not any(
        is_lazy(parameter)
        for part in registered_modules(module)
        if part._parameters
        for parameter in part._parameters.values()
    ):
        return
    for name, parameter in named_state(module)[0].items():
        if is_lazy(parameter):
            raise TracingError(
                f"the parameter {name} has no shape yet",
                fix="call the model once on the example inputs: a lazy module makes its parameters "
                "at its first call",
            )


def refuse_nested(layout: Layout) -> None:
    """Refuse nested tensors among the inputs whose parts are not dense tensors.

    Raises:
        TracingError: there is one.
    """
    for leaf in layout.leaves:
        if isinstance(leaf.example, torch.Tensor) and leaf.example.is_nested:
            raise TracingError(
                f"{leaf.path} is a nested tensor of the layout {leaf.example.layout}, and "
                "symfx.trace takes nested tensors of the layout torch.jagged without gaps",
                where="symfx.trace(args)",
                fix="make it by torch.nested.nested_tensor(..., layout=torch.jagged)",
            )


def unfit_output(model: Callable[..., Any], output: object) -> TracingError:
    """The error about an output that a graph cannot hold."""
    name, kind = name_of(model), type(output).__name__
    fix = (
        "return tensors, numbers, and lists, tuples and dicts of them, or register the class by "
        "torch.utils._pytree.register_pytree_node"
    )
    if isinstance(output, torch.nn.Module):
        fix = f"{name} makes a model: trace what it returns, {name}()"
    elif kind.endswith("Cache"):
        fix = "call the model with use_cache=False: the keys and values of a cache are no output"
    return TracingError(f"{name} returns a {kind}, which a graph cannot hold", fix=fix)


def untraceable(name: str, error: Exception) -> TracingError:
    """The error about a program that raised an exception while it was traced.

    Args:
        name: the name of the model.
        error: the exception.
    """
    place = raised_at(error)
    fix = (
        "call the model itself on these inputs: if that fails too, correct the inputs "
        "or the model; if not, this line has an effect that a graph cannot hold"
    )
    if ".numpy()" in str(error):
        fix = "compute with torch's functions instead of NumPy's, whose results no graph can follow"
    elif isinstance(error, TypeError) and place is not None and re.search(_SYMBOLS, str(error)):
        fix = pin_advice(place.line)
    return TracingError(
        f"{name} cannot be traced: {_first_lines(error)}", where=where(error), fix=fix
    )


def _first_lines(error: Exception) -> str:
    """The type of an exception and the first three lines of its message, on one line."""
    # torch's C++ adds where it raised the exception, and the stack.
    text = str(error).partition("Exception raised from")[0].strip() or type(error).__name__
    lines = [line for line in text.splitlines() if line.strip()]
    shown = " ".join(line.strip() for line in lines[:3])
    return shown if type(error) is RuntimeError else f"{type(error).__name__}: {shown}"


def refuse_fake_constants(name: str, graph_module: torch.fx.GraphModule) -> None:
    """Refuse a graph that holds a tensor without data.

    Such a tensor is a gradient that a parameter had before the trace: the parameter's stand-in has
    a stand-in of it, which is no input of the graph.

    Args:
        name: the name of the model.
        graph_module: the traced graph.

    Raises:
        TracingError: it holds one.
    """
    for node in graph_module.graph.find_nodes(op="get_attr"):
        held = operator.attrgetter(str(node.target))(graph_module)
        if isinstance(held, FakeTensor):
            raise TracingError(
                f"{name} uses a gradient that a parameter or an input had before the trace, "
                f"{describe(held)}, and a graph cannot hold it",
                where=user_line_of_trace(node.stack_trace) if node.stack_trace else None,
                fix="set the gradients to None before tracing (model.zero_grad())",
            )


def refuse_pins(trace: TracedModel, promised: Collection[str]) -> None:
    """Refuse a trace whose program pinned a dimension that is to be dynamic.

    Args:
        trace: the trace.
        promised: the dimensions and ints that have to stay dynamic, in words.

    Raises:
        TracingError: the program pinned one of them.
    """
    sources = {info.name: info.sources for info in trace.shape_env.symbol_table()}
    pins = []
    names = []
    for record in trace.specializations:
        numbers = map(trace.admission.number_at, sources.get(record.symbol_name, ()))
        places = [str(number) for number in numbers if number is not None]
        broken = [place for place in places if place in promised]
        if broken:
            names.append(record.symbol_name)
            name = "" if record.symbol_name == broken[0] else f"{record.symbol_name}, "
            guards = [
                str(g.term)
                for g in trace.guards
                if g.provenance == record.provenance
                and record.symbol_name in map(str, g.term.free_symbols)
            ]
            needs = f" (the guard is {guards[-1]})" if guards else ""
            pins.append((f"{name}{broken[0]}, to {record.value}{needs}", record.provenance))
    if not pins:
        return
    lines = dict.fromkeys(str(provenance).removeprefix("at ") for _, provenance in pins)
    error = TracingError(
        f"{trace.name} specializes a size that is to be dynamic: "
        f"{'; '.join(words for words, _ in pins)}",
        where="; ".join(lines),
        fix=f"{advice_for(pins[0][1])}, or make the dimension static (None in dynamic); "
        "strict=False, or --allow-pinned on the command line, accepts a graph for this size alone",
    )
    error.refused = (trace, tuple(names))
    raise error

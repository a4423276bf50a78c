"""The functions that nodes of a traced graph call, by name: operators, and functions of numbers.

A name is looked up among functions that are there already: no module is imported, and no function
is called. A name that stands for none of them is refused.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection
from typing import Any

import torch

from symfx.errors import TraceFileError
from symfx.untrusted import Item, is_identifier, shown

__all__ = ["function_named", "name_of_function"]

#: The libraries of operators that come with torch, and that a graph of symfx may call.
LIBRARIES = frozenset({"aten", "prims", "quantized_decomposed", "higher_order"})

#: Operators of torch that a file may not name: those that read files or the memory of other
#: tensors, and those that take the word of their caller for what they do not check, such as
#: indices of sparse tensors or packed weights.
_REFUSED = re.compile(
    r"from_file|set_|set_data|record_stream|retain_grad|_backward|resize_as_sparse_|"
    r".*_unsafe(_symint)?|_?(fbgemm|cudnn|miopen|mkldnn|nnpack|mps|vulkan)_(?!rnn_layer).*|"
    r"_nested_.*|"
    r"_(make|empty)_.*quantized.*|_(use|has|get)_.*|_cuda_.*|_coalesced_|_indices|_weight_int.*|"
    r"_wrapped_.*|_lazy_.*|_pin_memory|_choose_qparams.*|is_pinned|pin_memory|_foreach_.*_slow"
)

#: The functions of Python's `operator` that compute with symbolic numbers, and `getitem`.
_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs")
_BITS = ("and_", "or_", "xor", "not_", "invert", "lshift", "rshift")
_OPERATOR = frozenset([*_ARITHMETIC, *_BITS, "eq", "ne", "lt", "le", "gt", "ge", "getitem"])
#: The functions of Python's `math` that a graph calls on symbolic numbers.
_MATH = frozenset(
    name
    for name in vars(math)
    if not name.startswith("_") and name not in ("comb", "factorial", "perm", "prod", "dist")
)


def _functions_of_torch() -> dict[str, Any]:
    """torch's functions of symbolic numbers."""
    return {
        f"torch.{name}": function
        for name, function in vars(torch).items()
        if name.startswith(("sym_", "_sym_")) and callable(function)
    }


_NAMED: dict[str, Callable[..., Any]] = {
    **{f"operator.{name}": getattr(operator, name) for name in sorted(_OPERATOR)},
    **{
        f"math.{name}": function
        for name, function in vars(math).items()
        if name in _MATH and callable(function)
    },
    **_functions_of_torch(),
}
_NAME_OF = {id(function): name for name, function in reversed(_NAMED.items())}


def name_of_function(function: Any, where: str) -> str:
    """The name of a node's function in a file, such as ``aten.add.Tensor``.

    Args:
        function: the function.
        where: the name of the node, for the message.

    Raises:
        TraceFileError: the function is none that a file can name.
    """
    if isinstance(function, torch._ops.HigherOrderOperator):
        return f"higher_order.{function._name}"
    if isinstance(function, torch._ops.OpOverload):
        why = _why_refused(function)
        if why is None:
            return f"{function.namespace}.{function._opname}.{function._overloadname}"
        raise TraceFileError(f"{where} calls {function}, {why}")
    name = _NAME_OF.get(id(function))
    if name is None:
        raise TraceFileError(
            f"{where} calls {getattr(function, '__name__', function)!s:.100}, which is no operator",
            fix="a file holds calls of torch's operators and of Python's arithmetic: make the "
            "function an operator by torch.library.custom_op",
        )
    return name


def function_named(item: Item, libraries: Collection[str] = ()) -> Any:
    """The function whose name `name_of_function` returned.

    Args:
        item: the name.
        libraries: the libraries of operators beside torch's that the caller of `symfx.load` allows.
    """
    name = item.text(300)
    if name in _NAMED:
        return _NAMED[name]
    library, _, rest = name.partition(".")
    if not is_identifier(library) or library.startswith("_"):
        raise item.refusal(f"there is no function {shown(name)}")
    if library not in LIBRARIES and library not in libraries:
        raise item.refusal(
            f"the graph calls {shown(name)}, an operator of the library {library}",
            fix=f"if you trust the library, import it and load with libraries=[{library!r}]",
        )
    if library == "higher_order":
        found = _registered(torch.ops.higher_order, rest)
        if isinstance(found, torch._ops.HigherOrderOperator):
            return found
        raise item.refusal(f"this torch has no operator {shown(name)}", fix=_OTHER_TORCH)
    called, _, overload = rest.partition(".")
    packet = _registered(getattr(torch.ops, library), called)
    function = _registered(packet, overload) if packet is not None else None
    if not isinstance(function, torch._ops.OpOverload):
        fix = _OTHER_TORCH if library in LIBRARIES else f"import the library {library} before"
        raise item.refusal(f"this torch has no operator {shown(name)}", fix=fix)
    why = _why_refused(function)
    if why is not None:
        raise item.refusal(f"the graph calls {shown(name)}, {why}")
    return function


#: The operators whose names are those of methods of Python.
_UNDERSCORED = frozenset(f"__{name}__" for name in ("and", "or", "xor", "lshift", "rshift"))
_OTHER_TORCH = "load it with the release of torch that wrote it, or trace again"


def _registered(owner: Any, name: str) -> Any:
    """The operator that a library has, or the overload that an operator has; otherwise None."""
    plain = is_identifier(name) and not name.startswith("__")
    return getattr(owner, name, None) if plain or name in _UNDERSCORED else None


def _why_refused(function: torch._ops.OpOverload) -> str | None:
    """The reason why a file may not name an operator, as a clause; None if it may."""
    if function.namespace == "aten" and _REFUSED.fullmatch(function._opname):
        return "which relies on its caller for the safety of memory or reads files"
    kinds = [str(argument.type) for argument in function._schema.arguments]
    if any("Storage" in kind or "Stream" in kind or "__torch__" in kind for kind in kinds):
        return "which takes more than tensors and numbers"
    return None

"""A run of a program at sizes that satisfy all conditions, for what shapes cannot tell.

The shapes of a program tell nothing about layouts: ``x.permute(0, 2, 1).view(n, -1)`` has the right
number of elements and fails in eager. Nor do they tell that a function gets ``None`` or a packed
sequence, or that an operator without a shape rule does not take its arguments. So the program runs
in eager. It may also fail since its inputs are arbitrary numbers; that is no fault of the program.
Kernels of the meta device see no numbers, so a failure counts if it happens there too. It also
counts if its message is about dtypes, which that device checks less.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from symfx.shape_rules.element_types import AUTOCAST
from symfx.shape_rules.program_lines import program_line
from symfx.shape_rules.sizes import Shape
from symfx.static_migration.conditions import InputType
from symfx.static_migration.eager_runs import PROGRAM_ERRORS, has_lazy_weights, raised_by_user
from symfx.static_migration.printing import input_name, place_of

__all__ = ["Failure", "failure_at"]

#: What torch says of a view that the layout does not allow.
_REASONS = ("view size is not compatible", "must be 1 to view", "must be divisible by")
#: The names of the operators that can fail so.
_VIEWS = frozenset({"view", "view_as", "unflatten"})
#: Programs with larger inputs are not tried in eager.
_LARGEST = 4_000_000
#: Programs with more multiplications run on the meta device first, which computes nothing.
_MOST_WORK = 100_000_000
#: With more inputs without a dtype than this, not all combinations of dtypes are tried.
_MOST_UNTYPED = 3
#: All combinations of these dtypes are tried.
_DTYPES = ("float32", "int64", "bool", "float64")
#: No numbers in its inputs make a program fail so.
_NEVER_DATA = (TypeError, AttributeError, NameError)
#: What torch says of dtypes, and of a write into a view whose elements share their memory, also
#: where the meta device accepts them.
_NEVER_DATA_WORDS = re.compile(
    r"same dtype|scalar type|dtypes? match|type \(.*\) and .* type \(.*\) should be the same"
    r"|can't be cast to the desired output type|refers to a single memory location"
)
#: The operators that sum over one of their dimensions.
_PRODUCTS = ("mul", "mm", "linear", "conv", "einsum", "attention", "dot")


@dataclass(frozen=True)
class Failure:
    """How a program fails at an example.

    Args:
        message: the first line of what torch says.
        node: the operator that fails, if it is known.
        line: the user's line.
        of_layout: a view fails since its tensor has another layout in memory.
    """

    message: str
    node: Node | None
    line: str
    of_layout: bool


def failure_at(
    graph: GraphModule,
    types: Mapping[str, InputType],
    sizes: Mapping[str, tuple[int, ...] | int],
    values: Mapping[Node, Any],
    run_eager: Callable[[int, Mapping[str, str]], Any],
) -> Failure | None:
    """How a program fails at some sizes; ``None`` if it is not known to fail.

    Args:
        graph: the graph of the program.
        types: the types of the inputs, by name.
        sizes: the shapes of the inputs, and the numbers, by name.
        values: the shapes of all values at these sizes.
        run_eager: runs the program in eager at these sizes, with a value for all integers, and
            dtypes for inputs.
    """
    if has_lazy_weights(graph) or any(AUTOCAST in node.meta for node in graph.graph.nodes):
        return None  # autocast is not part of the graph, and may be one of another device
    light = _work(graph, values) <= _MOST_WORK
    if not light and (not _has_view(graph) or _meta_failure(graph, types, sizes) is None):
        return None
    untyped = [n for n, given in types.items() if given.kind == "tensor" and not given.has_dtype]
    if len(untyped) > _MOST_UNTYPED:
        return None  # too many combinations of dtypes
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    if sum(_elements(values.get(node)) for node in inputs) > _LARGEST:
        return None
    first: BaseException | None = None
    for integer, dtypes in _attempts(untyped):
        try:
            run_eager(integer, dtypes)
        except NotImplementedError:
            return None  # the CPU lacks the kernel, for this dtype
        except PROGRAM_ERRORS as error:
            if raised_by_user(error):
                return None  # a branch on data; those on sizes are in the graph
            first = first or error
        else:
            return None
    return None if first is None else _failure(graph, types, sizes, first)


def _attempts(untyped: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The values of integers, and the dtypes of the inputs without one, that are tried in turn."""
    yield 0, {}
    yield 1, {}
    if untyped:
        for choice in itertools.product(_DTYPES, repeat=len(untyped)):
            yield 0, dict(zip(untyped, choice, strict=True))
        for dtype in ("float16", "bfloat16", "complex64"):
            yield 0, dict.fromkeys(untyped, dtype)


def _failure(
    graph: GraphModule,
    types: Mapping[str, InputType],
    sizes: Mapping[str, tuple[int, ...] | int],
    error: BaseException,
) -> Failure | None:
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = program_line(error) or ""
    at_line = [n for n in graph.graph.nodes if "call" in n.op and place_of(n, graph) == line]
    if any(reason in message for reason in _REASONS):
        views = [node for node in at_line if _is_view(node, graph)]
        node = views[0] if len(views) == 1 else _meta_failure(graph, types, sizes)
        return Failure(message, node or (views or at_line or [None])[-1], line, of_layout=True)
    failed = _meta_failure(graph, types, sizes)
    never_data = isinstance(error, _NEVER_DATA) or _NEVER_DATA_WORDS.search(message) is not None
    if not never_data and (failed is None or place_of(failed, graph) != line):
        return None
    return Failure(message, failed if failed in at_line else None, line, of_layout=False)


# -- the work of a program -------------------------------------------------------------------------


def _work(graph: GraphModule, values: Mapping[Node, Any]) -> int:
    """About how many multiplications a run takes."""
    total = 0
    for node in graph.graph.nodes:
        if node.op == "call_module":
            weights = [p for p in graph.get_submodule(str(node.target)).parameters() if p.dim() > 1]
            each = sum(weight.numel() // len(weight) for weight in weights)
        elif "call" in node.op and any(part in str(node.target) for part in _PRODUCTS):
            sizes = [size for n in node.all_input_nodes for size in _sizes(values.get(n))]
            each = max(sizes, default=1)
        else:
            each = 1
        total += _elements(values.get(node)) * max(each, 1)
    return total


def _elements(value: Any) -> int:
    """The number of elements of all tensors in a value."""
    if isinstance(value, Shape):
        count = 1
        for size in value:
            count *= size if isinstance(size, int) else 1
        return count
    if isinstance(value, dict):
        value = tuple(value.values())
    return sum(map(_elements, value)) if isinstance(value, (tuple, list)) else 0


def _sizes(value: Any) -> Iterator[int]:
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from _sizes(part)
    elif isinstance(value, int):
        yield value


# -- runs without data -----------------------------------------------------------------------------


def _has_view(graph: GraphModule) -> bool:
    """Whether an operator of a graph needs a certain layout of its argument."""
    return any(_is_view(node, graph) for node in graph.graph.nodes)


def _is_view(node: Node, graph: GraphModule) -> bool:
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), torch.nn.Unflatten)
    return bool(_VIEWS & {*str(getattr(node.target, "__name__", node.target)).split(".")})


def _meta_failure(
    graph: GraphModule,
    types: Mapping[str, InputType],
    sizes: Mapping[str, tuple[int, ...] | int],
) -> Node | None:
    """The node at which a run on the meta device fails; ``None`` if none does."""
    given: list[Any] = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            name = input_name(node)
            if name not in sizes:
                return None
            size = sizes[name]
            dtype: torch.dtype = getattr(torch, types[name].dtype)
            number = isinstance(size, int)
            given.append(size if number else torch.empty(size, dtype=dtype, device="meta"))
    run = _MetaRun(graph)
    try:
        with torch.no_grad(), torch.device("meta"):
            run.run(*given)
    except NotImplementedError:
        return None  # a value is data
    except PROGRAM_ERRORS as error:
        # "Tensor.item() cannot be called on meta tensors", and other words of the kind
        return None if "meta" in str(error) else run.last
    return None


class _MetaRun(Interpreter):
    """Runs a graph on the meta device, and keeps the node that ran last."""

    def __init__(self, graph: GraphModule) -> None:
        tensors = [*graph.parameters(), *graph.buffers()]
        # The copy has tensors without data in place of the weights.
        memo: dict[int, Any] = {id(x): _without_data(x) for x in tensors}
        super().__init__(copy.deepcopy(graph, memo), garbage_collect_values=False)
        copied: Any = self.module.graph
        self._originals = dict(zip(copied.nodes, graph.graph.nodes, strict=True))
        self.last: Node | None = None
        self.extra_traceback = False

    def run_node(self, n: Node) -> Any:
        """Run a node."""
        self.last = self._originals[n]
        return super().run_node(n)


def _without_data(x: torch.Tensor) -> torch.Tensor:
    made = x.detach().to("meta")
    if isinstance(x, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad=x.requires_grad)
    return made

"""The graph of a program that torch.fx cannot trace, recorded operator by operator on examples.

symfx's own tracer runs the program on example inputs, and its graph holds for all inputs that
satisfy the trace's guards, which become conditions of the program's types. z3 chooses example sizes
that satisfy the user's conditions.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule

from symfx.algebra import Table, evaluate
from symfx.errors import SymfxError, TracingError
from symfx.shape_rules.errors import IllTypedError
from symfx.static_migration.analysis import Interpreter
from symfx.static_migration.conditions import (
    InputType,
    declared_names,
    dimension_names,
    parse_size,
)
from symfx.static_migration.eager_runs import PROGRAM_ERRORS, example_tensor, run_on
from symfx.static_migration.nested_inputs import built, flat_types
from symfx.static_migration.operator_trace import OperatorTrace
from symfx.static_migration.programs import program_name
from symfx.static_migration.solver import Solver
from symfx.symbolic_shapes import Dim as NamedDim
from symfx.torch_bridge.transformers import blind_to_masks
from symfx.tracing import trace
from symfx.user_code import where as line_of

__all__ = ["is_large", "trace_operators", "traced_at"]

#: After a failure, at most so many numbers of its message are tried as sizes.
_MOST_NUMBERS = 6
#: Examples with larger sizes are avoided: they are slow.
_LARGEST = 256
#: Examples with more elements are not tried after the first one.
_MOST_ELEMENTS = 4_000_000

#: A program that makes a larger tensor does not run in eager.
_MOST_COMPUTED = 100_000_000

#: The preferred example sizes, one sequence for each attempt: the first name gets the first size.
#: Distinct primes keep names apart; multiples of 48 divide well; images are large.
_ATTEMPTS: tuple[tuple[int, ...], ...] = (
    (7, 11, 13, 17, 19, 23, 29, 31),
    (48, 96, 144, 192, 240),
    (12,),
    (2, 224, 224),
)


# -- tracing ---------------------------------------------------------------------------------------


def trace_operators(
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    timeout: float,
) -> GraphModule:
    """Trace a program on example inputs, at sizes that satisfy the user's conditions.

    Args:
        module: the program.
        inputs: the types of its inputs, by name.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each question.

    Raises:
        IllTypedError: the program fails in eager at all sizes that were tried.
        TracingError: the program runs, and cannot be traced.
    """
    flat = flat_types(inputs)
    for name, given in flat.items():
        if given.kind != "tensor" or given.dims is None:
            raise TracingError(
                f"the rank of {name} must be known to trace {program_name(module)}",
                where="--input",
                fix=f'write "{name}: i64[batch, seq]"',
            )
    tried: list[dict[str, int]] = []
    found: list[tuple[int, int, GraphModule]] = []
    failure: SymfxError | None = None
    attempts = [*_ATTEMPTS]
    for preferred in attempts:
        sizes = _example_sizes(module, flat, where, preferred, Solver(timeout))
        if sizes in tried or (tried and is_large(flat, sizes)):
            continue
        tried.append(sizes)
        try:
            traced = traced_at(module, inputs, sizes)
        except IllTypedError as error:
            if failure is None:
                # The numbers of the message and of the line may be sizes that the program needs.
                attempts += _sizes_from(f"{error.what} {error.where}")
                failure = error
            continue
        made = _trace_of(traced)
        # A coincidence of the example with a constant of the program fixes a name, and a small
        # image becomes a single pixel: the operators take another way then.
        fixed, ones = len(made.env.specialization_records()), made.ones()
        if not fixed and not ones:
            return traced
        found.append((fixed, ones, traced))
    if found:
        return min(found, key=lambda each: each[:2])[2]
    assert failure is not None
    raise failure


def _sizes_from(text: str) -> Iterator[tuple[int, ...]]:
    """Sizes to try, made from the numbers in a text: a multiple of each number, then itself."""
    numbers = {int(digits) for digits in re.findall(r"\d+", text) if len(digits) <= 3}
    for number in sorted(numbers - {0, 1, *_ATTEMPTS[0]})[:_MOST_NUMBERS]:
        if 3 * number <= _LARGEST:
            yield (3 * number,)
        yield (number,)


def _trace_of(module: GraphModule) -> OperatorTrace:
    found = OperatorTrace.of(module)
    assert found is not None
    return found


def _example_sizes(
    module: torch.nn.Module,
    inputs: Mapping[str, InputType],
    where: Sequence[str],
    preferred: tuple[int, ...],
    solver: Solver,
) -> dict[str, int]:
    """Sizes for all names that satisfy the conditions, as close as possible to the preferred."""
    interpreter = Interpreter(module, inputs, where)
    if interpreter.result.failed is not None:
        raise IllTypedError(interpreter.result.failed[1], where="--where")
    known = interpreter.sizes
    symbols = {name: known.table.symbol(name) for name in interpreter.names.terms}
    wishes = [
        symbol.eq(preferred[min(i, len(preferred) - 1)])
        for i, symbol in enumerate(symbols.values())
    ]
    # 0 and 1 are special sizes; a large example is slow.
    wishes += [symbol >= 3 for symbol in symbols.values()]
    wishes += [symbol <= _LARGEST for symbol in symbols.values()]
    answer = solver.ask([demand.condition for demand in known.demands], wishes=wishes)
    if answer.verdict == "unsat":
        raise IllTypedError("no sizes satisfy all conditions", where="--where")
    if answer.verdict != "sat":
        raise TracingError(
            f"z3 found no sizes that satisfy all conditions within {solver.timeout:g} s",
            where="--where",
        )
    return {name: answer.values.get(name, 3) for name in symbols}


def traced_at(
    module: torch.nn.Module, inputs: Mapping[str, InputType], sizes: Mapping[str, int]
) -> GraphModule:
    """Trace a program on inputs of certain sizes.

    Args:
        module: the program.
        inputs: the types of its inputs, by name.
        sizes: the sizes, by name; an unnamed dimension is named after its input.

    Raises:
        IllTypedError: the program fails in eager at these sizes.
        TracingError: the program runs, and cannot be traced.
    """
    extents_of: dict[str, tuple[NamedDim | None, ...]] = {}
    dimensions: dict[str, str] = {}
    shapes: dict[str, list[int]] = {}
    flat = flat_types(inputs)
    declared = frozenset(declared_names(flat))
    for name, given in flat.items():
        extents: list[NamedDim | None] = []
        shape: list[int] = []
        texts = dimension_names(name, given, declared)
        for i, (dim, text) in enumerate(zip(given.dims or (), texts, strict=True)):
            if isinstance(dim, int):
                extents.append(None)
                shape.append(dim)
                continue
            symbol = text if text.isidentifier() else f"{name}_{i}_"
            if symbol != text:
                dimensions[symbol] = text
            extents.append(NamedDim(symbol, min=1))
            shape.append(_evaluated(text, sizes))
        shapes[name] = shape
        extents_of[name] = tuple(extents)

    def with_integers(integer: int) -> dict[str, Any]:
        def tensor(name: str, given: InputType) -> torch.Tensor:
            return example_tensor(shapes[name], given.dtype, integer)

        return {n: built(n, given, tensor) for n, given in inputs.items()}

    example = with_integers(0)
    dynamic = {n: built(n, given, lambda name, _: extents_of[name]) for n, given in inputs.items()}
    try:
        with torch.no_grad(), blind_to_masks(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as torch's own on the broadcast of a loss
            traced = trace(module, (), example, dynamic=dynamic, strict=False)
    except PROGRAM_ERRORS as error:
        _refuse_if_eager_fails(module, with_integers, shapes)
        if not isinstance(error, SymfxError):
            raise
        raise TracingError(
            error.what,
            where=error.where or line_of(error.__cause__ or error),
            fix=error.fix or "trace the program yourself and pass the GraphModule",
        ) from error
    graph_module = traced.graph_module
    if not (_is_heavy(graph_module) or _needs_sums(graph_module)):
        # Kernels check more than the fake ones that the trace has run.
        _refuse_if_eager_fails(module, with_integers, shapes)
    table = traced.shape_env.table
    values = {table.symbol(name): size for name, size in sizes.items()}
    values |= {
        info.term: int(info.hint)
        for info in traced.shape_env.symbol_table()
        if info.hint is not None and not info.unbacked
    }
    structure = traced.out_spec if traced.flat_output else None
    OperatorTrace(traced.shape_env, dimensions, values, structure).attach(graph_module)
    return graph_module


def _is_heavy(graph: GraphModule) -> bool:
    """Whether eager would make a large tensor: ``torch.combinations(x, r=n)`` makes 13^11 rows."""
    made = (node.meta.get("val") for node in graph.graph.nodes)
    return any(
        math.prod(_hint(size) for size in value.shape) > _MOST_COMPUTED
        for value in made
        if isinstance(value, torch.Tensor)
    )


def _needs_sums(graph: GraphModule) -> bool:
    """Whether eager runs only on integers with a certain sum, which the examples do not have."""
    return any(
        node.target is torch.ops.aten.repeat_interleave.Tensor
        and node.kwargs.get("output_size") is not None
        for node in graph.graph.nodes
    )


def _hint(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else size.node.hint or 1


def is_large(inputs: Mapping[str, InputType], sizes: Mapping[str, int]) -> bool:
    """Whether a trace at these sizes would take long."""
    total = 0
    for given in inputs.values():
        count = 1
        for dim in given.dims or ():
            count *= _evaluated(dim, sizes) if isinstance(dim, str) else dim or 3
        total += count
    return total > _MOST_ELEMENTS


def _evaluated(text: str, sizes: Mapping[str, int]) -> int:
    table = Table()
    names = {name: table.const(size) for name, size in sizes.items()}
    return int(evaluate(parse_size(table, text, names), {}))


def _refuse_if_eager_fails(
    module: torch.nn.Module,
    with_integers: Callable[[int], dict[str, Any]],
    shapes: Mapping[str, Sequence[int]],
) -> None:
    """Raise an IllTypedError if the program fails in eager on its examples.

    A division by 0 or a matrix without an inverse is no fault of the shapes: one run that succeeds
    is enough.
    """
    error: Exception | None = None
    for integer in (0, 1):
        try:
            run_on(module, with_integers(integer))
        except NotImplementedError:
            return  # the CPU lacks the kernel, for this dtype
        except PROGRAM_ERRORS as failure:
            error = error or failure
        else:
            return
    if error is not None:
        at = ", ".join(f"{name}: {[*shape]}" for name, shape in shapes.items())
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise IllTypedError(
            f"the program fails with {at}: {message}",
            where=line_of(error),
            fix="no sizes were found with which it runs: change the program or the types",
        ) from error

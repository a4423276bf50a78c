"""Bindings: the places of unbacked symbols in an operator's output, and their renaming in a
second run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from symfx import config
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.measures import measures
from symfx.symbolic_shapes.errors import PendingUnbackedSymbolNotFound
from symfx.symbolic_shapes.torch_api.free_symbols import free_unbacked_symbols
from symfx.symbolic_shapes.torch_api.number_functions import cast_symbool_to_symint_guardless
from symfx.torch_bridge.identity import (
    TorchCallMethodKey,
    TorchConvertIntKey,
    TorchDivideByKey,
    TorchInnerTensorKey,
)
from symfx.torch_bridge.twins import Twin

__all__ = [
    "CallMethodKey",
    "ConvertIntKey",
    "DivideByKey",
    "InnerTensorKey",
    "PropagateUnbackedSymInts",
    "_free_unbacked_symbols_with_path",
    "_remove_effect_token_unbacked_bindings",
    "compute_unbacked_bindings",
    "rebind_unbacked",
    "resolve_unbacked_bindings",
]

log = logging.getLogger("symfx.symbolic_shapes")

KeyPath = tuple[Any, ...]


@dataclass(frozen=True)
class ConvertIntKey(metaclass=Twin, of=TorchConvertIntKey):
    """A step of a path: from a condition to 1 or 0."""

    def __str__(self) -> str:
        return ".cast_symbool_to_symint_guardless()"

    def get(self, b: bool | torch.SymBool) -> int | torch.SymInt:
        """Take the step."""
        return cast_symbool_to_symint_guardless(b)


@dataclass(frozen=True)
class CallMethodKey(metaclass=Twin, of=TorchCallMethodKey):
    """A step of a path: the result of a method without arguments.

    Attributes:
        name: the method.
    """

    name: str

    def __str__(self) -> str:
        return f".{self.name}()"

    def get(self, o: Any) -> Any:
        """Take the step."""
        return getattr(o, self.name)()


@dataclass(frozen=True)
class InnerTensorKey(metaclass=Twin, of=TorchInnerTensorKey):
    """A step of a path: a tensor inside a tensor that wraps others.

    Attributes:
        inner_name: its attribute.
    """

    inner_name: str

    def __str__(self) -> str:
        return f".{self.inner_name}"

    def get(self, o: Any) -> Any:
        """Take the step."""
        return getattr(o, self.inner_name)


@dataclass(frozen=True)
class DivideByKey(metaclass=Twin, of=TorchDivideByKey):
    """A step of a path: the quotient by a divisor that leaves no remainder.

    Attributes:
        divisor: the divisor.
    """

    divisor: int | torch.SymInt

    def __str__(self) -> str:
        return f".__floordiv__({self.divisor})"

    def get(self, o: int) -> Any:
        """Take the step."""
        return o // self.divisor


class _Search:
    """A search for symbols in an operator's output.

    Args:
        env: the environment of the symbols.
        wanted: the symbols; found ones are removed.
        simplify: look at expressions with replacements applied, not as they were made.
    """

    def __init__(self, env: Any, wanted: set[sympy.Symbol], simplify: bool) -> None:
        self.env = env
        self.wanted = wanted
        self.simplify = simplify
        self.found: dict[sympy.Symbol, KeyPath] = {}

    def visit(self, value: Any, path: KeyPath, real: Any) -> None:
        if isinstance(value, (tuple, list)):
            for i, part in enumerate(value):
                below = None if real is None else real[i]
                self.visit(part, (*path, pytree.SequenceKey(i)), below)
        elif isinstance(value, dict):
            for key, part in value.items():
                self.visit(part, (*path, pytree.MappingKey(key)), None)
        elif isinstance(value, torch.Tensor):
            self._tensor(value, path, real)
        elif isinstance(value, SymTypes):
            self._number(value, path, real)

    def _tensor(self, value: torch.Tensor, path: KeyPath, real: Any) -> None:
        functorch = torch._C._functorch
        if is_traceable_wrapper_subclass(value):
            for name in value.__tensor_flatten__()[0]:
                self.visit(getattr(value, name), (*path, InnerTensorKey(name)), None)
            return
        if functorch.is_batchedtensor(value) or functorch.is_gradtrackingtensor(value):
            self.visit(functorch.get_unwrapped(value), path, real)
            return
        if real is None:
            real = getattr(value, "real_tensor", None)
        numbers = None if real is None else dict(measures(real))
        for measure, _ in measures(value):
            kind, index = measure
            number, steps = getattr(value, kind)(), (*path, CallMethodKey(kind))
            if index is not None:
                number, steps = number[index], (*steps, pytree.SequenceKey(index))
            self.visit(number, steps, None if numbers is None else numbers[measure])
        if value.layout is torch.sparse_coo and self.wanted:
            # The number of elements that it stores is a size of its values.
            self.visit(value._values(), (*path, CallMethodKey("_values")), None)

    def _number(self, value: Any, path: KeyPath, real: Any) -> None:
        expr = value.node.expr if self.simplify else value.node._expr
        if isinstance(value, torch.SymBool):
            symbol = self._flag(expr)
            if symbol is not None:
                self._take(symbol, (*path, ConvertIntKey()), None if real is None else int(real))
        elif isinstance(expr, sympy.Symbol):
            self._take(expr, path, real)
        elif isinstance(value, torch.SymInt) and isinstance(expr, sympy.Mul):
            self._product(expr, path, real)

    def _flag(self, expr: sympy.Basic) -> sympy.Symbol | None:
        """The symbol that an unbacked condition compares with 1."""
        if isinstance(expr, sympy.Eq) and expr.args[1] == 1 and expr.args[0] in self.wanted:
            return expr.args[0]
        return None

    def _product(self, expr: sympy.Basic, path: KeyPath, real: Any) -> None:
        """A wanted symbol times a number or a size of the inputs."""
        symbols = [part for part in expr.args if part in self.wanted]
        if len(expr.args) != 2 or len(symbols) != 1:
            return
        (symbol,) = symbols
        (factor,) = (part for part in expr.args if part is not symbol)
        if isinstance(factor, sympy.Integer):
            divisor: Any = int(factor)
        elif self.env is not None and isinstance(factor, sympy.Symbol):
            divisor = self.env.wrap(self.env.read(factor))
            if not divisor.node.has_hint():
                return
        else:
            return
        at = None if real is None or not isinstance(divisor, int) else real // divisor
        self._take(symbol, (*path, DivideByKey(divisor)), at)

    def _take(self, symbol: sympy.Symbol, path: KeyPath, real: Any) -> None:
        if symbol not in self.wanted:
            return
        self.wanted.discard(symbol)
        self.found[symbol] = path
        if real is not None and self.env is not None:
            self.env.set_real_tensor_prop_unbacked_vals(symbol, real)


def _free_unbacked_symbols_with_path(
    a: Any,
    path: KeyPath,
    real: Any = None,
    shape_env: Any = None,
    pending: set[sympy.Symbol] | None = None,
    simplify: bool = False,
) -> dict[sympy.Symbol, KeyPath]:
    """The path to each of some symbols in a value.

    Args:
        a: tensors, numbers, and sequences of them.
        path: the path to the value itself.
        real: the same value in a run on real tensors.
        shape_env: the environment of the symbols, which learns their values in that run.
        pending: the symbols to look for; found ones are removed.
        simplify: look at expressions with replacements applied, not as they were made.
    """
    search = _Search(shape_env, set() if pending is None else pending, simplify)
    search.visit(a, path, real)
    return search.found


def compute_unbacked_bindings(
    shape_env: Any,
    example_value: Any,
    old_example_value: Any = None,
    peek: bool = False,
) -> dict[sympy.Symbol, KeyPath] | None:
    """The path in an operator's output to each unbacked symbol that the operator has just made.

    Args:
        shape_env: the environment; its `pending_fresh_unbacked_symbols` are searched for, and
            cleared.
        example_value: the output.
        old_example_value: the output of an earlier run of the same operator. The environment
            learns that each symbol equals the number at the same path there.
        peek: only search: clear no symbols and raise no error.

    Returns:
        The path to each symbol, for ``torch.utils._pytree.key_get``; None where the operator made
        no symbol, or there is no environment.

    Raises:
        PendingUnbackedSymbolNotFound: the output does not have a symbol.
    """
    if shape_env is None:
        return None
    pending = set(shape_env.pending_fresh_unbacked_symbols)
    ignorable = set(shape_env.ignorable_fresh_unbacked_symbols)
    if not peek:
        shape_env.pending_fresh_unbacked_symbols.clear()
        shape_env.ignorable_fresh_unbacked_symbols.clear()
    if not pending:
        return None
    found = _free_unbacked_symbols_with_path(
        example_value, (), shape_env=shape_env, pending=pending
    )
    # A size with one possible value, as the number of true elements of an empty mask, is a number.
    known = {symbol for symbol in pending if shape_env.simplify(symbol).is_number}
    lost = sorted(map(str, pending - ignorable - known))
    if lost and not peek:
        error = PendingUnbackedSymbolNotFound(
            f"the operator made {', '.join(lost)}, but nothing in its output has that size or "
            f"value: {example_value}",
            fix="return the new number, or make it inside ignore_fresh_unbacked_symbols()",
        )
        if not config.soft_pending_unbacked_not_found_error:
            raise error
        log.warning("%s", error)
    if old_example_value is not None:
        for path in found.values():
            _identify(
                shape_env,
                pytree.key_get(example_value, path),
                pytree.key_get(old_example_value, path),
            )
    return found


def _identify(env: Any, new: Any, old: Any) -> None:
    """Learn that a number of this run equals the one that another run has in its place."""
    symbol = new.node.expr if isinstance(new, SymTypes) else None
    if not isinstance(symbol, sympy.Symbol):
        return
    if not isinstance(old, SymTypes):
        env._eliminate_unbacked(symbol, sympy.sympify(old))
    elif old.node.expr != symbol:
        before = old.node.expr
        if isinstance(before, sympy.Symbol) and free_unbacked_symbols(before):
            env._rename_unbacked_to(symbol, before)
        else:
            env._eliminate_unbacked(symbol, before)


def resolve_unbacked_bindings(
    shape_env: Any, bindings: dict[sympy.Symbol, KeyPath] | None
) -> dict[sympy.Symbol, KeyPath] | None:
    """Bindings under the names that symbols have after the renaming of a second run.

    Args:
        shape_env: the environment.
        bindings: the result of `compute_unbacked_bindings`; for None, None is returned.

    Raises:
        SymfxError: there are bindings, but no environment.
    """
    if bindings is None:
        return None
    if shape_env is None:
        raise SymfxError(
            f"{', '.join(map(str, bindings))} cannot be looked up without a ShapeEnv",
            fix="pass the ShapeEnv that made them",
        )
    renamed = shape_env.unbacked_renamings
    return {renamed.get(symbol, symbol): path for symbol, path in bindings.items()}


def rebind_unbacked(shape_env: Any, n: torch.fx.Node, result: Any) -> None:
    """Rename the unbacked symbols of a node's second run to those of its first run.

    Args:
        shape_env: the environment of both runs.
        n: the node; ``n.meta["unbacked_bindings"]`` has the paths to its symbols.
        result: the output of the second run.

    Raises:
        SymfxError: the second run returned the symbols of the first run, from some cache.
    """
    if n.op == "placeholder":
        return
    bindings = resolve_unbacked_bindings(shape_env, n.meta.get("unbacked_bindings"))
    for first, path in (bindings or {}).items():
        second = pytree.key_get(result, path)
        # A number, or a size of the inputs, keeps no name of the first run.
        if not isinstance(second, SymTypes) or second.node.hint is not None:
            continue
        symbol = _inner_symbol(shape_env, second.node._expr)
        if symbol is None:
            continue
        if symbol == first:
            raise SymfxError(
                f"{n} returned {first} again rather than a new symbol: its output came from a "
                "cache of the first run",
                fix="increase FakeTensorMode.epoch before the second run",
            )
        shape_env._rename_unbacked_to(symbol, first)


def _inner_symbol(env: Any, expr: sympy.Basic) -> sympy.Symbol | None:
    """The unbacked symbol that an expression is, or that it gives as 1 or 0; else None."""
    if isinstance(expr, sympy.Symbol):
        return expr
    term = env.read(expr)
    for symbol in expr.free_symbols:
        own = env.symbols.term_of(symbol)
        table = env.table
        low, high = env.prover.range(own)
        if (low, high) == (0, 1) and term is table.to_int(table.eq(own, table.one)):
            return symbol
    return None


class PropagateUnbackedSymInts(torch.fx.Interpreter):
    """Runs a graph on fake tensors, with the unbacked symbols that its nodes have already."""

    def run_node(self, n: torch.fx.Node) -> Any:
        """Run a node, and rename the unbacked symbols of its output to those of the first run.

        Raises:
            SymfxError: no FakeTensorMode is active.
        """
        from torch._guards import detect_fake_mode

        result = super().run_node(n)
        mode = detect_fake_mode()
        if mode is None:
            raise SymfxError(
                "the graph needs a FakeTensorMode to run in, and none is active",
                fix="run it inside `with fake_mode:`, on fake tensors",
            )
        rebind_unbacked(mode.shape_env, n, result)
        return result


@contextlib.contextmanager
def _remove_effect_token_unbacked_bindings(node: torch.fx.Node) -> Iterator[None]:
    """Inside, the paths of a node's bindings omit the first step, to the effect token."""
    paths = node.meta.get("unbacked_bindings", {})
    node.meta["unbacked_bindings"] = {symbol: path[1:] for symbol, path in paths.items()}
    try:
        yield
    finally:
        node.meta["unbacked_bindings"] = paths

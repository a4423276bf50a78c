"""The arguments of events: kept when a call is recorded, translated when it is made again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from symfx.algebra import Sort, Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.terms.portable import carry
from symfx.errors import SymfxError
from symfx.sym_node import SymNode, SymTypes
from symfx.torch_bridge.identity import TorchShapeEnv

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["THE_ENVIRONMENT", "HeldTerm", "TermView", "argument_in_words", "hold", "translate"]

TermView: TypeAlias = Literal["term", "sympy", "number", "node"]


@dataclass(frozen=True)
class HeldTerm:
    """An expression in the arguments of an event, as it was when the event happened.

    An event keeps no torch number: facts that are learned later would show in it.

    Attributes:
        term: the expression, in the table of an environment or of a log.
        view: the form that the argument had: the term itself, its sympy view, a torch number,
            or the node of one.
    """

    term: Term
    view: TermView

    def placed(self, env: ShapeEnv) -> Any:
        """The argument in an environment.

        Raises:
            SymfxError: the environment lacks a symbol of the expression.
        """
        term = carry(self.term, env.table, functools.partial(_symbol_of, env))
        if self.view == "term":
            return term
        if self.view == "sympy":
            return to_sympy(term)
        return env.wrap(term) if self.view == "number" else env.node_for(term)

    def __str__(self) -> str:
        return str(self.term)


class _TheEnvironment:
    """Stands for the environment in the arguments of an event that was read from a file."""

    def __repr__(self) -> str:
        return "<the environment>"


THE_ENVIRONMENT = _TheEnvironment()


def hold(value: Any) -> Any:
    """An argument of a call, in the form in which its event keeps it."""
    if isinstance(value, (bool, int, float, str, type(None), Term)):
        return value
    if isinstance(value, SymTypes):
        node = value.node
        return HeldTerm(node.term, "number") if type(node) is SymNode else value
    if type(value) is SymNode:
        return HeldTerm(value.term, "node")
    return _map_inside(value, hold)


def translate(value: Any, env: ShapeEnv) -> Any:
    """An argument of an event as an argument for another environment.

    Raises:
        SymfxError: the environment lacks a symbol of the argument.
    """
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, HeldTerm):
        return value.placed(env)
    if isinstance(value, Term):
        return carry(value, env.table, functools.partial(_symbol_of, env))
    if value is THE_ENVIRONMENT or isinstance(value, TorchShapeEnv):
        return env
    if isinstance(value, torch.fx.Node):
        return None  # the other environment does not know the node's graph
    return _map_inside(value, lambda v: translate(v, env))


def argument_in_words(value: Any) -> str:
    """An argument of an event for people."""
    if isinstance(value, (Term, HeldTerm, *SymTypes)):
        return str(value)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(argument_in_words, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else repr(value)


def _symbol_of(env: ShapeEnv, name: str, sort: Sort) -> Term:
    """The environment's symbol of a name.

    Raises:
        SymfxError: the environment has no such symbol.
    """
    term = env.table.symbols.get(name)
    if term is None or term not in env._symbols or term.sort != sort:
        raise SymfxError(
            f"no event before this one made a symbol {name} ({sort})",
            fix="keep the event that makes it",
        )
    return term


def _map_inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """A collection or record with each of its parts changed; any other value unchanged."""
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(change(v) for v in value)
    if isinstance(value, torch.Size):
        return tuple(change(v) for v in value)
    if type(value) is dict:
        return {change(k): change(v) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        changed = {name: change(v) for name, v in parts.items()}
        if any(changed[name] is not v for name, v in parts.items() if _is_symbolic(v)):
            return replace(value, **changed)
    return value


def _is_symbolic(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(v, (Term, HeldTerm, SymNode, *SymTypes)) for v in parts)

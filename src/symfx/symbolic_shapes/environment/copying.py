"""Copies of environments: `copy.deepcopy(env)` gives one that shares no state with the first.

A copy is made object by object, so that it knows all that the first knows: facts, memos of the
prover, names that are taken, guards. Terms are copied before all else, in the order in which they
were made, because chains of them may be longer than Python's stack.
"""

from __future__ import annotations

import copy
import enum
import functools
import random
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch

from symfx.algebra import Table, Term
from symfx.sym_node import SymNode

__all__ = ["copied"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, slice, range)
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)
#: Classes of these packages are copied; objects of others are shared, as they never change.
_OWN = ("symfx.algebra.", "symfx.symbolic_shapes.", "symfx.sym_node.")


def copied(env: Any) -> Any:
    """A copy of an environment, which shares no state with it.

    Numbers of the first stay in the first. The copy has its own, under the same names.

    Args:
        env: a `ShapeEnv`.
    """
    made = _Copier(env.table).copy(env)
    made.inputs.own(made)
    made.fake_tensor_cache = {}  # its entries have numbers of the first
    return made


class _Copier:
    """One copying, with the copy of each object that it met.

    Args:
        table: the terms of the environment.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._copies: dict[int, Any] = {}
        self._kept: list[Any] = []  # the ids of these objects stay theirs
        self._add_terms(table)

    def _note(self, value: Any, made: Any) -> Any:
        self._copies[id(value)] = made
        self._kept.append(value)
        return made

    # -- terms -----------------------------------------------------------------------------------

    def _add_terms(self, table: Table) -> None:
        """Make the terms of a table, in the order in which they were made."""
        new_table = self._note(table, object.__new__(Table))
        terms: dict[int, Term] = {}
        for found in (table._ints, table._consts, table.symbols, table._sums, table._interned):
            terms.update((term.uid, term) for term in found.values())
        for several in table._collisions.values():
            terms.update((term.uid, term) for term in several)
        pairs = []
        for _, term in sorted(terms.items()):
            new = self._note(term, object.__new__(Term))
            new.table = new_table
            new.args = tuple([self._part(a) for a in term.args])
            for name in ("op", "sort", "uid", "const", "fingerprint", "sympy", "_text"):
                setattr(new, name, getattr(term, name))
            pairs.append((term, new))
        for term, new in pairs:
            coeffs, rope, free, base = term._coeffs, term._rope, term._free, term._base
            new._coeffs = coeffs and {self._part(m): c for m, c in coeffs.items()}
            new._rope = rope and cast("Any", tuple([self._part(part) for part in rope]))
            new._free = None if free is None else frozenset([self._part(s) for s in free])
            new._base = None if base is None else self._part(base)
        self._fill(table, new_table)

    def _part(self, part: Any) -> Any:
        return self._copies[id(part)] if isinstance(part, Term) else part

    # -- all other objects -----------------------------------------------------------------------

    def copy(self, value: Any) -> Any:
        """The copy of a value; the value itself where it never changes."""
        kind = type(value)
        if kind in _PLAIN or issubclass(kind, enum.Enum):
            return value
        known = self._copies.get(id(value))
        if known is not None:
            return known
        if kind in (list, deque, set):
            made = self._note(value, kind() if kind is not deque else deque(maxlen=value.maxlen))
            (made.update if kind is set else made.extend)(self._all(value))
            return made
        if kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
            parts = self._all(value)
            if all(new is old for new, old in zip(parts, value, strict=True)):
                return value
            return self._note(value, tuple(parts) if kind is tuple else kind(*parts))
        if kind is frozenset:
            return self._note(value, frozenset(self._all(value)))
        if issubclass(kind, (dict, WeakKeyDictionary)) and not _is_own(kind):
            return self._mapping(value, kind)
        if kind in _NUMBERS:
            if type(value.node) is not SymNode:
                return value
            return self._note(value, kind(self.copy(value.node)))
        if kind is MethodType:
            return MethodType(value.__func__, self.copy(value.__self__))
        if kind is functools.partial:
            return functools.partial(
                self.copy(value.func), *self._all(value.args), **self.copy(value.keywords)
            )
        if kind is FunctionType:
            return self._function(value)
        if kind is random.Random:
            made = self._note(value, random.Random())
            made.setstate(value.getstate())
            return made
        if kind.__module__.startswith("z3."):
            return self._note(value, copy.deepcopy(value))
        if _is_own(kind) and not self._is_foreign(value):
            made = kind() if issubclass(kind, threading.local) else object.__new__(kind)
            self._fill(value, self._note(value, made))
            return made
        return value

    def _is_foreign(self, value: Any) -> bool:
        """Whether an object belongs to another environment."""
        if type(value) is SymNode:
            value = value.shape_env
        return getattr(value, "table", self._table) is not self._table

    def _all(self, values: Iterable[Any]) -> list[Any]:
        return [self.copy(value) for value in values]

    def _mapping(self, value: Any, kind: Any) -> Any:
        if kind is defaultdict:
            made: Any = defaultdict(self.copy(value.default_factory))
        elif kind in (dict, OrderedDict, WeakKeyDictionary):
            made = kind()
        else:
            made = kind.__new__(kind)
        self._note(value, made)
        for key, item in list(value.items()):
            made[self.copy(key)] = self.copy(item)
        return made

    def _function(self, function: FunctionType) -> FunctionType:
        """A function with copies of the variables that it closes over."""
        if function.__closure__ is None:
            return function
        made = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple([type(cell)() for cell in function.__closure__]),
        )
        made.__kwdefaults__ = function.__kwdefaults__
        self._note(function, made)
        for cell, new in zip(function.__closure__, made.__closure__ or (), strict=True):
            new.cell_contents = self.copy(cell.cell_contents)
        return made

    def _fill(self, value: Any, made: Any) -> None:
        """Copy the attributes of an object to a new one of its class."""
        for base in type(value).__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__weakref__", "__dict__") and hasattr(value, name):
                    object.__setattr__(made, name, self.copy(getattr(value, name)))
        for name, item in list(getattr(value, "__dict__", {}).items()):
            made.__dict__[name] = self.copy(item)


def _is_own(kind: type) -> bool:
    return any(base.__module__.startswith(_OWN) for base in kind.__mro__)

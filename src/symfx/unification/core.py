"""`unify` and `reify`: the two verbs of unification, on the library logical-unification.

The library evaluates its rules on a stack of its own, so that a term may be nested ten thousand
levels deep. Two of its rules are replaced here, as PyTorch's users know them otherwise: a list
unifies with a tuple, and what two variables stand for is compared part by part (``==`` on deep
tuples overflows Python's stack). The library's other rules hold, those that a user registers with
`unifiable` among them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from operator import length_hint
from typing import Any

from multipledispatch import Dispatcher
from unification.utils import transitive_get
from unification.variable import isvar

from unification import core as _library

__all__ = ["reify", "unify"]

_Bindings = Mapping[Any, Any]
_Steps = Generator[Any, Any, None]
_rules = Dispatcher("unify")


def reify(e: Any, s: _Bindings) -> Any:
    """Put the values of variables into a term.

    Args:
        e: the term: a variable, or tuples, lists, sets, dicts, slices and iterators of terms.
        s: the value of each variable. A value may hold variables again.

    Returns:
        The term with every variable that `s` knows replaced, all the way down. `e` stays as it was.
    """
    return _library.reify(e, s)


def unify(u: Any, v: Any, s: _Bindings | None = None) -> dict[Any, Any] | bool:
    """Find values of variables that make two terms equal.

    Args:
        u: a term, such as `reify` takes.
        v: another term.
        s: what is known of the variables already.

    Returns:
        `s` and what had to be added to it, the most general such; ``False`` where no values make
        the terms equal.
    """
    known = {} if s is None else s
    result: dict[Any, Any] | bool = _library.stream_eval(_unify(u, v, known))
    return result


def _unify(u: Any, v: Any, s: _Bindings) -> Any:
    if u is v:
        return s
    if isvar(u) or isvar(v):  # also whatever `variables(...)` declares to be one
        return _unify_variable(u, v, s)
    return _rules(u, v, s)


def _unify_variable(u: Any, v: Any, s: _Bindings) -> _Steps:
    u = transitive_get(u, s) if isvar(u) else u
    v = transitive_get(v, s) if isvar(v) else v
    if isvar(u):
        yield s if isvar(v) and u == v else _library.assoc(s, u, v)
    elif isvar(v):
        yield _library.assoc(s, v, u)
    else:
        yield _unify(u, v, s)


def _unify_sequences(u: Any, v: Any, s: Any) -> _Steps:
    pairs = zip(u, v, strict=True) if length_hint(u, -1) == length_hint(v, -1) else None
    outcome: Any = False if pairs is None else s
    for pair in pairs or ():
        outcome = yield _unify(*pair, outcome)
        if outcome is False:
            break
    yield outcome


def _unify_mappings(u: Mapping[Any, Any], v: Mapping[Any, Any], s: Any) -> _Steps:
    if u.keys() != v.keys():
        yield False
        return
    yield _unify(tuple(u.values()), tuple(v[key] for key in u), s)


def _unify_slices(u: slice, v: slice, s: Any) -> _Steps:
    one, other = ([getattr(x, name) for name in ("start", "stop", "step")] for x in (u, v))
    yield _unify(one, other, s)


_SEQUENCES = (tuple, list, Iterator)
_rules.add((_SEQUENCES, _SEQUENCES, Mapping), _unify_sequences)
_rules.add((Mapping, Mapping, Mapping), _unify_mappings)
_rules.add((slice, slice, Mapping), _unify_slices)
_rules.add((object, object, Mapping), _library._unify)

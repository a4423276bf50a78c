"""`unify` and `reify`, the two functions of unification, on the library logical-unification.

The library evaluates its rules on a stack of its own, so a term may be nested ten thousand levels
deep. This module replaces some of its rules, to agree with PyTorch's. A list unifies with a tuple.
The values of two variables are compared part by part, because ``==`` on deep tuples overflows
Python's stack. `reify` also replaces objects that `variables` declares to be variables. All other
rules of the library are kept, including those that a user registers with `unifiable`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from operator import length_hint
from typing import Any

from multipledispatch import Dispatcher
from unification.variable import Var, _global_logic_variables, isvar

from symfx.errors import ExpressionError
from unification import core as _library

__all__ = ["reify", "unify"]

_Bindings = Mapping[Any, Any]
_Steps = Generator[Any, Any, None]
_rules = Dispatcher("unify")
_parts = Dispatcher("reify")


def reify(e: Any, s: _Bindings) -> Any:
    """Put the values of variables into a term.

    Args:
        e: the term: a variable, or tuples, lists, sets, dicts, slices and iterators of terms.
        s: the value of each variable. A value may contain variables.

    Returns:
        A new term in which each variable of `s` is replaced, at all levels.

    Raises:
        ExpressionError: the value of a variable contains the same variable.
    """
    return _library.stream_eval(_reify(e, s, set()))


def _is_variable(term: Any) -> bool:
    # `isvar` hashes the term: for a deep term that takes quadratic time over all levels.
    return Var in type(term).__mro__ or (bool(_global_logic_variables) and isvar(term))


def _reify(e: Any, s: _Bindings, inside: set[Any]) -> Any:
    return _reify_variable(e, s, inside) if _is_variable(e) and e in s else _parts(e, s, inside)


def _reify_variable(e: Any, s: _Bindings, inside: set[Any]) -> _Steps:
    if e in inside:
        raise _endless(e)
    inside.add(e)
    value = yield _reify(s[e], s, inside)
    inside.remove(e)
    yield value


def _reify_parts(
    make: Callable[[Iterable[Any]], Any], e: Iterable[Any], s: _Bindings, inside: set[Any]
) -> _Steps:
    done = []
    for part in e.items() if isinstance(e, Mapping) else e:
        done.append((yield _reify(part, s, inside)))
    yield make(done)


def _reify_slice(e: slice, s: _Bindings, inside: set[Any]) -> _Steps:
    start, stop, step = yield _reify((e.start, e.stop, e.step), s, inside)
    yield slice(start, stop, step)


def _endless(variable: Any) -> ExpressionError:
    return ExpressionError(
        f"the value of {variable} contains {variable}, so the term would be infinite",
        fix="correct the values of the variables",
    )


def unify(u: Any, v: Any, s: _Bindings | None = None) -> dict[Any, Any] | bool:
    """Find values of variables that make two terms equal.

    Args:
        u: a term, such as `reify` takes.
        v: another term.
        s: the known values of variables.

    Returns:
        `s` with the most general values added that make the terms equal; ``False`` if no values
        do.
    """
    known = {} if s is None else s
    result: dict[Any, Any] | bool = _library.stream_eval(_unify(u, v, known))
    return result


def _unify(u: Any, v: Any, s: _Bindings) -> Any:
    if u is v:
        return s
    u, v = _walk(u, s), _walk(v, s)
    if _is_variable(u):  # also an object that `variables(...)` declares to be one
        return s if _is_variable(v) and u == v else _library.assoc(s, u, v)
    return _library.assoc(s, v, u) if _is_variable(v) else _rules(u, v, s)


def _walk(term: Any, s: _Bindings) -> Any:
    """The final value of a term; `s` may bind an object that is no longer a variable."""
    passed = set()
    while _binds(s, term):
        if term in passed:
            raise _endless(term)
        passed.add(term)
        term = s[term]
    return term


def _binds(s: _Bindings, term: Any) -> bool:
    with suppress(TypeError):  # a term without a hash is not a variable
        return bool(s) and term in s
    return False


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


for _kind in (tuple, list, set, frozenset, dict, OrderedDict):
    _parts.add((_kind, Mapping, set), partial(_reify_parts, _kind))
_parts.add((Iterator, Mapping, set), partial(_reify_parts, iter))
_parts.add((slice, Mapping, set), _reify_slice)
_parts.add((object, Mapping, set), lambda e, s, inside: _library._reify(e, s))

_SEQUENCES = (tuple, list, Iterator)
_rules.add((_SEQUENCES, _SEQUENCES, Mapping), _unify_sequences)
_rules.add((Mapping, Mapping, Mapping), _unify_mappings)
_rules.add((slice, slice, Mapping), _unify_slices)
_rules.add((object, object, Mapping), _library._unify)

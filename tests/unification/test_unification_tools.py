"""The functions on dicts give what stock's give, results, types and errors."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import pytest
import torch.fx.experimental.unification.unification_tools as stock

from symfx.unification import unification_tools as tools


def increment(x: int) -> int:
    return x + 1


CASES: list[tuple[Any, ...]] = [
    ("merge", {1: 2}, {1: 3, 4: 4}),
    ("merge", [{1: 2}, {3: 4}]),
    ("merge",),
    ("merge", {1: 2}, {"factory": OrderedDict}),
    ("merge", {1: 2}, {"unknown": 1}),
    ("merge_with", sum, {1: 1}, {1: 10, 2: 2}),
    ("merge_with", sum, [{1: 1}, {1: 10}], {"factory": OrderedDict}),
    ("dissoc", {"x": 1, "y": 2}, "y"),
    ("dissoc", {"x": 1, "y": 2}, "y", "x", "z"),
    ("dissoc", OrderedDict(x=1, y=2), "x", {"factory": OrderedDict}),
    ("assoc", {"x": 1}, "x", 2),
    ("assoc", OrderedDict(x=1), "y", 2, OrderedDict),
    ("assoc", {"x": 1}, ["unhashable"], 2),
    ("assoc", [1], 0, 2),
    ("assoc_in", {"a": {"b": 1, "c": 2}}, ["a", "b"], 3),
    ("assoc_in", {}, ("a", "b", "c"), 3),
    ("assoc_in", {}, ["a", "b"], 3, OrderedDict),
    ("update_in", {"a": 0}, ["a"], increment),
    ("update_in", {1: "x"}, [2, 3, 4], increment, 0),
    ("update_in", {}, [1, 2], str, "d", OrderedDict),
    ("update_in", {}, [], increment, 0),
    ("update_in", {"a": 1}, ["a", "b"], str),
    ("valmap", sum, {"a": [1, 2], "b": [3]}),
    ("valmap", len, {1: "ab"}, {"factory": lambda: defaultdict(int)}),
    ("keymap", str.lower, {"A": 1, "B": 2}),
    ("itemmap", reversed, {"a": 1, "b": 2}),
    ("itemmap", reversed, {"a": 1}, OrderedDict),
    ("valfilter", bool, {1: 0, 2: 1}),
    ("keyfilter", bool, {0: 1, 2: 1}),
    ("keyfilter", bool, {0: 1, 2: 1}, OrderedDict),
    ("itemfilter", all, {1: 0, 2: 1}),
    ("first", "ABC"),
    ("first", iter([3, 4])),
    ("first", ""),
    ("first", 5),
    ("get_in", ["a", 0], {"a": [5]}),
    ("get_in", ["a", 1], {"a": [5]}, "default"),
    ("groupby", len, ["a", "bb", "c"]),
]


def outcome(module: Any, name: str, *args: Any) -> Any:
    options: dict[str, Any] = {}
    if args and isinstance(args[-1], dict) and set(args[-1]) & {"factory", "unknown"}:
        *args, options = args  # type: ignore[assignment]
    try:
        result = getattr(module, name)(*args, **options)
    except (TypeError, AttributeError, KeyError, IndexError, StopIteration) as error:
        return type(error)
    return type(result), list(result.items()) if isinstance(result, dict) else result


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{len(case)}")
def test_as_stock(case: tuple[Any, ...]) -> None:
    if case == ("first", case[-1]) and not isinstance(case[-1], (str, int)):
        assert tools.first(iter([3, 4])) == stock.first(iter([3, 4]))
        return
    assert outcome(tools, *case) == outcome(stock, *case)


def test_arguments_stay_as_they_were() -> None:
    nested = {"a": {"b": 1}}
    assert tools.assoc_in(nested, ["a", "b"], 2) == {"a": {"b": 2}}
    assert tools.dissoc(nested, "a") == {}
    assert nested == {"a": {"b": 1}}


def test_ten_thousand_levels() -> None:
    keys = list(range(10_000))
    deep = tools.update_in(tools.assoc_in({}, keys, 1), keys, increment)
    assert tools.get_in(keys, deep) == 2

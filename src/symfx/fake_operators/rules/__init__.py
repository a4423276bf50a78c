"""Rules of common operators: the sizes and strides of a result, computed on terms.

A rule answers only where its answer is certain. It leaves every other case to torch's own
kernels, among them every mistake in the arguments.
"""

from symfx.fake_operators.rules import linear, networks, pointwise, reductions, views
from symfx.fake_operators.rules.base import RULES, Arg, New, Result, Rule, Shape, View
from symfx.fake_operators.rules.numbers import Number, Numbers

__all__ = [
    "RULES",
    "Arg",
    "New",
    "Number",
    "Numbers",
    "Result",
    "Rule",
    "Shape",
    "View",
    "linear",
    "networks",
    "pointwise",
    "reductions",
    "views",
]

"""What common operators do to sizes and strides, said over terms instead of run by torch.

A rule answers only where it is certain without guarding, and leaves every other case, among
them every mistake in the arguments, to torch's own kernels.
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

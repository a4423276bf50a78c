"""The table of shape rules, and the words that rules are written with.

Example: a rule for an operator of your own is one entry.
    >>> import torch
    >>> from symfx.shape_rules import Shape, exactly, rule
    >>> def pairwise(x): ...
    >>> @rule(pairwise)
    ... def pairwise_rule(d, x):
    ...     n, _ = exactly(x, 2, "pairwise")
    ...     return Shape((n, n))
"""

from __future__ import annotations

from symfx.shape_rules import rules  # noqa: F401 - fills the table
from symfx.shape_rules.errors import (
    DuplicateRuleError,
    GradualError,
    IllTypedError,
    InvalidConstraintError,
    RankBoundError,
)
from symfx.shape_rules.ranks import DEFAULT_MAX_RANK, get_max_rank, max_rank, set_max_rank
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size, Sizes
from symfx.shape_rules.table import (
    Rule,
    at_least,
    axis,
    exactly,
    known_rules,
    lookup,
    module_rule,
    rule,
)

__all__ = [
    "DEFAULT_MAX_RANK",
    "UNKNOWN",
    "Dim",
    "DuplicateRuleError",
    "GradualError",
    "IllTypedError",
    "InvalidConstraintError",
    "RankBoundError",
    "Rule",
    "Shape",
    "Size",
    "Sizes",
    "at_least",
    "axis",
    "exactly",
    "get_max_rank",
    "known_rules",
    "lookup",
    "max_rank",
    "module_rule",
    "rule",
    "set_max_rank",
]

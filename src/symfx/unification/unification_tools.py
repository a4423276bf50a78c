"""Functions on dicts that do not change their arguments: those of toolz.

The argument ``factory=`` is the class of the mapping to return.

Example:
    >>> assoc({"batch": 8}, "seq", 128)
    {'batch': 8, 'seq': 128}
    >>> valmap(len, {"x": [2, 3], "y": [4]})
    {'x': 2, 'y': 1}
"""

from __future__ import annotations

from symfx.extras import importing

with importing("types", "symfx.unification"):
    from toolz import (
        assoc,
        assoc_in,
        dissoc,
        first,
        get_in,
        groupby,
        itemfilter,
        itemmap,
        keyfilter,
        keymap,
        merge,
        merge_with,
        update_in,
        valfilter,
        valmap,
    )
    from toolz.itertoolz import getter

__all__ = [
    "assoc",
    "assoc_in",
    "dissoc",
    "first",
    "get_in",
    "getter",
    "groupby",
    "itemfilter",
    "itemmap",
    "keyfilter",
    "keymap",
    "merge",
    "merge_with",
    "update_in",
    "valfilter",
    "valmap",
]

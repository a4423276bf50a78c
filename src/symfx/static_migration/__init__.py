"""Static migration: the most precise types of a program, its conflicts, and decided branches.

The three tasks of Migeed, Reed, Ansel and Palsberg, "Generalizing Shape Analysis with Gradual
Types" (ECOOP 2024): the most precise annotations of a program (`migrate`), the same under
conditions that the user gives (its `where`), and the elimination of branches for whole classes of
inputs (`eliminate_branches`).
"""

from __future__ import annotations

from symfx.static_migration.branches import eliminate_branches
from symfx.static_migration.checking import typecheck
from symfx.static_migration.graph_capture import program_graph
from symfx.static_migration.migration import migrate
from symfx.static_migration.results import Conflict, ExcludedSizes, FixedName, Migration

__all__ = [
    "Conflict",
    "ExcludedSizes",
    "FixedName",
    "Migration",
    "eliminate_branches",
    "migrate",
    "program_graph",
    "typecheck",
]

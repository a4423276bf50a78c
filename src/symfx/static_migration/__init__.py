"""Static migration of programs: precise types, conditions on sizes, branches decided."""

from __future__ import annotations

from symfx.static_migration.branches import eliminate_branches
from symfx.static_migration.capture import capture
from symfx.static_migration.migrate import Conflict, Migration, migrate

__all__ = ["Conflict", "Migration", "capture", "eliminate_branches", "migrate"]

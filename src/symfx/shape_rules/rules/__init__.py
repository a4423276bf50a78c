"""The entries of the table, by family. Importing this package fills the table."""

from __future__ import annotations

from symfx.shape_rules.rules import (
    along,
    creation,
    elementwise,
    indexing,
    joining,
    layout,
    linalg,
    matrices,
    normalization,
    reductions,
    sequences,
    shape_queries,
    spectral,
    windows,
)

__all__ = [
    "along",
    "creation",
    "elementwise",
    "indexing",
    "joining",
    "layout",
    "linalg",
    "matrices",
    "normalization",
    "reductions",
    "sequences",
    "shape_queries",
    "spectral",
    "windows",
]

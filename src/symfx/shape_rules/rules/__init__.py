"""The shape rules by families of operators; importing this package fills the table."""

from __future__ import annotations

from symfx.shape_rules.rules import (
    along,
    convolutions,
    creation,
    elementwise,
    embeddings,
    indexing,
    joining,
    layout,
    linalg,
    losses,
    low_level,
    matrices,
    normalization,
    pooling,
    reductions,
    resizing,
    sequences,
    shape_queries,
    spectral,
)

__all__ = [
    "along",
    "convolutions",
    "creation",
    "elementwise",
    "embeddings",
    "indexing",
    "joining",
    "layout",
    "linalg",
    "losses",
    "low_level",
    "matrices",
    "normalization",
    "pooling",
    "reductions",
    "resizing",
    "sequences",
    "shape_queries",
    "spectral",
]

"""Silence for torch's log of fake tensors: it has the traceback of each error that it raises."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["without_torch_logs"]


@contextlib.contextmanager
def without_torch_logs() -> Iterator[None]:
    """A context in which an error of a fake tensor is raised and not logged."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    drop = lambda record: False  # noqa: E731
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)

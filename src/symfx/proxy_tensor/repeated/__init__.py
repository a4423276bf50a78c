"""Repeated blocks of a model: found equal, traced once, recorded again with other parameters."""

from __future__ import annotations

from symfx.proxy_tensor.repeated.blocks import Repeated, RepeatedBlocks
from symfx.proxy_tensor.repeated.stamping import BackwardOfStampedError

__all__ = ["BackwardOfStampedError", "Repeated", "RepeatedBlocks"]

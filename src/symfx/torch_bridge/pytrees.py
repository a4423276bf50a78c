"""Containers that torch's trees rebuild as another class."""

from __future__ import annotations

import torch

__all__ = ["REBUILT_AS"]

REBUILT_AS: dict[type, type] = {torch.Size: tuple}
"""For a container that a tree flattens, the class that it is rebuilt as.

A `torch.Size` holds ints alone, so that a size of proxies becomes a tuple.
"""

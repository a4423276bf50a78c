"""What torch's trees do not give back as they took it."""

from __future__ import annotations

import torch

__all__ = ["what_trees_give_back"]

what_trees_give_back: dict[type, type] = {torch.Size: tuple}
"""Containers that a tree takes apart, and what it puts together again in their place.

A `torch.Size` holds ints alone, so that one of proxies has to become a tuple.
"""

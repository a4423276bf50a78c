"""Many models in one run: traced, verified, typed, optimized and exported, with one summary."""

from __future__ import annotations

from symfx.sweep.jobs import STEPS, Job, Result, StepResult, SweepModel

__all__ = ["STEPS", "Job", "Result", "StepResult", "SweepModel"]

"""Tracing a model to a graph with symbolic shapes, and asking the trace what it admits."""

from symfx.tracing.admission import CheckResult
from symfx.tracing.traces import Trace, trace
from symfx.tracing.verification import Verification

__all__ = ["CheckResult", "Trace", "Verification", "trace"]

"""Tracing a model to a graph with symbolic shapes; checking, verifying and explaining the graph."""

from symfx.tracing.admission import CheckResult
from symfx.tracing.exporting import export
from symfx.tracing.loading import load
from symfx.tracing.tracer import trace
from symfx.tracing.traces import Trace
from symfx.tracing.verification import Verification

__all__ = ["CheckResult", "Trace", "Verification", "export", "load", "trace"]

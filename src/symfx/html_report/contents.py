"""The contents of a report as plain data: what the page shows of a trace, but for its graph."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import torch

from symfx._version import __version__
from symfx.explanation.answers import Reason
from symfx.explanation.assumptions import Assumptions
from symfx.explanation.nodes import guards_by_node
from symfx.explanation.questions import Subject, explain_subject
from symfx.html_report.graph_contents import graph_of
from symfx.symbolic_shapes import Provenance, RuntimeAssert, ShapeGuard, SymbolInfo
from symfx.tracing.report import headline, range_of, sources_of
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Run, Verification, verdict
from symfx.user_code import SavedFrame, UserFrame
from symfx.work import share_of_work, tell_work

__all__ = ["contents_of"]

#: How many pins, symbols, guards and assertions get a proof: each takes some milliseconds.
_PROOFS = 500


def contents_of(
    trace: TracedModel, verification: Verification | None, why_unverified: str | None
) -> dict[str, Any]:
    """The contents of a report; ``web/src/contents.ts`` describes each field.

    Args:
        trace: the trace.
        verification: its verification; None if it was not verified.
        why_unverified: a sentence that says why it was not.
    """
    described = _Conditions(trace)
    # A proof takes about as long as ten nodes.
    proofs = 10 * min(_PROOFS, described.count)
    proven = proofs / (proofs + len(trace.graph_module.graph.nodes))
    with share_of_work(0.0, proven):
        conditions = described.described()
    with share_of_work(proven, 1.0):
        graph = graph_of(trace)
    return {
        "model": trace.name,
        "headline": headline(trace),
        "symfx": __version__,
        "torch": torch.__version__,
        **conditions,
        "proofs": {"most": _PROOFS, "left_out": described.without_proof},
        "notes": list(trace.notes),
        "verification": None if verification is None else _verification(verification),
        "unverified": why_unverified,
        **graph,
    }


class _Conditions:
    """The symbols, pins, guards and assertions of a trace, each with its proof."""

    def __init__(self, trace: TracedModel) -> None:
        self._trace = trace
        self._proofs = 0
        self._known = Assumptions(trace.shape_env)
        self._asserts = trace.shape_env.deferred_asserts()
        #: The number of the conditions.
        self.count = sum(
            map(len, (trace.specializations, trace.symbols, trace.guards, self._asserts))
        )
        place = {node.name: i for i, node in enumerate(trace.graph_module.graph.nodes)}
        self._caused = [
            (guard, place[name])
            for name, guards in guards_by_node(trace).items()
            for guard in guards
        ]

    @property
    def without_proof(self) -> int:
        """The number of conditions that were described without a proof."""
        return max(0, self._proofs - _PROOFS)

    def described(self) -> dict[str, Any]:
        """The fields of the contents."""
        trace = self._trace
        sources = {info.name: sources_of(trace, info) for info in trace.shape_env.symbol_table()}
        return {
            "pins": [
                {
                    "symbol": record.symbol_name,
                    "value": _plain(record.value),
                    "sources": sources.get(record.symbol_name, ""),
                    "cause": _cause(record.provenance),
                    "proof": self._proof(record),
                    "nodes": self._nodes(record.provenance),
                }
                for record in trace.specializations
            ],
            "symbols": [
                {
                    "name": info.name,
                    "sources": sources_of(trace, info),
                    "range": range_of(_without_limit(info)),
                    "example": _plain(info.hint),
                    "unbacked": info.unbacked,
                    "proof": self._proof(info),
                }
                for info in trace.symbols
            ],
            "guards": [self._condition(guard) for guard in trace.guards],
            "asserts": [
                self._condition(asserted) | {"message": str(asserted.message)}
                for asserted in self._asserts
            ],
        }

    def _condition(self, record: ShapeGuard | RuntimeAssert) -> dict[str, Any]:
        return {
            "condition": str(record.term),
            "cause": _cause(record.provenance),
            "proof": self._proof(record, str(record.term)),
            "nodes": self._nodes(record.provenance),
        }

    def _nodes(self, cause: Provenance) -> list[int]:
        """The places of the nodes that caused the guards of a line."""
        return sorted({place for guard, place in self._caused if guard.provenance == cause})

    def _proof(self, subject: Subject, itself: str = "") -> dict[str, Any] | None:
        """Why something holds; without the condition itself, which needs no reason but its line."""
        self._proofs += 1
        tell_work((self._proofs - 1) / self.count)
        if self._proofs > _PROOFS:
            return None
        found = explain_subject(self._trace, subject, known=self._known)
        reasons = [each for each in found.reasons if each.because or each.statement != itself]
        return {
            "sentence": found.sentence,
            "reasons": [_reason(each) for each in reasons],
            "details": [list(pair) for pair in found.details],
            "fix": found.fix or "",
        }


def _without_limit(info: SymbolInfo) -> SymbolInfo:
    """A symbol without the bound that every size has."""
    limited = info.upper is not None and info.upper >= sys.maxsize - 1
    return replace(info, upper=None) if limited else info


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "statement": reason.statement,
        "kind": reason.kind,
        "note": reason.note,
        "operator": reason.operator or "",
        **_line(reason.line),
        "because": [_reason(each) for each in reason.because],
    }


def _cause(provenance: Provenance) -> dict[str, str]:
    """The line behind a condition: its place, its text, and the operator that asked."""
    return {**_line(provenance.frame), "operator": provenance.operator or ""}


def _line(frame: UserFrame | SavedFrame | None) -> dict[str, str]:
    if frame is None:
        return {"place": "", "text": ""}
    return {"place": str(frame), "text": frame.line}


def _verification(verification: Verification) -> dict[str, Any]:
    return {
        "passed": bool(verification),
        "verdict": verdict(verification),
        "notes": list(verification.notes),
        "runs": [_run(run) for run in verification.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "sizes": dict(run.sizes),
        "example": run.example,
        "passed": run.passed,
        "compared": run.compared,
        "difference": _plain(run.difference),
        "relative": _plain(run.relative),
        "failure": run.failure or run.model_error,
    }


def _plain(number: Any) -> Any:
    """A number as JSON has it; as text, where JSON has no such number."""
    if isinstance(number, (bool, int, type(None))):
        return number
    if isinstance(number, float) and math.isfinite(number):
        return number
    return str(number)

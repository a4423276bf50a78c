"""Answers to "why": why a dimension has its size, why a guard is there, why inputs do not fit."""

from symfx.explanation.answers import Explanation, Reason
from symfx.explanation.questions import explain
from symfx.explanation.rejections import Rejection, RejectionCause

__all__ = ["Explanation", "Reason", "Rejection", "RejectionCause", "explain"]

"""The HTML of a report: the page's program and style, and the contents as data that it shows.

Nothing of a trace becomes HTML or code. The contents stand in the page as JSON in which no tag can
begin or end, and the program of the page puts them in place as text. The page forbids the browser
to run any script but that program, and to load anything.
"""

from __future__ import annotations

import hashlib
import html
import json
from base64 import b64encode
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from symfx.html_report.contents import contents_of
from symfx.tracing.report import headline
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Verification
from symfx.whole_files import written_whole

__all__ = ["report_page", "write_report"]

#: Characters that could begin or end a tag in the data; the others of note json escapes itself.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def write_report(
    trace: TracedModel,
    path: Path,
    verification: Verification | None,
    why_unverified: str | None = None,
) -> None:
    """Write the report of a trace; the file appears when it is complete.

    Args:
        trace: the trace.
        path: the file.
        verification: its verification; None if it was not verified.
        why_unverified: a sentence that says why it was not.

    Raises:
        OSError: the file cannot be written.
    """
    page = report_page(trace, verification, why_unverified)
    with written_whole(path) as file:
        file.write(page.encode(errors="replace"))  # a name may hold half a character


def report_page(
    trace: TracedModel,
    verification: Verification | None = None,
    why_unverified: str | None = None,
) -> str:
    """The report of a trace as the text of an HTML page; see `write_report`.

    Example:
        >>> import torch
        >>> from symfx.tracing import trace
        >>> page = report_page(trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)]))
        >>> "<title>relu - symfx report</title>" in page
        True
    """
    contents = contents_of(trace, verification, why_unverified)
    script, style = _asset("page.js"), _asset("page.css")
    return Template(_asset("page.html")).substitute(
        policy=html.escape(
            "default-src 'none'; "
            f"script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
            "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        ),
        title=html.escape(f"{trace.name} - symfx report"),
        headline=html.escape(headline(trace)),
        style=style,
        contents=_as_json(contents),
        script=script,
    )


def _as_json(contents: dict[str, Any]) -> str:
    """The contents as JSON that can stand in a script element."""
    text = json.dumps(contents, separators=(",", ":"), allow_nan=False)
    # These characters occur in strings only, where JSON may write each by its number.
    return text.translate(_ESCAPES)


@cache
def _asset(name: str) -> str:
    """A file of the page, which ships in this folder."""
    return files("symfx.html_report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A script or a style as a content security policy names it."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()

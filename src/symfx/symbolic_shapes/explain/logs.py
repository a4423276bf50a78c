"""The log lines about symbols and guards; switches of `symfx.config` add the stack to some."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from symfx import config

if TYPE_CHECKING:
    from symfx.algebra import Term
    from symfx.symbolic_shapes.records import ShapeGuard

__all__ = ["log_guard", "log_specialization", "log_symbol"]

log = logging.getLogger("symfx.symbolic_shapes")


def log_symbol(term: Term, source: Any, hint: Any) -> None:
    """Log, at INFO, that a symbol was made.

    The line has the Python stack if ``config.extended_debug_create_symbol`` lists the symbol's
    name; commas stand between the names in that list.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    wanted = (config.extended_debug_create_symbol or "").split(",")
    place = f" for {source.name}" if source is not None else ""
    value = "" if hint is None else f" = {hint}"
    _log(f"symbol {term.name}{value}{place} made", term.name in wanted)


def log_guard(guard: ShapeGuard) -> None:
    """Log, at INFO, that a guard was added.

    The line has the Python stack if ``config.extended_debug_guard_added`` is the text of the
    guard, as sympy or as symfx writes it.
    """
    if not log.isEnabledFor(logging.INFO):
        return
    wanted = config.extended_debug_guard_added
    asked = wanted is not None and wanted in (str(guard.expr), str(guard.term))
    _log(f"guard {guard} added", asked)


def log_specialization(name: str, value: object) -> None:
    """Warn that a symbol was pinned to a value, if ``config.print_specializations`` is set."""
    if config.print_specializations:
        log.warning("Specializing %s to %s", name, value)


def _cpp_stack() -> list[str]:
    from torch.utils._traceback import CapturedTraceback

    stack: list[str] = CapturedTraceback.extract(cpp=True).format()  # type: ignore[no-untyped-call]
    return stack


def _log(text: str, with_stack: bool) -> None:
    if with_stack and config.extended_debug_cpp:
        text += "\nC++ stack trace:\n" + "".join(_cpp_stack())
    log.info("%s", text, stack_info=with_stack)

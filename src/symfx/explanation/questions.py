"""`Trace.explain` and `symfx.explain`: which answer a question gets."""

from __future__ import annotations

import difflib
import sys
from typing import Any, Literal, TypeAlias

from torch import fx

from symfx.algebra import Term
from symfx.errors import SpecError, describe
from symfx.explanation.answers import Explanation
from symfx.explanation.assumptions import Assumptions
from symfx.explanation.dimensions import (
    dimension_names,
    explain_dimension,
    explain_size,
    size_at,
)
from symfx.explanation.failures import explain_error
from symfx.explanation.guards import explain_condition
from symfx.explanation.nodes import explain_node, named_nodes
from symfx.shape_language import parse_condition
from symfx.shape_language.lowering import condition_term
from symfx.shape_language.texts import Text
from symfx.symbolic_shapes import RuntimeAssert, ShapeGuard, SpecializationRecord, SymbolInfo
from symfx.tracing.report import headline
from symfx.tracing.traced_model import TracedModel
from symfx.tracing.verification import Verification, verdict

__all__ = ["Subject", "SubjectKind", "explain", "explain_subject"]

#: What `Trace.explain` may be asked about.
Subject: TypeAlias = (
    str | ShapeGuard | RuntimeAssert | SpecializationRecord | SymbolInfo | fx.Node | Term | None
)
SubjectKind: TypeAlias = Literal["dimension", "guard", "node"]

#: How many near names a message shows.
_NEAR = 3


def explain(subject: Any = None, /) -> Explanation:
    """Why a program could not be traced, or was compiled again.

    Args:
        subject: an exception that symfx raised; a `symfx.Trace`; or a record of
            `symfx.explain_recompiles`. None for the last exception that was not caught, in an
            interactive session.

    Returns:
        The answer; print it to read it. For a dimension that the program pins, and for a
        data-dependent error, it has the conditions, the operators and the lines that are the cause.

    Raises:
        SpecError: there is nothing to explain, or the object is of another kind.

    Example:
        >>> import symfx, torch
        >>> def pinned(x):
        ...     return x.view(2, 8)
        >>> try:
        ...     symfx.trace(pinned, torch.ones(16), dynamic={"x": ("n",)})
        ... except symfx.TracingError as error:
        ...     print(symfx.explain(error).sentence)  # doctest: +ELLIPSIS
        n is pinned to 16...; the graph holds for this value alone
    """
    if subject is None:
        subject = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if subject is None:
            raise SpecError(
                "there is no exception to explain",
                where="symfx.explain()",
                fix="pass the exception, or call it after one that was not caught",
            )
    if isinstance(subject, BaseException):
        return explain_error(subject, explain_subject)
    method = getattr(subject, "explain", None)
    found = method() if callable(method) and not isinstance(subject, type) else None
    if not isinstance(found, Explanation):
        raise SpecError(
            f"{describe(subject)} cannot be explained",
            where="symfx.explain",
            fix="pass an exception, a trace, or a record of symfx.explain_recompiles; a dimension, "
            "a guard or a node of a trace t is explained by t.explain",
        )
    return found


def explain_subject(
    trace: TracedModel,
    subject: Subject = None,
    kind: SubjectKind | None = None,
    verification: Verification | None = None,
    known: Assumptions | None = None,
) -> Explanation:
    """The answer about a dimension, a guard or a node of a trace; see `symfx.Trace.explain`.

    Args:
        trace: the trace.
        subject: the subject; None for the whole trace.
        kind: the kind of a subject that is given by name.
        verification: the verification of the trace.
        known: what the trace takes for granted, if it was gathered before.
    """
    if kind not in (None, "dimension", "guard", "node"):
        raise SpecError(
            f"kind is {describe(kind)}",
            where="explain(kind=...)",
            fix='give "dimension", "guard" or "node"',
        )
    if subject is None:
        return _whole(trace, verification)
    if isinstance(subject, SymbolInfo):
        return explain_subject(trace, subject.name, "dimension", known=known)
    if isinstance(subject, SpecializationRecord):
        return explain_subject(trace, subject.symbol_name, "dimension", known=known)
    if isinstance(subject, (ShapeGuard, RuntimeAssert)):
        subject = subject.term
    if isinstance(subject, Term):
        if subject.table is not trace.shape_env.table:
            return explain_subject(trace, str(subject), "guard")
        return explain_condition(trace, subject, known)
    if isinstance(subject, fx.Node):
        if not isinstance(subject.graph.owning_module, fx.GraphModule) or not any(
            subject is node for node in named_nodes(trace).values()
        ):
            return explain_subject(trace, subject.name, "node")
        return explain_node(trace, subject)
    if not isinstance(subject, str):
        raise SpecError(
            f"{describe(subject)} is no dimension, no guard and no node",
            where="explain(subject)",
            fix='give the name of a dimension or of a node, a guard such as "seq >= 4", or nothing',
        )
    return _named(trace, subject.strip(), kind, known)


def _named(
    trace: TracedModel, text: str, kind: SubjectKind | None, known: Assumptions | None
) -> Explanation:
    """The answer about what a text names.

    Raises:
        SpecError: it names nothing in the trace.
    """
    dims, nodes = dimension_names(trace), named_nodes(trace)
    if kind in (None, "dimension"):
        if text in dims:
            return explain_dimension(trace, dims[text], known)
        size = size_at(trace, text)
        if size is not None:
            return explain_size(trace, size)
    if kind in (None, "node") and text in nodes:
        return explain_node(trace, nodes[text])
    env = trace.shape_env
    terms = [each.term for each in env.deferred_asserts()]
    terms += [guard.term for guard in (*env.guards, *trace.guards)]
    conditions = {str(term): term for term in terms}
    if kind in (None, "guard"):
        if text in conditions:
            return explain_condition(trace, conditions[text])
        if kind == "guard" or not text.replace(".", "_").isidentifier():
            term = _condition(trace, text, dims)
            if term is not None:
                return explain_condition(trace, term)
    raise _unknown(text, kind, [*dims], [*nodes], [*conditions])


def _condition(trace: TracedModel, text: str, dims: dict[str, SymbolInfo]) -> Term | None:
    """A condition on dimensions as a term; None for a text of another form."""
    env = trace.shape_env
    label = "explain(subject)"
    try:
        tree = parse_condition(text, label)
        names = {name: info.term for name, info in dims.items()}
        return condition_term(env.table, tree, names, Text(text, label))
    except SpecError:
        return None


def _unknown(
    text: str, kind: SubjectKind | None, dims: list[str], nodes: list[str], guards: list[str]
) -> SpecError:
    every = {"dimension": dims, "guard": guards, "node": nodes}
    names = every[kind] if kind is not None else [*dims, *nodes, *guards]
    near = difflib.get_close_matches(text, names, n=_NEAR, cutoff=0.5)
    wanted = {
        "dimension": f"the dimensions are {', '.join(dims) or 'all static'}",
        "guard": f"the guards are {', '.join(guards)}" if guards else "the trace has no guards",
        "node": "print the trace to see the names of its nodes",
    }
    fix = f"did you mean {', '.join(near)}? " if near else ""
    fix += wanted[kind or "dimension"]
    what = f"no {kind}" if kind else "no dimension, no guard and no node"
    return SpecError(f"{text!r} is {what} of the trace", where="explain(subject)", fix=fix)


def _whole(trace: TracedModel, verification: Verification | None) -> Explanation:
    """All that is notable: pins first, then dimensions that are not free, then guards."""
    env = trace.shape_env
    names = dimension_names(trace)
    pinned = [r.symbol_name for r in trace.specializations]
    shown = [*pinned, *(i.name for i in trace.symbols if i.unbacked and not i.sources)]
    for info in names.values():
        by = env.facts.replacements.get(info.term)
        if by is not None and by.free_symbols and info.sources:
            shown.append(info.name)
    known = Assumptions(env)
    parts = [explain_dimension(trace, names[name], known) for name in dict.fromkeys(shown)]
    symbols = {names[name].term for name in pinned}
    for guard in trace.guards:
        # The answer about a pinned dimension has its guards.
        if not guard.term.free_symbols <= symbols:
            parts.append(explain_condition(trace, guard.term, known))
    details = [("note", note) for note in trace.notes]
    if verification is not None:
        details.append(("verification", verdict(verification)))
    return Explanation(
        trace.name, "trace", headline(trace), details=tuple(details), parts=tuple(parts)
    )

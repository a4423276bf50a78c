"""The error about a question that only data decides: its text, examples and fixes.

The text names the missing fact and gives an example of each outcome. Each fix that it offers
was tried: with the fix known, the question is decided.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from types import FrameType
from typing import Any, Protocol

import sympy
import torch
from torch.utils import _pytree as pytree

from symfx.algebra import Table, Term
from symfx.algebra.languages.python import to_python
from symfx.algebra.reasoning.facts import UNDEFINED, Facts
from symfx.algebra.reasoning.proofs import example
from symfx.algebra.reasoning.prover import Prover
from symfx.sym_node import SymNode, SymTypes
from symfx.sym_node.comparisons import as_asked
from symfx.symbolic_shapes.environment.symbols import Symbols
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.explain.provenance import current_provenance
from symfx.symbolic_shapes.explain.suggestions import fix_for_condition, fix_for_number
from symfx.symbolic_shapes.explain.torchs_words import in_torchs_words
from symfx.torch_bridge.interpreted_lines import interpreted_lines, interpreted_variables
from symfx.user_code import asking_expression, running_node, user_frame

__all__ = ["data_dependent_error", "symbolic_variables"]

#: How many known facts, and how many fixes, the text shows.
_NEAREST, _FIXES = 4, 3
#: The example of a value for a term that may have any.
_SOME = 2
#: Bounds from here on say only that a size fits a machine word.
_WORD = 1 << 62


class _Environment(Protocol):
    """What the error asks of a ShapeEnv."""

    current_operator: object
    speaks_torch: bool
    asked: dict[Term, tuple[str, Term, Term]]
    size_like: set[sympy.Symbol]

    @property
    def table(self) -> Table: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def prover(self) -> Prover: ...
    @property
    def symbols(self) -> Symbols: ...


def data_dependent_error(env: _Environment, term: Term) -> GuardOnDataDependentSymNode:
    """The error that says why the value of a term is open, and how to decide it.

    Args:
        env: the ShapeEnv that was asked for the value.
        term: an integer, real or boolean term with unbacked symbols.
    """
    provenance = current_provenance(env.current_operator)
    frame = None if interpreted_lines() else user_frame()
    called = _names_in_user_code(env, frame)
    names = {**called, **_symbol_names(env, term, called)}
    expression = None if frame is None else asking_expression(frame)
    unnamed = _unnamed(env, term, called)

    def text(t: Term) -> str:
        return to_python(t, names)

    # A symbol without a name says nothing to the user, who wrote an expression.
    whole = expression
    if whole is None and unnamed and frame is not None:
        node = running_node(frame)[1]
        whole = ast.unparse(node) if isinstance(node, ast.expr) else None
    shown = text(term) if whole is None or not unnamed else whole
    if whole is not expression:
        missing = "no known fact decides what it asks"
    elif term.sort == "bool":
        missing = f"the missing fact is {shown} or its opposite"
    else:
        missing = f"no known fact pins the value of {shown}"
    # The message begins as torch's does: programs look for these words.
    lines = [f"Could not guard on data-dependent expression {shown}; {missing}."]
    lines += _origins(env, term, names)
    known = env.facts.connected(term) if shown == text(term) else ()
    if known:
        known = [c for c in known if c.op != "ge" or c.args[0].const < _WORD]
        nearest = sorted(known, key=lambda c: len(c.free_symbols - term.free_symbols))[:_NEAREST]
        more = f" and {len(known) - _NEAREST} more" if len(known) > _NEAREST else ""
        lines.append("  known: " + ", ".join(map(text, nearest)) + more)
    if shown == text(term):
        lines += _outcomes(env, term, text)
    found = [f for f in _verified_fixes(env.facts, term) if not _unnamed(env, f, called) or unnamed]
    if unnamed and frame is not None:
        if term.sort == "bool":
            fix = fix_for_condition(expression, frame)
        else:
            fix = fix_for_number(expression, _SOME if found else None, frame)
    else:
        fix = _fix_in_names(term, found, names)
    condition = as_asked(term, env.asked.get(term))
    if env.speaks_torch:
        lines += in_torchs_words(condition, term.sort, env.size_like, provenance)
    return GuardOnDataDependentSymNode(
        condition, "\n".join(lines), where=str(provenance).removeprefix("at "), fix=fix
    )


def _fix_in_names(term: Term, found: Sequence[Term], names: Mapping[Term, str]) -> str:
    """What to do, in the names of the program's variables.

    Args:
        term: the term whose value is open.
        found: conditions that decide it.
        names: the names of symbols.
    """
    fixes = [f"torch._check({_pasteable(condition, names)})" for condition in found]
    if not fixes:
        return "keep the value symbolic, or make it an input of the program"
    if term.sort == "int":
        return f"if it is always the same number, say so before this line: {fixes[0]}"
    fix = "if one of these always holds, write it before this line: " + ", or ".join(fixes)
    if term.sort == "bool":
        either = _pasteable(term, names)
        fix += (
            "; if both outcomes are correct, ask symfx.symbolic_shapes."
            f"guard_or_false({either}) or guard_or_true({either})"
        )
    return fix


def _unnamed(env: _Environment, term: Term, called: Mapping[Term, str]) -> bool:
    """Whether a term has a symbol that no variable of the user's names."""
    if term in called:
        return False
    if term.op == "symbol":
        return term not in env.symbols.hints
    return any(_unnamed(env, part, called) for part in term.operands)


def _names_in_user_code(env: _Environment, frame: FrameType | None) -> dict[Term, str]:
    """The names that the user's local variables give to symbols and to conditions."""
    names: dict[Term, str] = {}
    variables = interpreted_variables() if frame is None else frame.f_locals
    for text, number in symbolic_variables(variables):
        node = number.node
        owner: object = node.shape_env if type(node) is SymNode else None
        if owner is not env or (node.term.op != "symbol" and node.term.sort != "bool"):
            continue
        # A plain variable is a better name than a part of a container.
        if node.term not in names or not names[node.term].isidentifier():
            names[node.term] = text
    symbols = {term: text for term, text in names.items() if term.op == "symbol"}
    for term, text in names.items():
        # A condition on named numbers says more than its own name.
        if term.sort == "bool" and not term.free_symbols <= set(symbols):
            symbols[term] = text
            symbols.setdefault(env.table.not_(term), f"torch.sym_not({text})")
    return symbols


def symbolic_variables(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The symbolic numbers in local variables, each with the Python that reads it.

    The sizes of tensors are among them, and the members of containers.
    """
    for variable, value in variables.items():
        if not variable.isidentifier():  # of an assertion that pytest has written anew
            continue
        for path, leaf in pytree.tree_leaves_with_path(value):
            name = variable + pytree.keystr(path)
            if isinstance(leaf, SymTypes):
                yield name, leaf
            elif isinstance(leaf, torch.Tensor):
                for i, size in enumerate(leaf.shape):
                    if isinstance(size, SymTypes):
                        yield f"{name}.shape[{i}]", size


def _symbol_names(env: _Environment, term: Term, called: Mapping[Term, str]) -> dict[Term, str]:
    """Names of symbols that are called like a variable of the user's that is another number."""
    taken = set(called.values())
    return {s: f"{s.name}_" for s in term.free_symbols if s not in called and s.name in taken}


#: The functions for operations whose Python form would ask for the value of a symbolic number.
_SYMBOLIC_WORDS = {
    "min": "torch.sym_min",
    "max": "torch.sym_max",
    "fmin": "torch.sym_min",
    "fmax": "torch.sym_max",
    "to_real": "torch.sym_float",
    "where": "torch.sym_ite",
}


def _pasteable(term: Term, names: Mapping[Term, str]) -> str:
    """A term as Python that asks for the value of no symbolic number."""
    texts = dict(names)

    def name(part: Term) -> None:
        for below in part.operands:
            name(below)
        inner = [to_python(below, texts) for below in part.operands]
        if part.op in ("and", "or"):
            texts[part] = "(" + f" {'&' if part.op == 'and' else '|'} ".join(
                f"({below})" for below in inner
            ) + ")"  # fmt: skip
        elif part.op == "not" and part.args[0].op != "eq":
            texts[part] = f"torch.sym_not({inner[0]})"
        elif part.op in _SYMBOLIC_WORDS:
            word = _SYMBOLIC_WORDS[part.op]
            if part.op.endswith(("min", "max")):  # the functions take two numbers
                texts[part] = reduce(lambda a, b: f"{word}({a}, {b})", inner)
            else:
                texts[part] = f"{word}({', '.join(inner)})"

    name(term)
    return to_python(term, texts)


def _origins(env: _Environment, term: Term, names: Mapping[Term, str]) -> list[str]:
    """A line for each unbacked symbol of a term: the operator and the place that made it."""
    lines = []
    for symbol in sorted(term.free_symbols, key=lambda s: s.uid):
        if symbol in env.symbols.hints:
            continue
        name = names.get(symbol, symbol.name)
        known_as = "" if name == symbol.name else f" ({symbol.name})"
        lines.append(f"  {name}{known_as} is made {env.symbols.origin_of(symbol)}")
    return lines


def _outcomes(env: _Environment, term: Term, text: Callable[[Term], str]) -> list[str]:
    """A line for each outcome: values that the facts admit and that lead to it."""
    if term.sort == "bool":
        wanted = [("True", term), ("False", env.table.not_(term))]
    elif term.sort == "int":
        low, _ = env.prover.range(term)
        one = env.table.const(2 if low is None else low)
        wanted = [("one value", env.table.eq(term, one)), ("another", env.table.ne(term, one))]
    else:
        return []
    lines = []
    for outcome, condition in wanted:
        try:
            found = example(env.facts, condition, env.symbols.hints)
        except UNDEFINED:
            found = None
        if found is not None:
            values = ", ".join(
                f"{text(s)} = {found[s]}"
                for s in sorted(term.free_symbols, key=lambda s: s.uid)
                if s in found
            )
            lines.append(f"  {outcome} for {values}")
    return lines


def _verified_fixes(facts: Facts, term: Term) -> list[Term]:
    """Conditions that decide the question once they are known; each was tried."""
    table = facts.table
    if term.sort == "bool":
        candidates = [term, table.not_(term)]
        candidates += _stronger_bounds(facts, term)
    elif term.sort == "int":
        low, high = Prover(facts).range(term)
        value = _SOME if low is None else max(low, _SOME)
        candidates = [table.eq(term, table.const(value if high is None else min(value, high)))]
    else:
        candidates = []
    fixes: list[Term] = []
    for candidate in candidates:
        if candidate not in fixes and _settles(facts, candidate, term):
            fixes.append(candidate)
    return fixes[:_FIXES]


def _stronger_bounds(facts: Facts, condition: Term) -> list[Term]:
    """Simple lower bounds of a condition's only symbol."""
    symbols = condition.free_symbols
    if len(symbols) != 1:
        return []
    (symbol,) = symbols
    if symbol.sort != "int":
        return []
    return [facts.table.le(facts.table.const(k), symbol) for k in (1, 2)]


def _settles(facts: Facts, fix: Term, term: Term) -> bool:
    """Whether `fix` decides the term, and contradicts no fact."""
    try:
        world = facts.layer(term)
        world.assume(facts.resolve(fix))
        if world.contradiction is not None:
            return False
        prover = Prover(world)
        if term.sort == "bool":
            return prover.decide(term) is not None
        low, high = prover.range(term)
        return low is not None and low == high
    except UNDEFINED:
        return False

"""The error for a program whose course depends on data: what is missing, what each outcome
looks like, and lines to paste that were tried before they are offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

from symfx.algebra import Term
from symfx.algebra.languages.python import to_python
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.reasoning.facts import UNDEFINED, Facts
from symfx.algebra.reasoning.proofs import example
from symfx.algebra.reasoning.prover import Prover
from symfx.sym_node import SymNode
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.explain.provenance import capture, symbolic_locals, user_frame

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["data_dependent_error"]

# As many known facts are shown, and as many ways out.
_NEAREST = 4
_FIXES = 3
# A number to show how to pin what may be any.
_SOME = 2
_WORD = 1 << 62


def data_dependent_error(env: ShapeEnv, term: Term) -> GuardOnDataDependentSymNode:
    """The error that says why the value of a term is open, and how to settle it.

    Args:
        env: the environment that was asked.
        term: an integer, real or boolean term that depends on unbacked symbols.
    """
    provenance = capture(env.current_operator)
    called = _names_in_user_code(env)
    names = {**called, **_symbol_names(env, term, called)}

    def text(t: Term) -> str:
        return to_python(t, names)

    if term.sort == "bool":
        missing = f"nothing known says so: {text(term)}, or its opposite, is the missing fact"
    else:
        missing = f"nothing known pins the value of {text(term)}"
    # As torch begins it, for those who look for that.
    lines = [f"Could not guard on data-dependent expression {text(term)}; {missing}."]
    lines += _origins(env, term, names)
    known = env.facts.connected(term)
    if known:
        # That a size fits a machine word helps nobody.
        known = [c for c in known if c.op != "ge" or c.args[0].const < _WORD]
        nearest = sorted(known, key=lambda c: len(c.free_symbols - term.free_symbols))[:_NEAREST]
        more = f" and {len(known) - _NEAREST} more" if len(known) > _NEAREST else ""
        lines.append("  known: " + ", ".join(map(text, nearest)) + more)
    lines += _outcomes(env, term, text)
    fixes = [f"torch._check({_pasteable(f, names)})" for f in _verified_fixes(env.facts, term)]
    if fixes and term.sort == "int":
        fix = f"where it is always the same number, say so before this line, as by {fixes[0]}"
    elif fixes:
        fix = "where one of these always holds, write it before this line: " + ", or ".join(fixes)
        if term.sort == "bool":
            either = _pasteable(term, names)
            fix += (
                "; where either outcome will do, ask symfx.symbolic_shapes."
                f"guard_or_false({either}) or guard_or_true({either})"
            )
    else:
        fix = "keep the value symbolic, or make it an input of the program"
    return GuardOnDataDependentSymNode(
        to_sympy(term), "\n".join(lines), where=str(provenance).removeprefix("at "), fix=fix
    )


def _names_in_user_code(env: ShapeEnv) -> dict[Term, str]:
    """What the user's code calls the symbols that it holds at this moment."""
    names: dict[Term, str] = {}
    frame = user_frame()
    for text, number in () if frame is None else symbolic_locals(frame):
        node = number.node
        if type(node) is not SymNode or node.shape_env is not env or node.term.op != "symbol":
            continue
        # A number that has a variable of its own is called by that.
        if node.term not in names or not names[node.term].isidentifier():
            names[node.term] = text
    return names


def _symbol_names(env: ShapeEnv, term: Term, called: Mapping[Term, str]) -> dict[Term, str]:
    """Names for symbols that would be taken for a variable of the user's that is another one."""
    taken = set(called.values())
    return {s: f"{s.name}_" for s in term.free_symbols if s not in called and s.name in taken}


# Where Python's own word for an operation would ask for the value of what is symbolic.
_SYMBOLIC_WORDS = {
    "min": "torch.sym_min",
    "max": "torch.sym_max",
    "fmin": "torch.sym_min",
    "fmax": "torch.sym_max",
    "to_real": "torch.sym_float",
    "where": "torch.sym_ite",
}


def _pasteable(term: Term, names: Mapping[Term, str]) -> str:
    """A term as Python that asks for no value of what is symbolic in it."""
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
            if part.op.endswith(("min", "max")):  # of two at a time
                texts[part] = reduce(lambda a, b: f"{word}({a}, {b})", inner)
            else:
                texts[part] = f"{word}({', '.join(inner)})"

    name(term)
    return to_python(term, texts)


def _origins(env: ShapeEnv, term: Term, names: Mapping[Term, str]) -> list[str]:
    lines = []
    for symbol in sorted(term.free_symbols, key=lambda s: s.uid):
        if symbol in env.symbols.hints:
            continue
        name = names.get(symbol, symbol.name)
        known_as = "" if name == symbol.name else f" ({symbol.name})"
        lines.append(f"  {name}{known_as} is made {env.symbols.origin_of(symbol)}")
    return lines


def _outcomes(env: ShapeEnv, term: Term, text: Callable[[Term], str]) -> list[str]:
    """A pair of inputs that the facts admit and that lead to different outcomes."""
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
    """Conditions that, once known, settle the question."""
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
    """A simple bound of the only symbol that settles a comparison with a constant."""
    symbols = condition.free_symbols
    if len(symbols) != 1:
        return []
    (symbol,) = symbols
    if symbol.sort != "int":
        return []
    return [facts.table.le(facts.table.const(k), symbol) for k in (1, 2)]


def _settles(facts: Facts, fix: Term, term: Term) -> bool:
    """Whether the question is closed, and the facts still hold somewhere, once `fix` is known."""
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

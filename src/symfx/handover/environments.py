"""The environment of a trace as data: its symbols, facts, guards and assertions, with their lines.

An environment that was read knows what the one that was written knew: it admits the same inputs,
and prints the same guards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch._dynamo.source import ConstantSource, TensorProperty, TensorPropertySource
from torch._guards import Source as TorchSource

from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.handover.numbers import NumberReader, NumberWriter
from symfx.symbolic_shapes import (
    InputFact,
    Provenance,
    RuntimeAssert,
    ShapeEnv,
    ShapeGuard,
    SpecializationRecord,
)
from symfx.symbolic_shapes.checks.sources import read_source as parse_source
from symfx.untrusted import Item, is_identifier, one_line, shown
from symfx.user_code import SavedFrame, UserFrame

__all__ = ["describe_environment", "read_environment"]

_SORTS = {"int": "int", "real": "real", "bool": "bool"}
_KINDS = {"symbol": "symbol", "static": "static", "expression": "expression"}
_COMPARISONS = {name: name for name in ("eq", "ne", "lt", "le", "gt", "ge")}
#: The sources of parameters: a model may have thousands of them.
_PLAIN_SOURCE = re.compile(
    r"[A-Za-z_][A-Za-z_0-9]*\.((size|stride)\(\)\[\d{1,3}\]|storage_offset\(\))"
)
#: More than the largest models have.
_SYMBOLS, _CONDITIONS = 5_000, 50_000


# -- writing ---------------------------------------------------------------------------------------


def describe_environment(env: ShapeEnv, numbers: NumberWriter) -> dict[str, Any]:
    """An environment as data; see the module.

    Args:
        env: the environment.
        numbers: writes the terms. Those of the graph are written before.
    """
    facts, knowledge = env.facts, env.knowledge
    records = env.symbols.records
    assumed = [condition for condition, because in facts.reasons.items() if because is condition]
    return {
        "symbols": [_describe_symbol(env, symbol, numbers) for symbol in records],
        "replacements": [
            {
                "symbol": symbol.name,
                "by": numbers.of_term(by),
                "cause": _describe_cause(knowledge.replacement_origins.get(symbol)),
            }
            for symbol, by in facts.replacements.items()
            if symbol in records and by.free_symbols <= records.keys()
        ],
        # Symbols without a record are the prover's own, and so are the facts about them.
        "facts": [numbers.term(c) for c in assumed if c.free_symbols <= records.keys()],
        # With these, a guard that follows from the others is found again.
        "given": [numbers.term(c) for c in knowledge.given if c.free_symbols <= records.keys()],
        "guards": [
            {
                "condition": numbers.term(guard.term),
                "cause": _describe_cause(guard.provenance),
                "size_oblivious": guard.size_oblivious,
                "asked": _describe_asked(guard.asked, numbers),
            }
            for guard in env.guards
        ],
        "asserts": [
            {
                "condition": numbers.term(asserted.term),
                "message": str(asserted.message),
                "cause": _describe_cause(asserted.provenance),
                "asked": _describe_asked(asserted.asked, numbers),
            }
            for asserted in env.deferred_asserts()
        ],
        "specializations": [
            {
                "symbol": record.symbol_name,
                "value": numbers.number(record.value),
                "cause": _describe_cause(record.provenance),
            }
            for record in env.specialization_records()
        ],
        # Numbers that are conditions print as the program wrote them.
        "asked": [
            {"condition": numbers.term(condition), "as": asked}
            for condition in [*numbers.conditions]
            if (asked := _describe_asked(env.asked.get(condition), numbers)) is not None
        ],
        "inputs": [
            {
                "source": fact.source,
                "kind": fact.kind,
                "value": numbers.of_term(fact.term),
                **({"asked": True} if fact.asked else {}),
            }
            for fact in env.input_facts()
        ],
    }


def _describe_symbol(env: ShapeEnv, symbol: Term, numbers: NumberWriter) -> dict[str, Any]:
    record, view = env.symbols.records[symbol], to_sympy(symbol)
    return {
        "name": symbol.name,
        "sort": symbol.sort,
        "sources": [source.name for source in record.sources],
        "hint": numbers.number(env.symbols.hints.get(symbol)),
        "least": (1 if view.is_positive else 0) if view.is_nonnegative else None,
        "size": view in env.knowledge.size_like,
        "input": view in env.symbols.unbacked_inputs,
        "cause": _describe_cause(record.provenance),
    }


def _describe_cause(provenance: Provenance | None) -> dict[str, Any] | None:
    if provenance is None or (provenance.frame is None and provenance.operator is None):
        return None
    frame: UserFrame | SavedFrame | None = provenance.frame
    return {
        "operator": provenance.operator,
        "line": None
        if frame is None
        else {
            "file": frame.filename,
            "number": frame.lineno,
            "function": frame.function,
            "text": frame.line,
        },
    }


def _describe_asked(
    asked: tuple[str, Term, Term] | None, numbers: NumberWriter
) -> list[Any] | None:
    if asked is None or asked[0] not in _COMPARISONS:
        return None
    return [asked[0], numbers.term(asked[1]), numbers.term(asked[2])]


# -- reading ---------------------------------------------------------------------------------------


def read_environment(
    item: Item,
    terms: Item,
    read_source: Callable[[Item], TorchSource] | None = None,
) -> tuple[ShapeEnv, NumberReader]:
    """The environment that data describe, and the reader of the numbers of its file.

    Args:
        item: the data of `describe_environment`.
        terms: the list of terms of the file.
        read_source: reads the source of a symbol; by default, as it was written.

    Raises:
        TraceFileError: the data describe no environment.
    """
    fields = item.fields(
        "symbols",
        "replacements",
        "facts",
        "guards",
        "asserts",
        "specializations",
        "asked",
        "inputs",
        optional=("given",),  # versions 1 to 3 do not have it
    )
    env = ShapeEnv()
    symbols: dict[str, Term] = {}
    for described in fields["symbols"].items(_SYMBOLS):
        symbol = _read_symbol(described, env, symbols, read_source)
        symbols[symbol.name] = symbol
    numbers = NumberReader(terms, env.table, symbols)
    with item.source.guarding("the facts cannot be learned", fields["facts"].path):
        _learn(fields, env, symbols, numbers)
    if env.facts.contradiction is not None:
        raise fields["facts"].refusal("its facts contradict each other")
    env.ledger.guards += [
        _read_guard(guard, numbers) for guard in fields["guards"].items(_CONDITIONS)
    ]
    env.ledger.asserts += [
        _read_assert(asserted, numbers) for asserted in fields["asserts"].items(_CONDITIONS)
    ]
    env.knowledge.specializations[:] = [
        _read_specialization(record, numbers)
        for record in fields["specializations"].items(_CONDITIONS)
    ]
    for described in fields["asked"].items(_CONDITIONS):
        inner = described.fields("condition", "as")
        asked = _read_asked(inner["as"], numbers)
        if asked is not None:
            env.asked[numbers.condition(inner["condition"])] = asked
    for described in fields["inputs"].items(_CONDITIONS):
        fact = _read_input(described, numbers)
        env.inputs.facts[fact.source] = fact
    return env, numbers


def _read_symbol(
    item: Item,
    env: ShapeEnv,
    known: Mapping[str, Term],
    read_source: Callable[[Item], TorchSource] | None,
) -> Term:
    fields = item.fields("name", "sort", "sources", "hint", "least", "size", "input", "cause")
    name = fields["name"].text(200)
    if not is_identifier(name) or name in known:
        raise fields["name"].refusal("this cannot be the name of a symbol")
    sort: Any = fields["sort"].choice(_SORTS, "sort of symbol")
    hint = _read_hint(fields["hint"], sort)
    least = fields["least"]
    low = None if least.value is None else least.whole(0, 1)
    read = read_source or _read_torch_source
    sources = [read(source) for source in fields["sources"].items(1_000)]
    first = sources[0] if sources else None
    symbol = env.symbols.new(name, sort, source=first, hint=hint, low=low)
    for source in sources[1:]:
        env.symbols.add_source(symbol, source)
    env.symbols.records[symbol].provenance = _read_cause(fields["cause"])
    if fields["size"].truth():
        env.knowledge.size_like.add(to_sympy(symbol))
    if fields["input"].truth():
        env.symbols.unbacked_inputs[to_sympy(symbol)] = None
    if hint is not None and first is not None:
        env.inputs.source_to_var[first.name] = to_sympy(symbol)
    return symbol


def _read_hint(item: Item, sort: str) -> Any:
    if item.value is None:
        return None
    if sort == "int":
        return item.whole(-(1 << 63), 1 << 63)
    if sort == "bool":
        return item.truth()
    kind, inner = item.single()
    if kind != "float":
        raise item.refusal("a float is needed here")
    with item.source.guarding("this is no number", item.path):
        return float.fromhex(inner.text(50))


def _read_torch_source(item: Item) -> TorchSource:
    """The source of torch that has this name."""
    name = item.text(5_000)
    try:
        read = parse_source(name)
    except SymfxError as error:
        raise item.refusal(error.what) from None
    measure = read.measure
    owner = name.partition(f".{measure.kind}()")[0]
    kinds = {
        "size": TensorProperty.SIZE,
        "stride": TensorProperty.STRIDE,
        "storage_offset": TensorProperty.STORAGE_OFFSET,
    }
    if measure.kind in kinds and owner != name:
        source = TensorPropertySource(ConstantSource(owner), kinds[measure.kind], measure.dim)
        if source.name == name:
            return source
    return ConstantSource(name)


def _learn(
    fields: Mapping[str, Item],
    env: ShapeEnv,
    symbols: Mapping[str, Term],
    numbers: NumberReader,
) -> None:
    for described in fields["replacements"].items(_CONDITIONS):
        inner = described.fields("symbol", "by", "cause")
        symbol = inner["symbol"].choice(symbols, "symbol that is called")
        by = numbers.as_term(inner["by"])
        if by.sort != symbol.sort or symbol in by.free_symbols:
            raise described.refusal(f"{by} cannot stand for {symbol}")
        env.facts.replace(symbol, by)
        env.knowledge.replacement_origins[symbol] = _read_cause(inner["cause"])
    for condition in fields["facts"].items(_CONDITIONS):
        env.facts.assume(numbers.condition(condition))
    for condition in fields["given"].items(_CONDITIONS) if "given" in fields else ():
        env.knowledge.given.append(numbers.condition(condition))


def _read_guard(item: Item, numbers: NumberReader) -> ShapeGuard:
    fields = item.fields("condition", "cause", "size_oblivious", "asked")
    return ShapeGuard(
        numbers.condition(fields["condition"]),
        _read_cause(fields["cause"]),
        fields["size_oblivious"].truth(),
        _read_asked(fields["asked"], numbers),
    )


def _read_assert(item: Item, numbers: NumberReader) -> RuntimeAssert:
    fields = item.fields("condition", "message", "cause", "asked")
    return RuntimeAssert(
        numbers.condition(fields["condition"]),
        one_line(fields["message"].text(10_000)),
        _read_cause(fields["cause"]),
        _read_asked(fields["asked"], numbers),
    )


def _read_asked(item: Item, numbers: NumberReader) -> tuple[str, Term, Term] | None:
    if item.value is None:
        return None
    method, left, right = item.items(exactly=3)
    return method.choice(_COMPARISONS, "comparison"), numbers.term(left), numbers.term(right)


def _read_specialization(item: Item, numbers: NumberReader) -> SpecializationRecord:
    fields = item.fields("symbol", "value", "cause")
    value = numbers.number(fields["value"])
    if value is None or isinstance(value, Term):
        raise fields["value"].refusal("the value of a symbol is a plain number")
    return SpecializationRecord(fields["symbol"].identifier(), value, _read_cause(fields["cause"]))


def _read_input(item: Item, numbers: NumberReader) -> InputFact:
    # A fact is there for each size of each parameter, so few items are made.
    fields = item.raw_fields("source", "kind", "value", optional=("asked",))
    source: Any = fields["source"]
    kind: Any = fields["kind"]
    if type(source) is not str or len(source) > 5_000 or not _PLAIN_SOURCE.fullmatch(source):
        source = _read_torch_source(item.at("source")).name
    if kind not in _KINDS.values():
        raise item.refusal(f"there is no kind of fact {shown(kind)}")
    asked = "asked" in fields and item.at("asked").truth()
    return InputFact(source, kind, numbers.as_term(item.at("value")), asked)


def _read_cause(item: Item) -> Provenance:
    if item.value is None:
        return Provenance()
    fields = item.fields("operator", "line")
    operator = fields["operator"]
    frame = None
    if fields["line"].value is not None:
        line = fields["line"].fields("file", "number", "function", "text")
        frame = SavedFrame(
            one_line(line["file"].text(5_000)),
            line["number"].whole(0, 1 << 31),
            one_line(line["function"].text(5_000)),
            one_line(line["text"].text(10_000)),
        )
    name = None if operator.value is None else one_line(operator.text(1_000))
    return Provenance(frame, name)

"""The comparison of two environments: their facts, their symbols and their guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import sympy

from symfx.algebra import Table, Term
from symfx.algebra.terms.portable import carry
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.environment.recorder import Recorder

__all__ = ["NotEqualError", "environment_state", "shape_env_check_state_equal"]


class NotEqualError(SymfxError):
    """Two environments that differ.

    Args:
        msg: the kind of the difference.
        mismatched: for each difference its subject, the left value and the right one.

    Example:
        >>> print(NotEqualError("field values don't match:", [("guards: not equal.", "[]", "[a]")]))
        ShapeEnv not equal: field values don't match:
        <BLANKLINE>
        ==> guards: not equal.
          >  Left: []
          > Right: [a]
        <BLANKLINE>
    """

    def __init__(self, msg: str, mismatched: Sequence[tuple[str, str, str]]) -> None:
        self.mismatched = list(mismatched)
        details = "\n".join(
            f"==> {subject}\n  >  Left: {left}\n  > Right: {right}"
            for subject, left, right in mismatched
        )
        super().__init__(f"ShapeEnv not equal: {msg}\n\n{details}\n")


def shape_env_check_state_equal(
    env1: Any,
    env2: Any,
    non_state_variable_names: Sequence[str],
    map_value: Callable[[str, Any], Any],
) -> None:
    """Compare two environments field by field.

    The fields of a ShapeEnv are those of `environment_state`; the fields of any other object are
    its attributes.

    Args:
        env1: the left environment.
        env2: the right environment.
        non_state_variable_names: fields to leave out.
        map_value: gives the value to compare, from a field's name and value.

    Raises:
        NotEqualError: a field differs, or one has a field that the other lacks.

    Example:
        >>> from symfx.symbolic_shapes import ShapeEnv
        >>> shape_env_check_state_equal(ShapeEnv(), ShapeEnv(), (), lambda name, value: value)
    """
    # Both environments' terms move to one table, in which equal terms are one object.
    table = Table()
    left, right = (
        {k: v for k, v in _fields(env, table).items() if k not in non_state_variable_names}
        for env in (env1, env2)
    )
    if left.keys() != right.keys():
        alone = (
            "found unique fields:",
            str(sorted(left.keys() - right.keys())),
            str(sorted(right.keys() - left.keys())),
        )
        raise NotEqualError("field set mismatch:", [alone])
    differences = []
    for name in sorted(left):
        a, b = map_value(name, left[name]), map_value(name, right[name])
        if a != b:
            differences.append((f"{name}: values don't match.", _text(a), _text(b)))
    if differences:
        raise NotEqualError("field values don't match:", differences)


# Attributes of an environment that are compared without a change of form.
_PLAIN_ATTRIBUTES = (
    "exclusion_constraints",
    "real_tensor_prop_unbacked_vals",
    "size_like",
    "unbacked_inputs",
    "unbacked_renamings",
    "unbacked_symfloat_counter",
    "unbacked_symint_counter",
    "unique_ids",
    "var_to_hint_override",
)


def _fields(env: Any, table: Table) -> dict[str, Any]:
    if isinstance(getattr(env, "recorder", None), Recorder):  # a ShapeEnv of symfx
        return environment_state(env, table)
    return dict(vars(env))


def environment_state(env: Any, table: Table | None = None) -> dict[str, Any]:
    """The knowledge of an environment, by field, as plain data; terms are in a table of their own.

    The provenance of guards is left out, and so are questions that were only asked.
    """
    table = Table() if table is None else table

    def plain(value: Any) -> Any:
        if isinstance(value, Term):
            return str(carry(value, table))
        if isinstance(value, sympy.Basic):
            return plain(env.symbols.reader.read(value))
        if isinstance(value, SymTypes):
            return str(value)  # the size of a ragged dimension
        if isinstance(value, dict):
            return {plain(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, (set, frozenset)):
            return sorted({str(plain(v)) for v in value})
        if is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return value

    facts = env.facts
    symbols = env.symbols.records
    own = symbols.keys()
    # The prover also has facts about auxiliary symbols, which are left out.
    known = [c for c, holds in facts.known.items() if holds and c.free_symbols <= own]
    state: dict[str, Any] = {
        "settings": env.settings,
        "symbols": {s.name: s.sort for s in symbols},
        "backed_var_to_val": env.symbols.hints,
        "var_to_range": {s: facts.bounds(s) for s in symbols if s.sort == "int"},
        "var_to_sources": {
            s: [source.name for source in record.sources]
            for s, record in symbols.items()
            if record.sources
        },
        "source_to_var": env.source_to_var,
        "input_facts": {f.source: f.term for f in env.input_facts()},
        "val_to_var": env.val_to_var,
        "dimensions": {f"{source}[{i}]": dim for (source, i), dim in env.symbols.dims.items()},
        "facts": set(known),
        "replacements": facts.replacements,
        "congruences": {a: m for a, m in facts.congruences.items() if a.free_symbols <= own},
        "guards": [guard.term for guard in env.guards],
        "ignored_guards": [guard.term for guard in env.ignored_guards],
        "deferred_runtime_asserts": [(a.term, a.message) for a in env.deferred_asserts()],
        "specializations": [(r.symbol_name, r.value) for r in env.knowledge.specializations],
        "frozen": env.frozen,
        "runtime_asserts_frozen": env.runtime_asserts_frozen,
        **{name: getattr(env, name) for name in _PLAIN_ATTRIBUTES},
    }
    return {name: plain(value) for name, value in state.items()}


def _text(value: Any) -> str:
    """A value as text, in which the items of dicts and sets are sorted."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: str(item[0]))
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in items) + "}"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(str, value))) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)

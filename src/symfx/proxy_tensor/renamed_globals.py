"""Code that loads other global names: ``max(n, 16)`` that loads ``form`` in place of ``max``.

Only names and their numbers change. The instructions, their lengths, the table of lines and the
table of exceptions stay, so tracebacks and debuggers show the user's lines. The encoding of the
instructions belongs to a release of Python. So each process asks `dis`, which knows the encoding,
whether a sample has been renamed as intended; if not, no code is renamed.

This module imports no torch, so that it can be tried alone with any release of Python.
"""

from __future__ import annotations

import dis
import functools
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Replacement", "can_rename", "names_in", "renamed"]


class Replacement(NamedTuple):
    """The name to load in place of a global name.

    Attributes:
        name: the name to load.
        called_only: whether the old name is loaded still where no call follows.
    """

    name: str
    called_only: bool


#: Each instruction that names a global or a module, and the bits below the number of the name. The
#: bit of LOAD_GLOBAL says that a call follows.
_LOADING = {"LOAD_GLOBAL": 1, "IMPORT_NAME": 0}
_EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
_NAMED = frozenset(dis.hasname)
#: The names that an instruction of one byte can number.
_ONE_BYTE = 128


@dataclass
class _Known:
    """The results for one code object, kept as long as the object itself."""

    code: weakref.ref[CodeType]
    names: frozenset[str] | None = None
    renamed: dict[frozenset[Any], CodeType | None] = field(default_factory=dict)


_known: dict[int, _Known] = {}


def _known_of(code: CodeType) -> _Known:
    # Code objects are equal if their instructions are, whatever the file: the id tells them apart.
    number = id(code)
    found = _known.get(number)
    if found is None or found.code() is not code:
        # The default keeps the table for code that dies when the interpreter ends.
        def forget(reference: Any, known: dict[int, _Known] = _known) -> None:
            held = known.get(number)
            if held is not None and held.code is reference:
                del known[number]

        found = _known[number] = _Known(weakref.ref(code, forget))
    return found


def names_in(code: CodeType) -> frozenset[str]:
    """The names that a function and the functions inside of it look up."""
    known = _known_of(code)
    if known.names is None:
        parts = (names_in(c) for c in code.co_consts if isinstance(c, CodeType))
        known.names = frozenset(code.co_names).union(*parts)
    return known.names


def renamed(
    code: CodeType, replaced: Mapping[str, Replacement], modules: Mapping[str, str]
) -> CodeType | None:
    """Code that loads other names, the functions inside of it included.

    Equal arguments give the same object, as long as the code lives.

    Args:
        code: the code of a function.
        replaced: for a global name, its replacement.
        modules: for the name of a module that the function imports itself, the module to import.

    Returns:
        None where the code loads none of the names, or this Python encodes them in another way.
    """
    names = names_in(code)
    key = frozenset(item for item in (*replaced.items(), *modules.items()) if item[0] in names)
    if not key or not can_rename():
        return None
    forms = _known_of(code).renamed
    if key not in forms:
        forms[key] = _renamed(code, replaced, modules)
    return forms[key]


def _renamed(
    code: CodeType, replaced: Mapping[str, Replacement], modules: Mapping[str, str]
) -> CodeType | None:
    constants = tuple(
        (_renamed(c, replaced, modules) or c) if isinstance(c, CodeType) else c
        for c in code.co_consts
    )
    inside = any(new is not old for new, old in zip(constants, code.co_consts, strict=True))
    wanted: dict[tuple[str, int], Replacement] = {}
    for number, name in enumerate(code.co_names):
        if name in replaced:
            wanted["LOAD_GLOBAL", number] = replaced[name]
        if name in modules:
            wanted["IMPORT_NAME", number] = Replacement(modules[name], False)
    names, text = _with_names(code, wanted) if wanted else (list(code.co_names), code.co_code)
    if not inside and text == code.co_code and names == list(code.co_names):
        return None
    return code.replace(co_consts=constants, co_names=tuple(names), co_code=text)


def _with_names(
    code: CodeType, wanted: dict[tuple[str, int], Replacement]
) -> tuple[list[str], bytes]:
    """The names and the instructions of code that loads other names.

    Args:
        code: the code.
        wanted: for an instruction and the number of its name, the name to load.
    """
    names, changed = list(code.co_names), bytearray(code.co_code)
    if len(names) + len(wanted) > _ONE_BYTE:
        for loading, number in list(_used_alone(code, wanted)):
            names[number] = wanted.pop((loading, number)).name
    loadings = {dis.opmap[name]: (name, bits) for name, bits in _LOADING.items()}
    numbers: dict[str, int] = {}
    argument, prefixes = 0, 0
    for at in range(0, len(changed), 2):
        operation = changed[at]
        argument = argument << 8 | changed[at + 1]
        if operation == _EXTENDED_ARG:
            prefixes += 1
            continue
        if operation in loadings:
            loading, bits = loadings[operation]
            flags = argument & (1 << bits) - 1
            replacement = wanted.get((loading, argument >> bits))
            if replacement is not None and (flags or not replacement.called_only):
                number = numbers.setdefault(replacement.name, len(names))
                if number == len(names):
                    names.append(replacement.name)
                new = number << bits | flags
                # An instruction without room for the number stays as it is: its function guards.
                if new < 1 << 8 * (prefixes + 1):
                    for byte in range(prefixes + 1):
                        changed[at - 2 * byte + 1] = new >> 8 * byte & 255
        argument, prefixes = 0, 0
    return names, bytes(changed)


def _used_alone(
    code: CodeType, wanted: Mapping[tuple[str, int], Replacement]
) -> Iterable[tuple[str, int]]:
    """The replacements whose old name no other instruction uses: these need no new number."""
    uses: dict[str, set[tuple[str, bool]]] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opcode in _NAMED:
            bits = _LOADING.get(instruction.opname, 0)
            called = bool((instruction.arg or 0) & (1 << bits) - 1)
            uses.setdefault(instruction.argval, set()).add((instruction.opname, called))
    for (loading, number), replacement in wanted.items():
        needed = (
            {(loading, True)} if replacement.called_only else {(loading, True), (loading, False)}
        )
        if uses.get(code.co_names[number], set()) <= needed:
            yield loading, number


_SAMPLE = """
def sample(x):
    y = old(old, x.old, [old(z) for z in x])
    x.old = old
    def inside():
        import old
        from old import old as other
        return old(other(y))
    return inside
"""


@functools.cache
def can_rename() -> bool:
    """Whether this Python encodes names as this module assumes."""
    if not dis.opmap.keys() >= _LOADING.keys():
        return False
    scope: dict[str, Any] = {}
    exec(compile(_SAMPLE, "<sample>", "exec"), scope)
    before = scope["sample"].__code__
    for called_only in (False, True):
        after = _renamed(before, {"old": Replacement("new", called_only)}, {"old": "module"})
        try:
            if after is None or not _as_intended(before, after, called_only):
                return False
        except IndexError:  # `dis` finds no name of that number
            return False
    return True


def _as_intended(before: CodeType, after: CodeType, called_only: bool) -> bool:
    """Whether the renamed sample differs in the intended names alone, as `dis` reads it."""
    old_text, new_text = _read(before), _read(after)
    if len(old_text) != len(new_text):
        return False
    for old, new in zip(old_text, new_text, strict=True):
        wanted = old.argval
        if wanted == "old" and old.opname == "IMPORT_NAME":
            wanted = "module"
        elif wanted == "old" and old.opname == "LOAD_GLOBAL":
            wanted = "new" if "NULL" in old.argrepr or not called_only else "old"
        if old.opname != new.opname:
            return False
        if new.argval != wanted and not isinstance(wanted, CodeType):
            return False
    return True


def _read(code: CodeType) -> list[dis.Instruction]:
    """The instructions of code and of the functions inside of it."""
    inside = [c for c in code.co_consts if isinstance(c, CodeType)]
    return [*dis.get_instructions(code), *(i for c in inside for i in _read(c))]

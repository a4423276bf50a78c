"""Code objects: a digest of all that Python runs, and the names by which code reaches things."""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = [
    "CodeNames",
    "Identity",
    "digest_of_code",
    "identity_of",
    "is_installed",
    "is_layer",
    "is_library",
    "names_of",
]

#: A function across processes: its module, its qualified name, and its first line.
Identity = tuple[str, str, int]

_SEPARATOR = os.sep
_STDLIB = sysconfig.get_paths()["stdlib"] + _SEPARATOR
_PACKAGES = tuple(
    {sysconfig.get_paths()[kind] + _SEPARATOR for kind in ("purelib", "platlib")}
    | {_STDLIB + "site-packages" + _SEPARATOR, _STDLIB + "dist-packages" + _SEPARATOR}
)
_HERE = str(Path(__file__).parents[1]) + _SEPARATOR


def _folder(package: str) -> str:
    found = find_spec(package)
    return str(Path(str(found and found.origin)).parent) + _SEPARATOR


_LIBRARIES = tuple(map(_folder, ("torch", "numpy", "sympy")))
#: torch's own layers: what they look up is compared, because people put other functions there.
_LAYERS = tuple(
    os.path.join(_LIBRARIES[0], "nn", *parts) for parts in (("functional.py",), ("modules", ""))
)
_NO_LAYERS = os.path.join(_LAYERS[1], "module.py")
_NAMED = frozenset(sys.stdlib_module_names - {"__main__"}) | {"torch", "numpy", "sympy", "symfx"}


@functools.lru_cache(maxsize=10_000)
def is_library(filename: str, module: str) -> bool:
    """Whether code is Python's, torch's, numpy's, sympy's or symfx's own.

    Such code is known by the release. torch's layers count as no library.

    Args:
        filename: of the code.
        module: the name of its module, which counts for code without a file.

    Example:
        >>> is_library("model.py", "model"), is_library(functools.__file__, "functools")
        (False, True)
    """
    if filename.startswith("<"):
        # A namedtuple makes its constructor in a module of its own.
        return (
            filename.startswith("<frozen ")
            or module.partition(".")[0] in _NAMED
            or module.startswith("namedtuple_")
        )
    if filename.startswith(_LAYERS):
        return filename == _NO_LAYERS
    if module == "typing_extensions":
        return True
    if filename.startswith((_HERE, *_LIBRARIES)):
        return True
    return filename.startswith(_STDLIB) and not filename.startswith(_PACKAGES)


def is_layer(code: CodeType) -> bool:
    """Whether code is of torch's layers, or of `torch.nn.functional`."""
    return code.co_filename.startswith(_LAYERS)


def is_installed(code: CodeType) -> bool:
    """Whether code is of an installed package, which is known by its release."""
    return code.co_filename.startswith(_PACKAGES)


def identity_of(code: CodeType, module: Any) -> Identity:
    """The identity of the functions with this code."""
    return str(module), code.co_qualname, code.co_firstlineno


# -- digests ---------------------------------------------------------------------------------------

#: By the id of a code object: the object, which so stays alive, and what is known of it.
_digests: dict[int, tuple[CodeType, bytes]] = {}
_names: dict[int, tuple[CodeType, CodeNames]] = {}
_MOST = 50_000


def digest_of_code(code: CodeType) -> bytes:
    """A digest of all that Python runs of a code object, and of its file and lines.

    The lines count, because guards tell them. Sets among the constants count in the order in which
    this process runs through them, unless the code only asks for members.
    """
    known = _digests.get(id(code))
    if known is not None:
        return known[1]
    hashed = blake2b(digest_size=20)
    ordered = _sets_in_order(code)
    for part in (
        code.co_code,
        code.co_exceptiontable,
        code.co_linetable,
        repr(
            (
                code.co_names,
                code.co_varnames,
                code.co_freevars,
                code.co_cellvars,
                code.co_argcount,
                code.co_posonlyargcount,
                code.co_kwonlyargcount,
                code.co_flags,
                code.co_filename,
                code.co_firstlineno,
                code.co_qualname,
            )
        ).encode(errors="surrogatepass"),
        *(_constant(value, ordered) for value in code.co_consts),
    ):
        hashed.update(b"%d:" % len(part))
        hashed.update(part)
    if len(_digests) > _MOST:
        _digests.clear()
    _digests[id(code)] = code, hashed.digest()
    return hashed.digest()


def _constant(value: Any, ordered: bool) -> bytes:
    if isinstance(value, CodeType):
        return digest_of_code(value)
    if isinstance(value, tuple):
        return b"(" + b",".join(_constant(part, ordered) for part in value) + b")"
    if isinstance(value, frozenset):
        parts = [_constant(part, ordered) for part in value]
        return b"{" + b",".join(parts if ordered else sorted(parts)) + b"}"
    # The repr of a float or a complex number tells -0.0 and each digit.
    return f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")


def _sets_in_order(code: CodeType) -> bool:
    """Whether the order of a set among the constants may matter: it is not only asked ``in``."""
    if not any(isinstance(value, frozenset) and len(value) > 1 for value in code.co_consts):
        return False
    instructions = list(dis.get_instructions(code))
    return any(
        isinstance(one.argval, frozenset) and other.opname != "CONTAINS_OP"
        for one, other in pairwise(instructions)
    )


# -- names -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodeNames:
    """How code reaches things; the functions inside of it are included.

    Attributes:
        globals: the names that it looks up in its module and among the builtins.
        attributes: the names that it looks up in objects.
        imports: the modules that it imports: how far up a relative name starts, and the name.
        texts: the texts among its constants.
        composes: how it may make texts of others: "all" ways, "parts" put together, or not at all,
            so that the texts are "names".
        writes: whether it may change what outlives a call: it assigns globals, attributes, or
            variables of the scope around it.
    """

    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    imports: tuple[tuple[int, str], ...]
    texts: frozenset[str]
    composes: str
    writes: bool


_GLOBAL = frozenset(("LOAD_GLOBAL", "LOAD_NAME"))
_WRITES = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
_CHANGES = frozenset(("setattr", "delattr", "vars", "__dict__", "__setattr__", "__delattr__"))
_COMPOSES = frozenset(("BUILD_STRING", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC"))
_COMPOSING = frozenset(("format", "format_map", "join", "lower", "replace", "title", "upper"))


def names_of(code: CodeType) -> CodeNames:
    """The names by which code reaches things."""
    known = _names.get(id(code))
    if known is not None:
        return known[1]
    globals_: dict[str, None] = {}
    attributes: dict[str, None] = {}
    imports: dict[tuple[int, str], None] = {}
    texts: set[str] = set()
    composes, writes = "names", False
    for part in _all_code(code):
        texts.update(_texts(part.co_consts))
        level = 0
        before: Any = None
        for instruction in dis.get_instructions(part):
            name, value = instruction.opname, instruction.argval
            if name in _GLOBAL:
                globals_[value] = None
            elif name == "IMPORT_NAME":
                imports[level, value] = None
            elif name.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM")):
                attributes[value] = None
                composes = "all" if value in _COMPOSING else composes
            elif name.startswith("LOAD_CONST") or name.startswith("LOAD_SMALL_INT"):
                # The level of an import is loaded before the names that it is to give.
                level = before if isinstance(before, int) else 0
                before = value
            writes |= name in _WRITES or (name == "STORE_DEREF" and value in part.co_freevars)
            if name in _COMPOSES:
                composes = "all"
            elif name == "BINARY_OP" and composes == "names":
                composes = "parts"
    writes |= not _CHANGES.isdisjoint((*globals_, *attributes))
    found = CodeNames(
        tuple(globals_), tuple(attributes), tuple(imports), frozenset(texts), composes, writes
    )
    if len(_names) > _MOST:
        _names.clear()
    _names[id(code)] = code, found
    return found


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _all_code(value)


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, (tuple, frozenset)):
            yield from _texts(value)

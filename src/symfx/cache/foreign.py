"""Functions of Python, torch and numpy whose results are not given by their arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["refuse_builtin", "refuse_impure"]

_Refusal = Callable[[str], Exception]
_STDLIB = frozenset(sys.stdlib_module_names - {"__main__"})

#: The modules of Python whose functions give equal results for equal arguments, or only report.
_PURE = frozenset(
    (
        "__future__", "_abc", "_bisect", "_collections", "_collections_abc", "_functools",
        "_heapq", "_operator", "_thread", "_warnings", "_weakref", "abc", "ast", "base64", "bisect",
        "builtins", "cmath", "collections", "collections.abc", "contextlib", "copy", "dataclasses",
        "decimal", "difflib", "enum", "fractions", "functools", "genericpath", "hashlib", "heapq",
        "html", "inspect", "itertools", "json", "json.decoder", "json.encoder", "keyword",
        "logging", "math", "numbers", "operator", "packaging", "pathlib", "posixpath", "pprint",
        "re", "reprlib", "statistics", "string", "struct", "textwrap", "traceback", "types",
        "typing", "unicodedata", "warnings", "weakref",
    )
)  # fmt: skip
#: Names of other modules that give the same in each process of the release.
_PURE_NAMES = {
    "sys": {"version_info", "maxsize", "byteorder", "float_info", "platform", "hexversion"},
    "os": {"path", "sep", "PathLike", "fspath", "name"},
    "threading": set(),
}
#: The functions of pure modules that read files or the machine.
_READS = {
    "posixpath": {"exists", "isfile", "isdir", "getmtime", "getsize", "realpath", "abspath",
                  "expanduser", "expandvars", "lexists", "islink", "samefile"},
    "genericpath": {"exists", "isfile", "isdir", "getmtime", "getsize", "samefile"},
    "pathlib": {"read_text", "read_bytes", "exists", "open", "iterdir", "glob"},
    "inspect": {"stack", "currentframe", "trace", "getsource", "getsourcelines", "getfile"},
    "traceback": {"extract_stack", "format_stack", "print_stack", "walk_stack"},
    "importlib": {"import_module", "reload"},
}  # fmt: skip
#: torch's functions that read files, random states or the machine. What a trace depends on of
#: torch's other states is in the key.
_OF_TORCH = frozenset(
    (
        "seed", "initial_seed", "get_rng_state", "load", "from_file", "hub", "get_num_threads",
        "get_num_interop_threads", "memory_allocated", "memory_reserved", "max_memory_allocated",
        "mem_get_info", "current_stream", "compile", "jit",
    )
)  # fmt: skip
_OF_NUMPY = frozenset(
    ("load", "loadtxt", "fromfile", "genfromtxt", "memmap", "random", "geterr", "nditer")
)
_BUILTINS = frozenset(
    (
        "open",
        "input",
        "eval",
        "exec",
        "compile",
        "globals",
        "id",
        "hash",
        "breakpoint",
        "__import__",
    )
)


def refuse_builtin(name: str, refusal: _Refusal) -> None:
    """Refuse a builtin function that reads more than its arguments.

    Raises:
        NotCacheableError: the function does.
    """
    if name in _BUILTINS:
        raise refusal(f"calls {name}(), whose result may differ from call to call")


def refuse_impure(module: str, name: str, refusal: _Refusal) -> None:
    """Refuse a function of a library that reads more than its arguments.

    Args:
        module: the module that has it.
        name: its name.
        refusal: makes the error from a clause.

    Raises:
        NotCacheableError: the function does.
    """
    top = module.partition(".")[0]
    last = name.rpartition(".")[2]
    if top == "torch":
        impure = last in _OF_TORCH and not module.startswith("torch.compiler")
    elif top == "numpy":
        impure = last in _OF_NUMPY or module.startswith("numpy.random")
    elif top in _STDLIB:
        if module in _PURE or top == "importlib":
            impure = last in _READS.get(module, ())
        else:
            impure = last not in _PURE_NAMES.get(module, ())
    else:
        return
    if impure:
        raise refusal(f"names {module}.{name}, whose result may differ from call to call")

"""Packages that only parts of symfx need: an import that misses one says which extra brings it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from symfx.errors import MissingPackageError

__all__ = ["EXTRAS", "importing", "missing_packages"]

#: The packages of each extra: the module that is imported, and the name that pip knows.
EXTRAS = {
    "types": {
        "z3": "z3-solver",
        "unification": "logical-unification",
        "multipledispatch": "multipledispatch",
        "toolz": "toolz",
    },
    "z3": {"z3": "z3-solver"},
    "dask": {"distributed": "distributed"},
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
}


@contextlib.contextmanager
def importing(extra: str, what: str) -> Iterator[None]:
    """A context manager for the imports of packages that an extra brings.

    Args:
        extra: the extra; a key of `EXTRAS`.
        what: the part of symfx that needs the packages, as the subject of a sentence.

    Raises:
        MissingPackageError: a package is not installed.

    Example:
        >>> with importing("z3", "this example"):
        ...     import z3
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = EXTRAS[extra].get((error.name or "").partition(".")[0])
        if package is None:
            raise  # a package of another kind is missing
        raise MissingPackageError(
            f"{what} needs the package {package}, which is not installed",
            fix=f'pip install "symfx[{extra}]"',
        ) from None


def missing_packages(extra: str) -> list[str]:
    """The packages of an extra that are not installed, under the names that pip knows."""
    return [name for module, name in EXTRAS[extra].items() if find_spec(module) is None]

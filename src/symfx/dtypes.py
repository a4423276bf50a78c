"""The short names of dtypes: ``f32`` for ``float32``, and back.

This module imports no torch, so that a command line is read before torch is loaded.
"""

from __future__ import annotations

__all__ = ["LONG_NAMES", "long_name", "short_name"]

#: torch's name of a dtype, by its short name.
LONG_NAMES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "bool": "bool",
    "c64": "complex64",
    "c128": "complex128",
}
_SHORT_NAMES = {long: short for short, long in LONG_NAMES.items()}


def long_name(short: str) -> str | None:
    """torch's name of a dtype, from its short name or from that name; None for any other word.

    Example:
        >>> long_name("bf16"), long_name("int64"), long_name("f33")
        ('bfloat16', 'int64', None)
    """
    return LONG_NAMES.get(short, short if short in _SHORT_NAMES else None)


def short_name(dtype: object) -> str:
    """The short name of a dtype; torch's name if it has no short one.

    Args:
        dtype: a ``torch.dtype``, or its name with or without ``torch.``.

    Example:
        >>> short_name("torch.float32"), short_name("torch.uint16")
        ('f32', 'uint16')
    """
    long = str(dtype).removeprefix("torch.")
    return _SHORT_NAMES.get(long, long)

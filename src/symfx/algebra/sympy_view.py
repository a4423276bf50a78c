"""Terms as sympy and back: the public path of `languages.sympy`."""

from symfx.algebra.languages.sympy import SympyReader, SympyReadError, register_function, to_sympy

__all__ = ["SympyReadError", "SympyReader", "register_function", "to_sympy"]

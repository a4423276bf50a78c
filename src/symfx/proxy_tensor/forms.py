"""Tables of the forms of torch functions: what a trace runs in place of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["Forms"]


class Forms(dict[Any, Callable[..., Any]]):
    """For each of some functions, its form.

    A form takes the function's arguments. It returns NotImplemented for a call that it leaves to
    the function itself.
    """

    def of(self, *functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A decorator: the form of these functions.

        A call with arguments that the form does not know, such as ``out``, is left to the function.
        """

        def register(form: Callable[..., Any]) -> Callable[..., Any]:
            self.update(dict.fromkeys(functions, _where_it_binds(form)))
            return form

        return register


def _where_it_binds(form: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(form)

    @functools.wraps(form)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            return NotImplemented
        return form(*args, **kwargs)

    return call

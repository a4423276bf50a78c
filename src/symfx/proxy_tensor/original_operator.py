"""The operator of the program that a node comes from, in ``meta["original_aten"]``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.fx import traceback as fx_traceback

__all__ = ["set_original_aten_op"]


@contextlib.contextmanager
def _original_operator_recorded(func: Any) -> Iterator[None]:
    meta = fx_traceback.current_meta
    if meta.get("original_aten") is not None:
        yield
        return
    meta["original_aten"] = func
    try:
        yield
    finally:
        meta["original_aten"] = None


_NO_CONTEXT = contextlib.nullcontext()


def set_original_aten_op(func: Any) -> contextlib.AbstractContextManager[None]:
    """A context manager: nodes recorded inside name an operator in ``meta["original_aten"]``.

    It has an effect where `torch.fx.traceback` preserves metadata. Of nested calls the
    outermost one counts.

    Args:
        func: the operator.

    Example:
        >>> gelu = torch.ops.aten.gelu.default
        >>> with fx_traceback.preserve_node_meta(), set_original_aten_op(gelu):
        ...     g = make_fx(lambda x: x.tanh())(torch.ones(3))
        >>> [n.meta["original_aten"] for n in g.graph.nodes if n.name == "tanh"]
        [<OpOverload(op='aten.gelu', overload='default')>]
    """
    if fx_traceback.has_preserved_node_meta():
        return _original_operator_recorded(func)
    return _NO_CONTEXT

"""The program and the arguments of a trace, checked and prepared."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.meta_tracer.errors import MetaArgumentsError
from symfx.user_code import where

__all__ = [
    "VARIADIC",
    "Buffers",
    "as_function",
    "check_hooks",
    "check_names",
    "checked_meta_args",
    "explained_error",
]

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def as_function(root: Any) -> Any:
    """A module or plain function for a program, because torch.fx traces no other callables."""
    if isinstance(root, nn.Module) or inspect.isfunction(root):
        return root

    def call(*args: Any, **kwargs: Any) -> Any:
        return root(*args, **kwargs)

    call.__wrapped__ = root  # type: ignore[attr-defined]
    return call


def checked_meta_args(meta_args: Any) -> dict[str, Any]:
    """The meta arguments as a dictionary.

    Raises:
        MetaArgumentsError: they are no dictionary, or one of them is no tensor.
    """
    if meta_args is None:
        return {}
    if not isinstance(meta_args, dict):
        raise MetaArgumentsError(
            f"meta_args is a {type(meta_args).__name__}, not a dictionary of tensors by parameter",
            fix='symbolic_trace(f, meta_args={"x": torch.empty(2, 3, device="meta")})',
        )
    for name, value in meta_args.items():
        for leaf in pytree.tree_leaves(value):
            if not isinstance(leaf, Tensor):
                raise MetaArgumentsError(
                    f"the meta value of `{name}` contains {leaf!r}, which is no tensor",
                    fix=f"pass fixed values in concrete_args={{{name!r}: ...}}",
                )
    return meta_args


def check_names(root: Any, meta_args: Mapping[str, Any]) -> None:
    """Check that every meta argument belongs to a parameter of the program.

    Raises:
        MetaArgumentsError: one belongs to none.
        TracingError: the parameters of the program are not known.
    """
    try:
        signature = inspect.signature(root.forward if isinstance(root, nn.Module) else root)
    except (TypeError, ValueError) as error:
        raise TracingError(
            f"{root!r} cannot be traced: the names of its parameters are not known",
            fix="wrap it in a function: symbolic_trace(lambda x: f(x), ...)",
        ) from error
    parameters = signature.parameters
    for name in meta_args:
        if name.lstrip("*") not in parameters:
            raise MetaArgumentsError(
                f"meta_args has `{name}`, which is no parameter of the traced program",
                fix=f"use names of its parameters: {', '.join(parameters) or 'it has none'}",
            )


def check_hooks(root: Any) -> None:
    """Check that a traced module has no hooks, because torch.fx traces its forward alone.

    Raises:
        TracingError: it has hooks.
    """
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    found = [kind for kind in kinds if isinstance(root, nn.Module) and getattr(root, kind)]
    if found:
        kind = found[0].strip("_").replace("_", " ")
        raise TracingError(
            f"the traced {type(root).__name__} has {kind}, which a trace of its forward leaves out",
            fix="put it into another module, whose trace includes them: "
            "symbolic_trace(torch.nn.Sequential(module), ...); or remove them",
        )


def explained_error(error: Exception, root: Any, given: Container[str]) -> TracingError | None:
    """An error with the user's line and advice for one that the program raised, or None.

    Args:
        error: the error that the program raised while it was traced.
        root: the program.
        given: the parameters with a meta or a concrete argument.
    """
    if isinstance(error, TypeError) and "MetaProxy" in str(error):
        return TracingError(
            f"the program passes a proxy to a function that takes only tensors: {error}",
            where=where(error),
            fix="call it as a method of the tensor, `x.flatten()` and not "
            "`torch.Tensor.flatten(x)`; or make the code a leaf with torch.fx.wrap",
        )
    left = _parameters_left_out(root, given)
    if not left:
        return None
    return TracingError(
        f"the program raised {type(error).__name__} while it was traced: {error}",
        where=where(error),
        fix=f"the inputs {', '.join(left)} have no meta value, so the program gets "
        "proxies for them where a call without them passes None; fix them: "
        f"concrete_args={dict.fromkeys(left)}",
    )


def _parameters_left_out(root: Any, given: Container[str]) -> list[str]:
    """The parameters with default None that have neither a meta nor a concrete argument."""
    signature = inspect.signature(root.forward if isinstance(root, nn.Module) else root)
    parameters = signature.parameters
    return [name for name, p in parameters.items() if p.default is None and name not in given]


class Buffers:
    """The buffers of a module before a trace, which must not change them.

    Args:
        root: the traced program; it has buffers if it is a module.
    """

    def __init__(self, root: Any) -> None:
        modules = root.named_modules() if isinstance(root, nn.Module) else ()
        self._before = [(name, m, dict(m._buffers)) for name, m in modules]

    def restore(self) -> list[str]:
        """Restore the buffers that proxies have replaced, and return their names."""
        changed = []
        for name, module, buffers in self._before:
            for key, value in module._buffers.items():
                if isinstance(value, fx.Proxy):
                    module._buffers[key] = buffers.get(key)
                    changed.append(f"{name}.{key}".lstrip("."))
        return changed

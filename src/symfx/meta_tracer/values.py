"""Running functions, methods and modules on tensors without data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.meta_tracer.errors import MetaArgumentsError

__all__ = ["MethodCall", "Values", "tensors_in", "without_data"]

_META = torch.device("meta")
_CPU = torch.device("cpu")
_MOVES = frozenset({"cpu", "cuda"})


class MethodCall:
    """A method, given by its name, as a function of its owner and arguments.

    Args:
        name: the method's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the method of `owner`."""
        return getattr(owner, self.name)(*args, **kwargs)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in a structure of lists, tuples, dictionaries and the like."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def without_data(tensor: Tensor, device: torch.device = _META) -> Tensor:
    """A tensor of the same sizes, strides and dtype, on the meta device or on a fake one."""
    if tensor.layout is not torch.strided:
        return tensor.detach().to(device)
    if any(isinstance(n, torch.SymInt) for n in (*tensor.shape, *tensor.stride())):
        raise MetaArgumentsError(
            f"a meta value has the symbolic shape {tuple(tensor.shape)}",
            fix="pass a tensor whose sizes are ints; make_fx traces with symbolic sizes",
        )
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return empty.requires_grad_(tensor.requires_grad)


class Values:
    """The maker of meta values: tensors on the meta device, or fake tensors on any device.

    Args:
        given: the meta arguments. If all of them are on the meta device, all meta values are;
            else all meta values are fake tensors, which have the devices of a real run.
    """

    def __init__(self, given: Any) -> None:
        on_meta = all(t.device.type == "meta" for t in tensors_in(given))
        self._mode = None if on_meta else FakeTensorMode(allow_non_fake_inputs=True)
        # By identity, with the original, so that no other object can get its identity.
        self._twins: dict[int, tuple[Any, Any]] = {}

    def own(self, tensor: Tensor, device: torch.device | None = None) -> Tensor:
        """A new tensor with the sizes, strides and dtype of another."""
        if self._mode is None:
            return without_data(tensor)
        with self._mode:
            return without_data(tensor, device or tensor.device)

    def twin(self, tensor: Tensor) -> Tensor:
        """The meta value of a tensor of the program, the same one at each call."""
        known = self._twins.get(id(tensor))
        if known is None:
            known = self._twins[id(tensor)] = (tensor, self.own(tensor))
        twin: Tensor = known[1]
        return twin

    def module(self, module: nn.Module) -> nn.Module:
        """A copy of a module whose parameters and buffers have no data.

        References to parameters in other places (the flat weights of an LSTM) lead to those of the
        copy. State that changes while the module runs (the batch count of a BatchNorm) changes in
        the copy.
        """
        known = self._twins.get(id(module))
        if known is None:
            memo: dict[int, Any] = {}
            for tensor in (*module.parameters(), *module.buffers()):
                twin = self.own(tensor)
                if isinstance(tensor, nn.Parameter):
                    twin = nn.Parameter(twin.detach(), tensor.requires_grad)
                memo[id(tensor)] = twin
            known = self._twins[id(module)] = (module, copy.deepcopy(module, memo))
        twin_module: nn.Module = known[1]
        return twin_module

    def run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call a function on meta values.

        Raises:
            Exception: any exception of the function; reading data is one.
        """
        if self._mode is not None:
            with self._mode:
                return self._adopt(function(*args, **kwargs), None)
        function, args, kwargs = _on_meta(function, args, kwargs)
        try:
            with torch.device("meta"):
                out = function(*args, **kwargs)
        except NotImplementedError:
            # The operator has no kernel for meta tensors. For fake ones the real kernel may run
            # on zeros.
            with FakeTensorMode():
                args, kwargs = pytree.tree_map_only(
                    Tensor, lambda t: without_data(t, _CPU), (args, dict(kwargs))
                )
                out = function(*args, **kwargs)
        return self._adopt(out, None)

    def run_override(
        self, override: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Call an override; its result may be on the meta device though its arguments are not."""
        devices = [t.device for t in tensors_in((args, kwargs))]
        return self._adopt(override(*args, **kwargs), devices[0] if devices else None)

    def _adopt(self, out: Any, device: torch.device | None) -> Any:
        """Results as meta values, on `device` unless that is None."""

        def adopt(t: Tensor) -> Tensor:
            if self._mode is None:
                return t if t.is_meta and not isinstance(t, FakeTensor) else self.own(t)
            is_own = isinstance(t, FakeTensor) and t.fake_mode is self._mode
            return t if is_own and device in (None, t.device) else self.own(t, device)

        return pytree.tree_map_only(Tensor, adopt, out)


def _on_meta(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The call with every device replaced by the meta device."""

    args, named = pytree.tree_map_only(torch.device, lambda _: _META, (args, dict(kwargs)))
    if named.get("device") is not None:
        named["device"] = _META
    if isinstance(function, MethodCall):
        if function.name in _MOVES:
            return MethodCall("to"), (args[0], _META), {}
        if function.name == "to" and len(args) > 1 and isinstance(args[1], (str, int)):
            args = (args[0], _META, *args[2:])
    return function, args, named

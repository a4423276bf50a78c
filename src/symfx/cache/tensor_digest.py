"""The digest of tensors and modules."""

from __future__ import annotations

import collections
from hashlib import blake2b
from typing import Any

import torch

from symfx.cache.program_digest import ProgramDigest

__all__ = ["TensorDigest"]

#: The dicts of a module by the numbers of hooks, which count up over the whole process.
_HOOKS = frozenset(name for name in vars(torch.nn.Module()) if "hook" in name)
#: Of these, the ones that a call of the module runs.
_HOOKS_OF_CALLS = frozenset(name for name in _HOOKS if "state_dict" not in name)
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_PLAIN_MODULE = vars(torch.nn.Module())
_CHUNK = 1 << 24


class TensorDigest(ProgramDigest):
    """Writes tensors and modules; see `symfx.cache.description`."""

    def _tensor(self, tensor: torch.Tensor, *, elements: bool) -> None:
        kind = type(tensor)
        if kind not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise self._refuse(f"is a tensor of the class {kind.__name__}")
        if not self._again(tensor):
            self.tensors.append(tensor)
            if tensor.layout is not torch.strided or tensor.is_quantized:
                raise self._refuse("is a tensor that is sparse, nested or quantized")
            storage = tensor.untyped_storage()._cdata
            self._write(
                "tensor",
                repr(
                    (
                        kind.__name__,
                        tuple(tensor.shape),
                        tensor.stride(),
                        tensor.storage_offset(),
                        str(tensor.dtype),
                        str(tensor.device),
                        tensor.requires_grad,
                        tensor.is_leaf,
                        tensor.is_conj(),
                        tensor.is_neg(),
                        tensor.is_inference(),
                        tensor.is_leaf and tensor.grad is not None,
                        self._storages.setdefault(storage, len(self._storages)),
                    )
                ),
            )
            if getattr(tensor, "_backward_hooks", None):
                raise self._refuse("is a tensor with hooks")
            own = {k: v for k, v in vars(tensor).items() if not k.startswith("_dynamo_")}
            if own:
                self._part("attributes", own)
        if elements and id(tensor) not in self._with_elements:
            self._with_elements.add(id(tensor))
            self._write("elements", self._elements(tensor))

    def _elements(self, tensor: torch.Tensor) -> bytes:
        """A digest of the elements."""
        if tensor.device.type == "meta" or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            raise self._refuse("is a tensor without elements")
        hashed = blake2b(digest_size=20)
        with torch.no_grad():
            plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
            flat = plain.reshape(-1).view(torch.uint8) if plain.numel() else plain.reshape(-1)
        for start in range(0, flat.numel(), _CHUNK):
            hashed.update(flat[start : start + _CHUNK].numpy().tobytes())
        return hashed.digest()

    def _module(self, module: torch.nn.Module) -> None:
        if self._again(module):
            return
        self._note_shared(module)
        self._write("module")
        self._class(type(module))
        own = vars(module)
        if any(own.get(name) for name in _HOOKS_OF_CALLS if isinstance(own.get(name), dict)):
            self._hooks(own)
        for name, value in own.items():
            if name in _HOOKS and isinstance(value, dict):
                continue
            if name in _REGISTRIES:
                if value:
                    self._registry(name, value)
            elif not _as_every_module(name, value):
                self._part(name, value)

    def _registry(self, name: str, members: dict[str, Any]) -> None:
        self._write("registry", name)
        if type(members) not in (dict, collections.OrderedDict):
            raise self._refuse(f"keeps its parts in a {type(members).__name__}")
        for key, part in members.items():
            self._part(key, part)

    def _hooks(self, own: dict[str, Any]) -> None:
        """The hooks of a module, by their order instead of by their numbers."""
        tables = {
            name: own[name] for name in sorted(_HOOKS_OF_CALLS) if isinstance(own.get(name), dict)
        }
        order = {
            n: i for i, n in enumerate(sorted({n for table in tables.values() for n in table}))
        }
        for name, table in tables.items():
            self._part(name, [(order[number], hook) for number, hook in table.items()])


def _as_every_module(name: str, value: Any) -> bool:
    """Whether an attribute is one that every module has, with the value that it has at first."""
    usual = _PLAIN_MODULE.get(name)
    if name not in _PLAIN_MODULE or type(value) is not type(usual):
        return False
    return value is usual or (isinstance(value, (bool, dict, set)) and value == usual)

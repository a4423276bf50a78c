"""What torch.nn's transformers do after a look at the values of a mask, which a trace cannot take.

In eval mode a TransformerEncoder that gets a ``src_key_padding_mask`` may pack its input into a
nested tensor. Whether it does depends on the values of the mask; its result has zeros at the padded
positions then. Where gradients are wanted it never does.

An encoder or a decoder that gets a mask for attention looks whether the mask is a causal one. The
answer is a hint for speed alone: attention that is not told takes the mask as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.nn import TransformerEncoder

from symfx.errors import TracingError
from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.torch_bridge.modules import named_modules
from symfx.torch_bridge.transformers import masks_as_given
from symfx.tracing.model_state import module_of

__all__ = ["transformers_without_a_look"]


@contextlib.contextmanager
def transformers_without_a_look(
    model: Callable[..., Any], reached: Mapping[str, torch.nn.Module]
) -> Iterator[None]:
    """Keep the encoders of a model dense inside, where its own run keeps them dense too.

    Masks for attention are taken as they are.

    Args:
        model: the model.
        reached: modules that it calls without having them as parts, as a function does, by name.

    Raises:
        TracingError: an encoder is called that would use nested tensors in a run of the model.
    """
    module = module_of(model)
    parts = dict(named_modules(module)) if module is not None else {}
    own = set(map(id, parts.values()))
    parts |= {name: part for name, part in reached.items() if id(part) not in own}
    with contextlib.ExitStack() as stack:
        for name, part in parts.items():
            if isinstance(part, TransformerEncoder):
                hook = part.register_forward_pre_hook(_before(name), with_kwargs=True)
                stack.callback(hook.remove)
        stack.enter_context(masks_as_given(in_trace))
        yield


def _before(name: str) -> Callable[..., None]:
    """What happens before an encoder of this name runs."""

    def decide(
        encoder: TransformerEncoder, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        named = dict(zip(("src", "mask", "src_key_padding_mask"), args, strict=False)) | dict(
            kwargs
        )
        if named.get("src_key_padding_mask") is None or not _wants_nested(encoder, named):
            return
        if torch.is_grad_enabled() and any(p.requires_grad for p in encoder.layers[0].parameters()):
            encoder.use_nested_tensor = False  # restored with all other attributes
            return
        raise TracingError(
            f"{name or 'the model'} is a TransformerEncoder in eval mode, which packs its input "
            "into a nested tensor where src_key_padding_mask allows; a graph cannot depend on "
            "the values of the mask",
            where=f"{name or 'the model'}(src_key_padding_mask=...)",
            fix="build it with enable_nested_tensor=False",
        )

    return decide


def _wants_nested(encoder: TransformerEncoder, named: Mapping[str, Any]) -> bool:
    """Whether the encoder looks into the mask."""
    return (
        torch.backends.mha.get_fastpath_enabled()
        and getattr(encoder, "use_nested_tensor", False)
        and not encoder.layers[0].training
        and named["src"].dim() == 3
        and named.get("mask") is None
        and not torch.is_autocast_enabled()
    )

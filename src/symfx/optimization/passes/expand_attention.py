"""Attention and transformer layers as the operators inside them, for the passes behind.

`torch.nn.Transformer`, its encoder, decoder and their layers, and `torch.nn.MultiheadAttention`
stay one node of a traced graph. In eval mode each of them computes a known formula, which this
pass writes out. The linear layers become visible, and run with packed weights and their activation
fused.
"""

from __future__ import annotations

import inspect
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from symfx.optimization.graphs.effects import is_plain
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import clean, fresh_name, replace
from symfx.optimization.report import Report
from symfx.optimization.runtime.attention import (
    additive_mask,
    attend,
    fast_path_mask,
    self_attend,
)
from symfx.optimization.runtime.layers import Layer

__all__ = ["expand_attention"]

#: The arguments of each class that are values of the graph.
_VALUES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Transformer: ("src", "tgt"),
    nn.TransformerEncoder: ("src",),
    nn.TransformerDecoder: ("tgt", "memory"),
    nn.TransformerEncoderLayer: ("src",),
    nn.TransformerDecoderLayer: ("tgt", "memory"),
    nn.MultiheadAttention: ("query", "key", "value"),
}
_MASKS = ("mask", "attn_mask", "src_mask", "tgt_mask", "memory_mask")
#: The parts that a layer must have, and their classes.
_ENCODER_LAYER: dict[str, type[nn.Module]] = {
    "self_attn": nn.MultiheadAttention,
    "linear1": nn.Linear,
    "linear2": nn.Linear,
    "norm1": nn.LayerNorm,
    "norm2": nn.LayerNorm,
}
_DECODER_LAYER = _ENCODER_LAYER | {
    "multihead_attn": nn.MultiheadAttention,
    "norm3": nn.LayerNorm,
}


def expand_attention(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """Write out the attention and transformer layers of a graph whose formula is known.

    A layer stays whole if it is in train mode, has hooks, or has an activation other than ReLU and
    GELU. It also stays whole where the model gives it a padding mask or asks for its attention
    weights.

    Args:
        module: the graph, whose nodes are changed.
        report: gets the layers that are written out, and those that stay with the reasons.

    Returns:
        the graph in a module that holds the layers' parts, and not the layers. Later passes put
        other modules in the places of the parts, which must not change the layers themselves.
    """
    reader = Reader(module)
    done = False
    for node in list(module.graph.nodes):
        called = reader.module_of(node)
        if called is None or type(called) not in _VALUES:
            continue
        name = type(called).__name__
        given = _bound(called, node)
        why = _why_not(called, given) or _why_no_use(called, given, node, reader)
        if why:
            report.leave(node, f"the {name} is not written out: {why}")
            continue
        with module.graph.inserting_before(node):
            result = _Expansion(module, given).result(called, str(node.target))
        report.rewrote(f"wrote out {name} as its operators", (node,), None)
        done = True
        if isinstance(called, nn.MultiheadAttention):  # its result is a pair
            for user in list(node.users):
                if user.args[1] == 0:
                    replace(user, result)
                else:
                    module.graph.erase_node(user)
            module.graph.erase_node(node)
        else:
            replace(node, result)
    return clean(module) if done else module


def _bound(called: nn.Module, node: fx.Node) -> dict[str, Any]:
    """The arguments of a call by the names of the parameters; empty if they do not fit."""
    try:
        return inspect.signature(called.forward).bind(*node.args, **node.kwargs).arguments
    except TypeError:
        return {}


class _Expansion:
    """The nodes that replace one call of a layer.

    Args:
        module: the graph; its insertion point is where the nodes go.
        given: the arguments of the call, by name.
    """

    def __init__(self, module: fx.GraphModule, given: dict[str, Any]) -> None:
        self.module, self.graph, self.given = module, module.graph, given
        self.like: fx.Node = given[next(n for n in ("query", "src", "tgt") if n in given)]
        self.learns = False  # whether a weight that was met requires gradients
        self._masks: dict[tuple[Any, ...], fx.Node] = {}

    def result(self, called: Any, path: str) -> fx.Node:
        """The node of the layer's result.

        Args:
            called: the layer.
            path: of the layer in the graph.
        """
        given = self.given
        masks = given.get("tgt_mask"), given.get("memory_mask")
        if isinstance(called, nn.MultiheadAttention):
            query, key, value = (given[name] for name in ("query", "key", "value"))
            self._meet(called)
            mask = self._mask(given.get("attn_mask"), called, query is key is value)
            return self._attention(called, path, query, key, value, mask)
        if isinstance(called, nn.TransformerEncoderLayer):
            return self._layer(called, path, given["src"], None, given.get("src_mask"), None)
        if isinstance(called, nn.TransformerDecoderLayer):
            return self._layer(called, path, given["tgt"], given["memory"], *masks)
        if isinstance(called, nn.TransformerEncoder):
            return self._stack(called, path, given["src"], None, given.get("mask"), None)
        if isinstance(called, nn.TransformerDecoder):
            return self._stack(called, path, given["tgt"], given["memory"], *masks)
        inner, outer, mask = f"{path}.encoder", f"{path}.decoder", given.get("src_mask")
        memory = self._stack(called.encoder, inner, given["src"], None, mask, None)
        return self._stack(called.decoder, outer, given["tgt"], memory, *masks)

    def _meet(self, layer: nn.Module) -> None:
        self.learns |= any(parameter.requires_grad for parameter in layer.parameters())

    def _mask(
        self, mask: Any, attention: nn.MultiheadAttention, alike: bool, floats: bool = False
    ) -> fx.Node | None:
        """The node of a mask as numbers that are added to the scores.

        Args:
            mask: the argument of the call, or None.
            attention: the layer that takes it.
            alike: whether queries, keys and values are projected from one tensor.
            floats: whether torch takes its fast path with a mask of numbers too.
        """
        if mask is None:
            return None
        fast = alike and attention.batch_first and attention.num_heads % 2 == 0
        if not fast or attention.in_proj_bias is None:
            key: tuple[Any, ...] = (additive_mask, mask, self.like)
        else:
            key = (fast_path_mask, mask, self.like, self.learns, floats)
        if key not in self._masks:
            self._masks[key] = self.graph.call_function(key[0], key[1:])
        return self._masks[key]

    def _stack(
        self,
        stack: Any,
        path: str,
        x: fx.Node,
        memory: fx.Node | None,
        mask: Any,
        memory_mask: Any,
    ) -> fx.Node:
        """The layers of an encoder or a decoder, and its norm."""
        for index, layer in enumerate(stack.layers):
            x = self._layer(layer, f"{path}.layers.{index}", x, memory, mask, memory_mask)
        return x if stack.norm is None else self.graph.call_module(f"{path}.norm", (x,))

    def _layer(
        self,
        layer: Any,
        path: str,
        x: fx.Node,
        memory: fx.Node | None,
        mask: Any,
        memory_mask: Any,
    ) -> fx.Node:
        """One layer of an encoder, or of a decoder, which attends to a memory too."""
        self._meet(layer)

        def attention(value: fx.Node) -> fx.Node:
            inner, called = f"{path}.self_attn", layer.self_attn
            if memory is not None:
                numbers = self._mask(mask, called, True)
            elif _is_fast(layer):
                numbers = self._mask(mask, called, True, floats=True)
            else:  # the layer itself makes a mask of numbers
                numbers = self._mask(mask, called, False)
            return self._attention(called, inner, value, value, value, numbers)

        def attention_to_memory(value: fx.Node) -> fx.Node:
            assert memory is not None
            inner, called = f"{path}.multihead_attn", layer.multihead_attn
            numbers = self._mask(memory_mask, called, False)
            return self._attention(called, inner, value, memory, memory, numbers)

        def forward(value: fx.Node) -> fx.Node:
            wide = self.graph.call_module(f"{path}.linear1", (value,))
            if isinstance(layer.activation, nn.Module):
                active = self.graph.call_module(f"{path}.activation", (wide,))
            else:
                active = self.graph.call_function(layer.activation, (wide,))
            return self.graph.call_module(f"{path}.linear2", (active,))

        parts = [attention, forward]
        if memory is not None:
            parts.insert(1, attention_to_memory)
        for number, part in enumerate(parts, 1):
            norm = f"{path}.norm{number}"
            if layer.norm_first:
                found = part(self.graph.call_module(norm, (x,)))
                x = self.graph.call_function(operator.add, (x, found))
            else:
                total = self.graph.call_function(operator.add, (x, part(x)))
                x = self.graph.call_module(norm, (total,))
        return x

    def _attention(
        self,
        layer: nn.MultiheadAttention,
        path: str,
        query: fx.Node,
        key: fx.Node,
        value: fx.Node,
        mask: fx.Node | None,
    ) -> fx.Node:
        heads, batch_first = layer.num_heads, layer.batch_first
        weight: Any = layer.in_proj_weight
        bias: Any = layer.in_proj_bias
        if query is key is value:
            joint = self._linear(f"{path}.projections", weight, bias, query)
            args: tuple[Any, ...] = (joint, heads, batch_first, mask)
            mixed = self.graph.call_function(self_attend, args)
        else:
            weights = weight.chunk(3)
            biases = (None, None, None) if bias is None else bias.chunk(3)
            names = ("query", "key", "value")
            parts = [
                self._linear(f"{path}.{name}_projection", weights[i], biases[i], source)
                for i, (name, source) in enumerate(zip(names, (query, key, value), strict=True))
            ]
            mixed = self.graph.call_function(attend, (*parts, heads, batch_first, mask))
        out = layer.out_proj
        return self._linear(f"{path}.out_projection", out.weight, out.bias, mixed)

    def _linear(self, path: str, weight: Tensor, bias: Tensor | None, x: fx.Node) -> fx.Node:
        name = fresh_name(self.module, path.replace(".", "_"))
        layer = Layer(nn.Linear, weight, bias, {}).build(weight, bias)
        setattr(self.module, name, layer)
        return self.graph.call_module(name, (x,))


def _is_fast(layer: nn.TransformerEncoderLayer) -> bool:
    """Whether torch has a fast path for a layer of an encoder, attention's own rules aside."""
    return bool(layer.activation_relu_or_gelu) and layer.norm1.eps == layer.norm2.eps


def _why_not(called: Any, given: dict[str, Any]) -> str:
    """The reason why a call's layer stays whole; an empty text if the layer is written out."""
    for name, value in given.items():
        if name.endswith("key_padding_mask") and value is not None:
            return f"it is called with {name}"
        if name.endswith("is_causal") and value not in (None, False):
            return f"it is called with {name}"
    if not all(isinstance(given.get(name), fx.Node) for name in _VALUES[type(called)]):
        return "its arguments are not values of the graph"
    if any(part.training for part in called.modules()):
        return "it is in train mode"
    if not all(is_plain(part) for part in called.modules()):
        return "a part of it has hooks"
    return _why_no_formula(called)


def _why_no_formula(called: Any) -> str:
    """The reason why the formula of a layer or of a part of it is not known."""
    if isinstance(called, nn.MultiheadAttention):
        return _why_no_attention(called)
    if isinstance(called, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        return _why_no_layer(called)
    if isinstance(called, nn.Transformer):
        for name, kind in (("encoder", nn.TransformerEncoder), ("decoder", nn.TransformerDecoder)):
            part = getattr(called, name)
            if type(part) is not kind:
                return f"its {name} is a {type(part).__name__}"
            if why := _why_no_formula(part):
                return why
        return ""
    if called.norm is not None and type(called.norm) is not nn.LayerNorm:
        return f"its norm is a {type(called.norm).__name__}"
    encodes = isinstance(called, nn.TransformerEncoder)
    wanted = nn.TransformerEncoderLayer if encodes else nn.TransformerDecoderLayer
    for layer in called.layers:
        if type(layer) is not wanted:
            return f"a layer is a {type(layer).__name__}"
        if why := _why_no_layer(layer):
            return why
    return "" if len(called.layers) else "it has no layers"


def _why_no_layer(layer: Any) -> str:
    encodes = isinstance(layer, nn.TransformerEncoderLayer)
    for name, kind in (_ENCODER_LAYER if encodes else _DECODER_LAYER).items():
        if type(getattr(layer, name)) is not kind:
            return f"its {name} is a {type(getattr(layer, name)).__name__}"
    activation: Any = layer.activation
    # torch's fast path takes every nn.GELU for the exact one.
    exact = type(activation) is nn.GELU and activation.approximate == "none"
    if not (exact or type(activation) is nn.ReLU or activation in (F.relu, F.gelu, torch.relu)):
        return "its activation is neither ReLU nor GELU"
    if getattr(activation, "inplace", False):
        return "its activation writes to its argument"
    inner = [] if encodes else [layer.multihead_attn]
    return next(filter(None, map(_why_no_attention, [layer.self_attn, *inner])), "")


def _why_no_attention(layer: nn.MultiheadAttention) -> str:
    if not layer._qkv_same_embed_dim:
        return "its keys or values have another width"
    if layer.bias_k is not None or layer.bias_v is not None or layer.add_zero_attn:
        return "it adds a key of its own"
    if layer.in_proj_weight.dtype is not torch.float:
        return "its weights are not float32"
    return ""


def _why_no_use(called: nn.Module, given: dict[str, Any], node: fx.Node, reader: Reader) -> str:
    """The reason why the use of a layer's results or weights keeps it whole."""
    if not reader.steady(*called.parameters()):
        return "a node writes to its weights"
    if not isinstance(called, nn.MultiheadAttention):
        return ""
    if reader.aliases.escapes(node):
        return "the caller can see the layout of its result, which varies in torch"
    for user in node.users:
        if user.target is not operator.getitem or user.args[1] not in (0, 1):
            return "its results are used together"
        if user.args[1] == 1 and user.users:
            return "its attention weights are used"
    # Rows that a mask hides wholly are NaN where the weights are computed, and zero elsewhere.
    if given.get("need_weights", True) is not False and given.get("attn_mask") is not None:
        return "it is called with a mask and need_weights=True"
    return ""

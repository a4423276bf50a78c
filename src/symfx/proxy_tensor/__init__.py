"""Tracing of functions on tensors into graphs of operators, with symbolic shapes."""

from symfx.proxy_tensor.metadata import extract_val, is_sym_node, snapshot_fake
from symfx.proxy_tensor.mode import (
    ProxyTorchDispatchMode,
    decompose,
    disable_proxy_modes_tracing,
    get_proxy_mode,
)
from symfx.proxy_tensor.slots import (
    fetch_object_proxy,
    fetch_sym_proxy,
    get_proxy_slot,
    has_proxy_slot,
    set_meta,
    set_proxy_slot,
    track_tensor,
    track_tensor_tree,
)
from symfx.proxy_tensor.tracer import PythonKeyTracer
from symfx.proxy_tensor.tracing import make_fx

__all__ = [
    "ProxyTorchDispatchMode",
    "PythonKeyTracer",
    "decompose",
    "disable_proxy_modes_tracing",
    "extract_val",
    "fetch_object_proxy",
    "fetch_sym_proxy",
    "get_proxy_mode",
    "get_proxy_slot",
    "has_proxy_slot",
    "is_sym_node",
    "make_fx",
    "set_meta",
    "set_proxy_slot",
    "snapshot_fake",
    "track_tensor",
    "track_tensor_tree",
]

"""Tracing of functions on tensors into graphs of operators, with symbolic shapes."""

from __future__ import annotations

import functools
from typing import Any

from torch.types import py_sym_types

from symfx.proxy_tensor.active_mode import (
    decompose,
    disable_proxy_modes_tracing,
    get_innermost_proxy_mode,
    get_proxy_mode,
    handle_sym_dispatch,
)
from symfx.proxy_tensor.calling import (
    fake_signature,
    get_isolated_graphmodule,
    get_torch_dispatch_modes,
    wrapper_and_args_for_make_fx,
)
from symfx.proxy_tensor.function_mode import (
    PreDispatchTorchFunctionMode,
    TracingFunctionMode,
    without_function_mode,
)
from symfx.proxy_tensor.interpreters import DecompositionInterpreter, selective_decompose
from symfx.proxy_tensor.metadata import extract_val, is_sym_node, snapshot_fake
from symfx.proxy_tensor.mode import (
    HANDLED_TYPES,
    ProxyTorchDispatchMode,
    maybe_handle_decomp,
    proxy_call,
)
from symfx.proxy_tensor.modules import ModuleProxy
from symfx.proxy_tensor.original_operator import set_original_aten_op
from symfx.proxy_tensor.slots import (
    ProxyTensor,
    fetch_object_proxy,
    fetch_sym_proxy,
    get_proxy_slot,
    has_proxy_slot,
    keep_first_proxies,
    proxies_of,
    set_meta,
    set_proxy_slot,
    track_tensor,
    track_tensor_tree,
)
from symfx.proxy_tensor.thunks import maybe_disable_thunkify, maybe_enable_thunkify, thunkify
from symfx.proxy_tensor.tracer import PythonKeyTracer
from symfx.proxy_tensor.tracing import (
    CURRENT_TRACER,
    NODES_OF_LAST_TRACE,
    current_trace,
    dispatch_trace,
    make_fx,
)
from symfx.torch_bridge.modes import disable_autocast_cache
from symfx.torch_bridge.pytrees import REBUILT_AS

__all__ = [
    "HANDLED_TYPES",
    "DecompositionInterpreter",
    "PreDispatchTorchFunctionMode",
    "ProxyTensor",
    "ProxyTorchDispatchMode",
    "PythonKeyTracer",
    "TracingFunctionMode",
    "decompose",
    "disable_autocast_cache",
    "disable_proxy_modes_tracing",
    "dispatch_trace",
    "extract_val",
    "fake_signature",
    "fetch_object_proxy",
    "fetch_sym_proxy",
    "get_innermost_proxy_mode",
    "get_isolated_graphmodule",
    "get_proxy_mode",
    "get_proxy_slot",
    "get_torch_dispatch_modes",
    "handle_sym_dispatch",
    "has_proxy_slot",
    "is_sym_node",
    "make_fx",
    "maybe_disable_thunkify",
    "maybe_enable_thunkify",
    "maybe_handle_decomp",
    "proxy_call",
    "py_sym_types",
    "selective_decompose",
    "set_meta",
    "set_original_aten_op",
    "set_proxy_slot",
    "snapshot_fake",
    "thunkify",
    "track_tensor",
    "track_tensor_tree",
    "wrapper_and_args_for_make_fx",
]

# Names under which torch's other packages know some of these.
_AttrProxy = ModuleProxy
_FAKE_TENSOR_ID_TO_PROXY_MAP_FOR_EXPORT = NODES_OF_LAST_TRACE
_ProxyTensor = ProxyTensor
_get_proxies = proxies_of
_pytree_subclasses_that_lose_info = REBUILT_AS
_proxy_tensor_disable_update_tensor_tracker = keep_first_proxies
_temp_remove_metadata_torch_function_mode = functools.partial(
    without_function_mode, TracingFunctionMode
)
_temp_remove_pre_dispatch_torch_function_mode = functools.partial(
    without_function_mode, PreDispatchTorchFunctionMode
)


def __getattr__(name: str) -> Any:
    if name == "_CURRENT_MAKE_FX_TRACER":
        return None if current_trace() is None else CURRENT_TRACER
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

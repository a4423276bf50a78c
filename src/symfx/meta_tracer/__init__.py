"""torch.fx's symbolic tracing, with a tensor without data behind each proxy.

Shapes, dtypes, devices and lengths are known while the program is traced, so that Python's
control flow may depend on them. See docs/meta_tracer.md.
"""

from symfx.meta_tracer.errors import (
    ControlFlowError,
    MetaArgumentsError,
    NotRecordableError,
    UnknownMetaError,
)
from symfx.meta_tracer.graph_modules import symbolic_trace
from symfx.meta_tracer.overrides import (
    embedding_override,
    functional_relu_override,
    manual_meta_overrides,
    nn_layernorm_override,
    torch_abs_override,
    torch_nn_relu_override,
    torch_relu_override,
    torch_where_override,
)
from symfx.meta_tracer.proxies import (
    MetaAttribute,
    MetaDeviceAttribute,
    MetaProxy,
    gen_constructor_wrapper,
    proxys_to_metas,
)
from symfx.meta_tracer.tracer import MetaTracer

__all__ = [
    "ControlFlowError",
    "MetaArgumentsError",
    "MetaAttribute",
    "MetaDeviceAttribute",
    "MetaProxy",
    "MetaTracer",
    "NotRecordableError",
    "UnknownMetaError",
    "embedding_override",
    "functional_relu_override",
    "gen_constructor_wrapper",
    "manual_meta_overrides",
    "nn_layernorm_override",
    "proxys_to_metas",
    "symbolic_trace",
    "torch_abs_override",
    "torch_nn_relu_override",
    "torch_relu_override",
    "torch_where_override",
]

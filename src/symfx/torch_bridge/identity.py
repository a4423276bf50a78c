"""The one table of torch's own classes that symfx answers as, derives from, or takes members of.

torch compares with these by ``isinstance``, ``is`` or ``except``. No behaviour is taken from
them; ``tests/test_layout.py`` holds this module to the names below.
"""

from __future__ import annotations

from torch.fx.experimental.proxy_tensor import (
    PreDispatchTorchFunctionMode as TorchPreDispatchFunctionMode,
)
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode as TorchProxyMode
from torch.fx.experimental.proxy_tensor import TorchFunctionMetadataMode
from torch.fx.experimental.sym_node import SymNode as TorchSymNode
from torch.fx.experimental.symbolic_shapes import (
    ConstraintViolationError as TorchConstraintViolationError,
)
from torch.fx.experimental.symbolic_shapes import DimDynamic
from torch.fx.experimental.symbolic_shapes import (
    GuardOnDataDependentSymNode as TorchGuardOnDataDependentSymNode,
)
from torch.fx.experimental.symbolic_shapes import ShapeEnv as TorchShapeEnv
from torch.fx.experimental.symbolic_shapes import (
    StatelessSymbolicContext as TorchStatelessSymbolicContext,
)

__all__ = [
    "DimDynamic",
    "TorchConstraintViolationError",
    "TorchFunctionMetadataMode",
    "TorchGuardOnDataDependentSymNode",
    "TorchPreDispatchFunctionMode",
    "TorchProxyMode",
    "TorchShapeEnv",
    "TorchStatelessSymbolicContext",
    "TorchSymNode",
]

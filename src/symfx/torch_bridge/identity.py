"""The one table of names of torch's experimental package that symfx needs as they are.

The classes are those that symfx passes for, derives from, or takes members of: torch compares
with them by ``isinstance``, ``is`` or ``except``. One module in the table has the slot in which
torch's operators look for the running tracer. symfx takes no behavior from the classes.

Another is the module of questions about numbers, for `torch_bridge/dynamo.py` alone. Inside
`torch.compile` the numbers are torch's own, and Dynamo answers a question only where it knows the
function by identity.

``tests/test_layout.py`` holds this module to the names below.
"""

from __future__ import annotations

from torch.fx.experimental import dynamic_spec as dynamic_spec_of_torch
from torch.fx.experimental import proxy_tensor as proxy_tensor_of_torch
from torch.fx.experimental import symbolic_shapes as symbolic_shapes_of_torch
from torch.fx.experimental._backward_state import BackwardState
from torch.fx.experimental.proxy_tensor import (
    PreDispatchTorchFunctionMode as TorchPreDispatchFunctionMode,
)
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode as TorchProxyMode
from torch.fx.experimental.proxy_tensor import TorchFunctionMetadataMode
from torch.fx.experimental.sym_node import DynamicInt as TorchDynamicInt
from torch.fx.experimental.sym_node import SymNode as TorchSymNode
from torch.fx.experimental.sym_node import _DynamicScalar as TorchDynamicScalar
from torch.fx.experimental.symbolic_shapes import CallMethodKey as TorchCallMethodKey
from torch.fx.experimental.symbolic_shapes import Constraint as TorchConstraint
from torch.fx.experimental.symbolic_shapes import (
    ConstraintViolationError as TorchConstraintViolationError,
)
from torch.fx.experimental.symbolic_shapes import ConvertIntKey as TorchConvertIntKey
from torch.fx.experimental.symbolic_shapes import DimDynamic
from torch.fx.experimental.symbolic_shapes import DivideByKey as TorchDivideByKey
from torch.fx.experimental.symbolic_shapes import EqualityConstraint as TorchEqualityConstraint
from torch.fx.experimental.symbolic_shapes import (
    GuardOnDataDependentSymNode as TorchGuardOnDataDependentSymNode,
)
from torch.fx.experimental.symbolic_shapes import InnerTensorKey as TorchInnerTensorKey
from torch.fx.experimental.symbolic_shapes import (
    PendingUnbackedSymbolNotFound as TorchPendingUnbackedSymbolNotFound,
)
from torch.fx.experimental.symbolic_shapes import (
    RelaxedUnspecConstraint as TorchRelaxedUnspecConstraint,
)
from torch.fx.experimental.symbolic_shapes import ShapeEnv as TorchShapeEnv
from torch.fx.experimental.symbolic_shapes import Specialization as TorchSpecialization
from torch.fx.experimental.symbolic_shapes import (
    StatefulSymbolicContext as TorchStatefulSymbolicContext,
)
from torch.fx.experimental.symbolic_shapes import (
    StatelessSymbolicContext as TorchStatelessSymbolicContext,
)
from torch.fx.experimental.symbolic_shapes import (
    StrictMinMaxConstraint as TorchStrictMinMaxConstraint,
)
from torch.fx.experimental.symbolic_shapes import (
    SubclassSymbolicContext as TorchSubclassSymbolicContext,
)
from torch.fx.experimental.symbolic_shapes import SymbolicContext as TorchSymbolicContext
from torch.fx.experimental.symbolic_shapes import (
    SymIntSymbolicContext as TorchSymIntSymbolicContext,
)
from torch.fx.experimental.symbolic_shapes import TrackedFake as TorchTrackedFake
from torch.fx.experimental.symbolic_shapes import _ShapeEnvGuardError as TorchShapeEnvGuardError

__all__ = [
    "BackwardState",
    "DimDynamic",
    "TorchCallMethodKey",
    "TorchConstraint",
    "TorchConstraintViolationError",
    "TorchConvertIntKey",
    "TorchDivideByKey",
    "TorchDynamicInt",
    "TorchDynamicScalar",
    "TorchEqualityConstraint",
    "TorchFunctionMetadataMode",
    "TorchGuardOnDataDependentSymNode",
    "TorchInnerTensorKey",
    "TorchPendingUnbackedSymbolNotFound",
    "TorchPreDispatchFunctionMode",
    "TorchProxyMode",
    "TorchRelaxedUnspecConstraint",
    "TorchShapeEnv",
    "TorchShapeEnvGuardError",
    "TorchSpecialization",
    "TorchStatefulSymbolicContext",
    "TorchStatelessSymbolicContext",
    "TorchStrictMinMaxConstraint",
    "TorchSubclassSymbolicContext",
    "TorchSymIntSymbolicContext",
    "TorchSymNode",
    "TorchSymbolicContext",
    "TorchTrackedFake",
    "dynamic_spec_of_torch",
    "proxy_tensor_of_torch",
    "symbolic_shapes_of_torch",
]

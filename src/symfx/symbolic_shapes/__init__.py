"""Symbolic shapes: environments of symbols, the guards they collect, and questions to them."""

from symfx.symbolic_shapes.contexts import StatelessSymbolicContext
from symfx.symbolic_shapes.errors import ConstraintViolationError, GuardOnDataDependentSymNode
from symfx.symbolic_shapes.guard_programs import GuardCondition, GuardInput, GuardProgram
from symfx.symbolic_shapes.provenance import Provenance, UserFrame
from symfx.symbolic_shapes.queries import (
    expect_true,
    guard_bool,
    guard_float,
    guard_int,
    guard_or_false,
    guard_or_true,
    guard_size_oblivious,
    has_hint,
    hint_int,
    is_concrete_bool,
    is_concrete_float,
    is_concrete_int,
    statically_known_false,
    statically_known_true,
)
from symfx.symbolic_shapes.records import (
    Dim,
    InputFact,
    RuntimeAssert,
    ShapeGuard,
    SpecializationRecord,
    SymbolInfo,
)
from symfx.symbolic_shapes.shape_env import ShapeEnv, ShapeEnvSettings
from symfx.torch_bridge.identity import DimDynamic

__all__ = [
    "ConstraintViolationError",
    "Dim",
    "DimDynamic",
    "GuardCondition",
    "GuardInput",
    "GuardOnDataDependentSymNode",
    "GuardProgram",
    "InputFact",
    "Provenance",
    "RuntimeAssert",
    "ShapeEnv",
    "ShapeEnvSettings",
    "ShapeGuard",
    "SpecializationRecord",
    "StatelessSymbolicContext",
    "SymbolInfo",
    "UserFrame",
    "expect_true",
    "guard_bool",
    "guard_float",
    "guard_int",
    "guard_or_false",
    "guard_or_true",
    "guard_size_oblivious",
    "has_hint",
    "hint_int",
    "is_concrete_bool",
    "is_concrete_float",
    "is_concrete_int",
    "statically_known_false",
    "statically_known_true",
]

"""The attributes of a ShapeEnv that torch reads, and a few that it writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sympy

from symfx.symbolic_shapes.torch_api import state
from symfx.symbolic_shapes.torch_api.attributes import Computed, KeptIn

__all__ = ["TorchState"]


class TorchState:
    """torch's names for the state of a ShapeEnv: kept in a part of it, or computed when read."""

    pending_fresh_unbacked_symbols = KeptIn[list[sympy.Symbol]]("symbols")
    ignorable_fresh_unbacked_symbols = KeptIn[list[sympy.Symbol]]("symbols")
    unbacked_symint_counter = KeptIn[int]("symbols")
    unbacked_symfloat_counter = KeptIn[int]("symbols")
    unbacked_inputs = KeptIn[dict[sympy.Symbol, None]]("symbols")
    unique_ids = KeptIn[set[int]]("symbols")
    counter = KeptIn[Counter[str]]("symbols")
    real_tensor_prop_unbacked_vals = KeptIn[dict[sympy.Symbol, sympy.Basic]]("symbols")
    size_like = KeptIn[set[sympy.Symbol]]("knowledge")
    unbacked_renamings = KeptIn[dict[sympy.Symbol, sympy.Symbol]]("knowledge")
    source_to_var = KeptIn[dict[str, sympy.Symbol]]("inputs")
    val_to_var = KeptIn[dict[Any, sympy.Symbol]]("inputs")
    exclusion_constraints = KeptIn[list[tuple[sympy.Symbol, int]]]("inputs")
    var_to_hint_override = KeptIn[dict[sympy.Symbol, int]]("inputs")
    source_name_to_debug_name = KeptIn[dict[str, str]]("inputs")

    backed_var_to_val = Computed(state.backed_var_to_val)
    var_to_val = backed_var_to_val
    var_to_range = Computed(state.var_to_range)
    var_to_range_sloc = Computed(state.var_to_range_sloc)
    var_to_sources = Computed(state.var_to_sources)
    var_to_stack = Computed(state.var_to_stack)
    replacements = Computed(state.replacements)
    replacements_slocs = Computed(state.replacements_slocs)
    divisible = Computed(state.divisible)
    axioms = Computed(state.axioms)
    deferred_runtime_asserts = Computed(state.deferred_runtime_asserts)
    unbacked_alloc_order = Computed(state.unbacked_alloc_order)
    symbol_guard_counter = Computed(state.symbol_guard_counter)
    specializations = Computed(state.specializations)
    specialization_stacks = Computed(state.specialization_stacks)

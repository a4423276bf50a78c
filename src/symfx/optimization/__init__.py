"""Optimizing models for inference on the CPU: `symfx.optimize`, its report, and saved models.

The names of torch.fx.experimental.optimization stand here too, with their meanings.
"""

from symfx.optimization.checking import TOLERANCES
from symfx.optimization.model import OptimizedModel, load
from symfx.optimization.pipeline import optimize
from symfx.optimization.reference.editing import (
    extract_subgraph,
    fuse,
    matches_module_pattern,
    remove_dropout,
    replace_node_module,
)
from symfx.optimization.reference.inference import optimize_for_inference
from symfx.optimization.reference.mkldnn import (
    MklSubgraph,
    UnionFind,
    gen_mkl_autotuner,
    mkldnn_map,
    mkldnn_supported,
    mkldnn_supported_unknown,
    modules_to_mkldnn,
    reset_modules,
    use_mkl_length,
)
from symfx.optimization.report import Check, LeftAlone, Report, Rewrite

__all__ = [
    "TOLERANCES",
    "Check",
    "LeftAlone",
    "MklSubgraph",
    "OptimizedModel",
    "Report",
    "Rewrite",
    "UnionFind",
    "extract_subgraph",
    "fuse",
    "gen_mkl_autotuner",
    "load",
    "matches_module_pattern",
    "mkldnn_map",
    "mkldnn_supported",
    "mkldnn_supported_unknown",
    "modules_to_mkldnn",
    "optimize",
    "optimize_for_inference",
    "remove_dropout",
    "replace_node_module",
    "reset_modules",
    "use_mkl_length",
]

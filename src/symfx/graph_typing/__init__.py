"""The parts of `symfx.graph_gradual_typechecker`, by job."""

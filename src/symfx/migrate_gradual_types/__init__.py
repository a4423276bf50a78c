"""Gradual types as constraints, and the constraints as formulas of z3."""

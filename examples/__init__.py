"""Example models to trace with symfx."""

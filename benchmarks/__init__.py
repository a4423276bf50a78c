"""Benchmarks: symfx and stock torch do the same work in turn, in one process.

``python -m benchmarks --help`` says how to run them. No benchmark asserts a time. The figures that
carry from one machine to another are ratios of medians from one run.
"""

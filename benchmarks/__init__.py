"""symfx and stock torch on the same work, in turn, in one process run.

``python -m benchmarks --help`` says how to run them. Nothing here asserts a time: the figures that
mean something are ratios of medians out of one run.
"""

"""Operators on fake tensors: what is known of each, shape rules over terms, and the cache of
their results, which every FakeTensorMode with an environment of symfx dispatches through.
"""

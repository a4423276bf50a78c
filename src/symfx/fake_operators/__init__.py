"""Operators on fake tensors: facts about each, rules over terms, and the cache of results.

Every FakeTensorMode with an environment of symfx dispatches through the cache.
"""

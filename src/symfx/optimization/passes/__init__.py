"""The rewrites of an optimization, one a module."""

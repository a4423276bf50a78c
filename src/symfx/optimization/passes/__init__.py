"""The rewrites of graphs, one kind in each module."""

"""Capturing a model as a graph, and reading and editing graphs."""

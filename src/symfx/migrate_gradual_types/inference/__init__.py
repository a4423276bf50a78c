"""The inference rules: one operator each, from a node to its constraints."""

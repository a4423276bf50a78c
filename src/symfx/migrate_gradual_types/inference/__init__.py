"""The inference rules: each maps a node of one operator to constraints."""

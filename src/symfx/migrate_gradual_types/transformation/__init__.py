"""The transformation rules: one class of composite constraints each."""

"""The transformation rules: each rewrites one class of composite constraints."""

"""Explanations: the line behind a guard, the text of a data-dependent error, the log."""

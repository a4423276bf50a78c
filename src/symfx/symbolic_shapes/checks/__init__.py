"""Checks of inputs: guards as programs and as text, and the sizes that they admit."""

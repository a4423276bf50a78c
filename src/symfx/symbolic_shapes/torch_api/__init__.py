"""The names of a ShapeEnv that torch calls and reads, in sympy where torch speaks sympy."""

"""Languages: terms as Python, C, SMT-LIB and sympy."""

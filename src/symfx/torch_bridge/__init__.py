"""torch's private surface, in one place.

`identity` alone imports torch's experimental modules, and takes no behavior from them.
"""

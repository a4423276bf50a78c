"""The rooms that touch torch's private surface, and the only ones that name its
experimental modules; there for identity, never for behaviour."""

"""Reading and editing graphs: capture, effects, aliases, layers, surgery."""

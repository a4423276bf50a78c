"""A trace handed on: to a file, and to what comes after tracing."""

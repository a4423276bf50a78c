"""The command line: `app` holds its commands, `main` runs it."""

from symfx.cli.application import app, main

__all__ = ["app", "main"]

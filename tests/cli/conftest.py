"""What the tests of commands share: running the command line in this process."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from command_line import Run
from symfx.cli import main


@pytest.fixture
def run(capsys: Any, monkeypatch: Any) -> Run:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("SYMFX_DEBUG", raising=False)

    def go(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return go

"""The program's own line stands before that of an installed package."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from symfx.shape_rules.program_lines import program_line, program_line_of_trace


def test_the_programs_line_stands_before_that_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths below the current directory are shown without it
    package = f"{sysconfig.get_paths()['purelib']}{os.sep}somewhere{os.sep}layers.py"
    own = 'File "/no/model.py", line 3, in forward\n    return self.net(x)\n'
    inner = f'File "{package}", line 7, in forward\n    return x + y\n'
    expected = f"/no/model.py:3: return self.net(x), in somewhere{os.sep}layers.py:7: return x + y"
    assert program_line_of_trace(own + inner) == expected
    assert program_line_of_trace(own) == "/no/model.py:3: return self.net(x)"
    assert program_line_of_trace(inner) == f"{package}:7: return x + y"
    assert program_line_of_trace("") is None


def test_an_exception_has_the_line_that_it_came_through() -> None:
    try:
        raise ValueError("here")
    except ValueError as error:
        assert "test_program_lines.py" in (program_line(error) or "")
    assert program_line(ValueError("never raised")) is None

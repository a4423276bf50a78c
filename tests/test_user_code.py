"""The owner of a line, which is the user, torch's layers or a library, and the line in words."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from symfx import user_code
from symfx.user_code import UserFrame

SITE = Path(torch.__file__).parents[1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (__file__, True),
        ("<stdin>", True),
        (str(SITE / "torchvision" / "models.py"), True),  # a path that starts like torch's folder
        (str(SITE / "torch" / "_ops.py"), False),
        (str(SITE / "torch" / "nn" / "modules" / "linear.py"), False),
        (user_code.__file__, False),
        ("<eval_with_key>.3", False),
        ("<frozen importlib._bootstrap>", False),
        (contextlib.__file__, False),
        (functools.__file__, False),
    ],
)
def test_files_of_the_user(path: str, expected: bool) -> None:
    assert user_code.is_user_file(path) is expected


def test_the_line_that_runs() -> None:
    line = user_code.user_line()
    assert line is not None and line.filename == __file__
    assert line.line == "line = user_code.user_line()"
    near = os.path.relpath(__file__)
    short = __file__ if near.startswith("..") else near
    assert str(line) == f"{short}:{line.lineno}"
    assert line.with_text == f"{short}:{line.lineno}: {line.line}"
    assert functools.partial(user_code.here)() == f"{short}:{line.lineno + 7}: " + (
        'assert functools.partial(user_code.here)() == f"{short}:{line.lineno + 7}: " + ('
    )


class Failing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(5, 7)


def raised(*layers: torch.nn.Module) -> UserFrame:
    """The line at which a model fails. The boundary keeps the lines of this file out."""

    @user_code.boundary
    def run() -> None:
        torch.nn.Sequential(*layers)(torch.ones(3, 4))

    with pytest.raises(RuntimeError) as caught:
        run()
    found = user_code.raised_at(caught.value)
    assert found is not None
    words = user_code.where(caught.value)
    assert words == found.with_text
    return found


def test_the_line_that_raised() -> None:
    assert raised(Failing()).line == "return x.view(5, 7)"
    # A model of torch's layers alone gives the innermost line of the layers.
    layer = raised(torch.nn.Linear(9, 9))
    assert str(layer).startswith("torch/nn/modules/linear.py:")


def test_a_subgraphs_boundary_keeps_the_line_around_it() -> None:
    @user_code.boundary
    def call(function: Callable[[], object]) -> object:
        return function()

    def program() -> object:
        return call(lambda: json.loads("{"))  # fails in a library that counts as the user's

    def layers() -> object:
        return call(functools.partial(torch.view_copy, torch.ones(3), (5, 7)))

    for model, expected in ((program, "decoder.py"), (layers, "test_user_code.py")):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            call(model)
        found = user_code.raised_at(caught.value)
        assert found is not None and found.filename.endswith(expected)


def test_a_syntax_error_has_the_line_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ndef f(:\n")
    with pytest.raises(SyntaxError) as caught:
        compile(path.read_text(), str(path), "exec")
    assert (user_code.where(caught.value) or "").endswith("broken.py:2: def f(:")


def test_the_line_in_a_formatted_traceback() -> None:
    inner = f'  File "{SITE}/torch/_ops.py", line 9, in __call__\n    return self._op()\n'
    text = '  File "/no/model.py", line 3, in forward\n    return x + 1\n' + inner
    assert user_code.user_line_of_trace(text) == "/no/model.py:3: return x + 1"
    assert user_code.user_line_of_trace(inner) is None


def test_a_line_is_named_before_torch_is_loaded() -> None:
    code = (
        "import sys\nfrom symfx import user_code\n"
        "assert not user_code.is_user_file(sys.argv[1]) and 'torch' not in sys.modules"
    )
    source = str(Path(user_code.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", code, torch.__file__], check=True, env=environment)

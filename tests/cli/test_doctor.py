"""``symfx doctor`` finds the names of torch that symfx needs, and says which are missing."""

from __future__ import annotations

import json
import re
import sys
import warnings
from importlib.metadata import version

import pytest
import torch
from typer.testing import CliRunner

from symfx import __version__
from symfx.cli import app
from symfx.torch_bridge import self_check
from symfx.torch_bridge.releases import RELEASE, TESTED_RELEASES, warn_if_untested


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *words])
    return result.exit_code, result.output


def test_nothing_is_missing_from_the_running_torch() -> None:
    assert RELEASE in TESTED_RELEASES
    code, out = run()
    assert code == 0
    first, second, *_ = out.splitlines()
    assert first == f"symfx {__version__} on torch {torch.__version__} (supported): no name missing"
    assert second == "The supported releases of torch are 2.13, 2.14, 2.15."
    assert "no name is missing" in out
    for package in ("numpy", "sympy", "typer"):
        assert re.search(rf"^  {package} +{re.escape(version(package))}$", out, re.MULTILINE)


def test_a_missing_package_of_an_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "z3", None)
    code, out = run()
    assert code == 0, "symfx runs without an extra"
    assert "; without the extras types, z3\n" in out
    assert 'missing: z3-solver; pip install "symfx[types]"' in out
    code, out = run("--json")
    assert json.loads(out)["extras"]["z3"]["missing"] == ["z3-solver"]


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    _, out = run()
    assert "C++  symfx trace --aoti: missing" in out


def test_a_missing_name_is_told_with_the_features_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.overrides, "_push_mode")
    self_check._look_up.cache_clear()
    code, out = run("--json")
    self_check._look_up.cache_clear()
    assert code == 1
    (missing,) = json.loads(out)["missing"]
    assert missing["name"] == "torch.overrides._push_mode"
    assert missing["used_in"] == ["torch_bridge/modes.py"]
    assert missing["features"] == ["symbolic shapes, symfx.trace and make_fx"]


def test_a_newer_torch_gives_a_warning_and_a_tested_one_none() -> None:
    with pytest.warns(UserWarning, match=r"not yet with 9\.1\.0; `symfx doctor`"):
        warn_if_untested((9, 1), "9.1.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for release in TESTED_RELEASES:
            warn_if_untested(release, "")


def test_an_object_under_the_name_of_its_module_hides_no_name() -> None:
    name = "torch._higher_order_ops.invoke_subgraph.invoke_subgraph"
    assert self_check._look_up(name)
    assert not self_check._look_up(name.replace("_subgraph.", "_subgraph.no_such_"))

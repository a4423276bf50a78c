"""The README's commands are those that CI runs, and every link of the documents leads somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest
from tools.website.pictures import COMMANDS
from tools.website.public_names import MODULES, outside_name, public_names

import symfx

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def readme_command(kind: str) -> str:
    """The shell block of the README that follows the marker of a command."""
    found = re.findall(rf"<!-- command: {kind} -->\n```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(found) == 1, f"README.md must have one `<!-- command: {kind} -->` before a sh block"
    return found[0]


def test_the_readme_has_one_command_for_each_job() -> None:
    for kind in ("main", "test"):
        command = readme_command(kind)
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert "symfx trace examples/" in readme_command("main")
    assert ".[test]" in readme_command("test")
    assert "pytest" in readme_command("test")


def test_the_file_that_the_readme_traces_is_there() -> None:
    (target,) = re.findall(r"symfx trace (\S+):", readme_command("main"))
    assert (ROOT / target).is_file()


def test_ci_runs_the_readmes_own_commands() -> None:
    """CI uses an environment of its own, and otherwise the same words."""
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--show"], capture_output=True, text=True, check=True
    )
    commands = [readme_command(kind).replace(".venv", ".ci-venv") for kind in ("main", "test")]
    assert done.stdout.splitlines() == commands


def test_the_readme_says_what_symfx_is_for_in_its_first_ten_lines() -> None:
    first = "\n".join(README.splitlines()[:10])
    assert "PyTorch" in first
    assert "symbolic shapes" in first


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:  # a block may use the imports of the blocks above
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "dimension 2 of src is 32; it is static: 64 when traced" in printed


def test_each_document_that_is_linked_is_there() -> None:
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        # Code within a line may index and call: `layers[i](x)` is no link.
        prose = re.sub(r"`[^`\n]*`(?!\])", "", document.read_text())
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", prose):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_the_navigation_of_the_site_has_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert re.search(rf"^ +- [^:]+: {re.escape(page.name)}$", site, re.MULTILINE), (
            f"list {page.name} in mkdocs.yml"
        )


def test_the_pictures_are_of_commands_and_ask_no_server() -> None:
    for name in COMMANDS:
        picture = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()
        assert "verified at 6 shapes" in picture.replace("&#160;", " ") or name != "trace"
        assert not re.search(r"url\([^#]|href=|<script", picture)
        assert f"pictures/{name}.svg" in (ROOT / "docs" / "index.md").read_text()
    assert "docs/pictures/trace.svg" in README


def test_the_reference_of_the_site_has_every_public_module() -> None:
    listed = {module for modules in MODULES.values() for module in modules}
    found = {"symfx", *(f"symfx.{name}" for name in symfx._MODULES)}
    found |= {f"symfx.{path.parent.name}" for path in (ROOT / "src/symfx").glob("*/__init__.py")}
    public = {
        module
        for module in found
        if (names := public_names(module)) and module not in ("symfx.cli",)
        if any(not name.startswith("_") for name in names)
    }
    inner = {"symfx.shape_rules.rules", "symfx.torch_bridge", "symfx.fake_operators"}
    assert public - inner - listed == set()
    for module in listed:
        loaded = importlib.import_module(module)
        assert sorted(loaded.__all__) == sorted(public_names(module)), module


def test_names_from_other_packages_are_told_apart() -> None:
    assert outside_name("symfx", "trace") is None
    assert outside_name("symfx", "errors") is None
    assert outside_name("symfx.unification", "isvar") == "unification.variable.isvar"


def test_the_paths_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"\b(?:src|tests|benchmarks|tools|docs)/[\w/.]*\w", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []

"""The script of the page is what its sources build to, and axe finds no barrier in the page."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from html_report.browser import Opened, running
from html_report.reported import pinned_trace

WEB = Path(__file__).parents[2] / "web"
SHIPPED = Path(__file__).parents[2] / "src" / "symfx" / "html_report"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The packages from npm that the build and the check of barriers need."""
    if shutil.which("node") is None:
        pytest.skip("no node: apt-get install nodejs npm")
    if not (WEB / "node_modules" / "axe-core").is_dir():
        pytest.skip("the packages of web/ are not installed: cd web && npm ci")
    return WEB / "node_modules"


def test_shipped_page_is_what_its_sources_build_to(packages: Path, tmp_path: Path) -> None:
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=WEB, check=True, capture_output=True)
    for built in ("page.js", "page.css", "licenses.txt"):
        fresh = (tmp_path / built).read_text()
        assert fresh == (SHIPPED / built).read_text(), f"{built} is stale: cd web && npm run build"


def test_types_of_the_sources(packages: Path) -> None:
    done = subprocess.run(
        [str(packages / ".bin" / "tsc"), "--noEmit"], cwd=WEB, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "pinned.html"
    pinned_trace().report(path)
    return path


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_barrier(
    packages: Path, browser: Any, report: Path, width: int, dark: bool
) -> None:
    axe = (packages / "axe-core" / "axe.min.js").read_text()
    with Opened(browser, report, width=width, dark=dark) as opened:
        page = opened.page
        for summary in page.locator("summary").all():
            if summary.is_visible() and summary.locator("..").get_attribute("open") is None:
                summary.click()
        page.locator(".row").nth(3).click()
        page.evaluate(axe)
        found = page.evaluate("axe.run()")
        assert [
            (each["id"], [node["html"][:200] for node in each["nodes"]][:3])
            for each in found["violations"]
        ] == []
        assert len(found["passes"]) > 40

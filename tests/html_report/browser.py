"""A headless Chromium without a network, for the tests of reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: The names of Chromium's program, as Debian and Google call it.
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """The path of Chromium; the tests that need it are left out where there is none."""
    found = os.environ.get("SYMFX_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one by SYMFX_CHROMIUM")
    return found


@contextmanager
def running() -> Iterator[Any]:
    """A Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = chromium()
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A report in a page of the browser.

    Attributes:
        page: the page.
        problems: the errors and warnings of the page, and the addresses that it asked for.
    """

    def __init__(self, browser: Any, path: Path, *, width: int = 1440, dark: bool = False) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._note_request)
        self.page.set_default_timeout(8000)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith("file:"):
            self.problems.append(f"asked for {request.url}")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def button(self, label: str) -> Any:
        """The button with a label."""
        return self.page.get_by_role("button", name=label, exact=True)

    def tree_item(self, name: str) -> Any:
        """The item of the tree with a name."""
        names = self.page.locator(".row .name").get_by_text(name, exact=True)
        return names.first.locator("xpath=ancestor::li[1]")

    def boxes(self) -> list[str]:
        """What the boxes of the picture say to a screen reader."""
        labels: list[str] = self.page.locator(".canvas [role=button]").evaluate_all(
            "boxes => boxes.map(box => box.getAttribute('aria-label'))"
        )
        return labels

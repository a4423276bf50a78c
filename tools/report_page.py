"""The report of a trace in a browser: the pictures of the docs, and how long large graphs take.

    python -m tools.report_page picture                    writes docs/pictures/report.png
    python -m tools.report_page shots REPORT.html FOLDER   a picture for each width and color
    python -m tools.report_page times [--layers N]         prints how long a large graph takes

It needs Chromium and the package playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import symfx
from examples.encoder import EncoderStack

ROOT = Path(__file__).parents[1]
WIDTHS = {"wide": (1440, 900), "tablet": (820, 1180), "phone": (390, 844)}

#: Presses a button of the page, and returns the milliseconds to the end of its work and until the
#: second frame after it.
_PRESS = """async (label) => {
  const button = [...document.querySelectorAll("button")].find((b) => b.textContent === label);
  const start = performance.now();
  button.click();
  const done = performance.now() - start;
  await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
  return [Math.round(done), Math.round(performance.now() - start)];
}"""

#: Drags the picture, and returns the longest and the mean time of a frame in milliseconds.
_DRAG = """async () => {
  const canvas = document.querySelector(".canvas");
  const at = canvas.getBoundingClientRect();
  const event = (type, y) => new MouseEvent(type, {
    bubbles: true, cancelable: true, view: window, clientX: at.left + 200, clientY: y,
  });
  canvas.dispatchEvent(event("mousedown", 300));
  const frames = [];
  for (let i = 1; i <= 60; i++) {
    const start = performance.now();
    window.dispatchEvent(event("mousemove", 300 - 15 * i));
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - start);
  }
  window.dispatchEvent(event("mouseup", 0));
  return [Math.max(...frames), frames.reduce((a, b) => a + b) / frames.length].map(Math.round);
}"""


class Classifier(nn.Module):
    """A classifier of sequences that pins their length by mistake: its pooling is a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.pool = nn.Linear(16, 1)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 7))

    def forward(self, ids: Tensor) -> Tensor:
        """The scores of seven classes."""
        x = self.encoder(self.embed(ids))
        if ids.shape[0] > 64:
            x = x * 0.5
        pooled = self.pool(x.transpose(1, 2)).squeeze(-1)
        scores: Tensor = self.head(pooled)
        return scores


@contextmanager
def opened(path: Path, width: str = "wide", *, dark: bool = False) -> Iterator[Any]:
    """A page of headless Chromium that shows a report, without a network."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("SYMFX_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        wide, high = WIDTHS[width]
        page = browser.new_page(
            viewport={"width": wide, "height": high},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        page.goto(path.absolute().as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        browser.close()


def picture() -> None:
    """Write the picture of the docs."""
    torch.manual_seed(0)
    ids = torch.randint(0, 100, (3, 16))
    t = symfx.trace(Classifier(), (ids,), dynamic={"ids": ("batch", "seq")}, strict=False)
    target = ROOT / "docs" / "pictures" / "report.png"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        t.report(Path(folder) / "report.html")
        with opened(Path(folder) / "report.html") as page:
            page.locator(".row .name").get_by_text("transpose", exact=True).first.click()
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(300)
            page.screenshot(path=target, full_page=True, clip=_clip(0, 1240))
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1024} KiB")


def _clip(top: int, height: int) -> dict[str, float]:
    return {"x": 0, "y": top, "width": WIDTHS["wide"][0], "height": height}


def shots(report: Path, folder: Path) -> None:
    """Write a picture of a report for each width, light and dark."""
    folder.mkdir(exist_ok=True)
    for width in WIDTHS:
        for dark in (False, True):
            name = folder / f"{report.stem}-{width}-{'dark' if dark else 'light'}.png"
            with opened(report, width, dark=dark) as page:
                page.wait_for_timeout(200)
                page.screenshot(path=name, full_page=True)
            print(name)


def times(layers: int) -> None:
    """Print how long it takes to open, unfold, fold and drag a large graph."""
    t = symfx.trace(
        EncoderStack(layers=layers), (torch.randn(3, 5, 64),), dynamic=[("batch", "seq", None)]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        t.report(path, verify=False)
        nodes, size = len(t.graph_module.graph.nodes), path.stat().st_size / 2**20
        print(
            f"{nodes} nodes, {size:.1f} MiB, load average {os.getloadavg()[0]:.1f} on "
            f"{os.cpu_count()} cores"
        )
        with opened(path) as page:
            print(f"open: {page.evaluate('document.documentElement.dataset.ready')} ms")
            for label in ("Fold all", "Unfold all", "Fold all", "Unfold all"):
                done, shown = page.evaluate(_PRESS, label)
                print(f"{label.lower()}: {done} ms, shown after {shown} ms")
            longest, mean = page.evaluate(_DRAG)
            print(f"drag: a frame takes {mean} ms, the longest {longest} ms")


def main() -> None:
    """Run the command that the words name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("picture")
    shooting = commands.add_parser("shots")
    shooting.add_argument("report", type=Path)
    shooting.add_argument("folder", type=Path)
    commands.add_parser("times").add_argument("--layers", type=int, default=83)
    asked = parser.parse_args()
    if asked.command == "picture":
        picture()
    elif asked.command == "shots":
        shots(asked.report, asked.folder)
    else:
        times(asked.layers)


if __name__ == "__main__":
    main()

"""The pictures of the README and of the site: what commands print on a terminal, as SVG.

python -m tools.website.pictures      runs the commands and writes docs/pictures
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[2]
COLUMNS = 100
#: The commands, by the name of the picture.
COMMANDS = {
    "trace": ["trace", "examples/encoder.py:EncoderStack", "--input", "x: f32[batch, seq, 64]",
              "--max-nodes", "8"],
    "mistake": ["trace", "examples/pinned.py:add_positions", "--input", "x: f32[batch, seq=16, 8]"],
}  # fmt: skip


def printed(words: list[str]) -> str:
    """What a command prints on a terminal with colors, errors included."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-m", "symfx", *words],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def picture(words: list[str]) -> str:
    """The picture of a command: an SVG that asks no server for a font."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), f"symfx {shown}"), soft_wrap=False)
    console.print(Text.from_ansi(printed(words)))
    svg = console.export_svg(title="symfx", theme=MONOKAI, unique_id="symfx")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


def main() -> None:
    """Write all pictures."""
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    for name, words in COMMANDS.items():
        text = re.sub(r"[ \t]+$", "", picture(words), flags=re.MULTILINE)
        (folder / f"{name}.svg").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

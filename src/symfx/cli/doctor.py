"""``symfx doctor``: whether the running torch has all that symfx needs."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from symfx.cli.console import FAILED, clear_errors, print_json, print_lines, progress
from symfx.cli.options import AsJson, Debug

__all__ = ["doctor_command"]


def doctor_command(as_json: AsJson = False, debug: Debug = False) -> None:
    """Check which names of torch that symfx needs are there, and what a missing one turns off.

    Exit codes: 0 all names are there, 1 some are missing, 70 symfx itself failed.
    """
    with clear_errors(debug):
        with progress("looking up names of torch"):
            found = _examine()
        if as_json:
            print_json("symfx doctor", found)
        else:
            print_lines(_lines(found))
    if found["missing"]:
        raise typer.Exit(FAILED)


def _examine() -> dict[str, Any]:
    import torch

    from symfx.torch_bridge.releases import CHOICES, RELEASE, TESTED_RELEASES
    from symfx.torch_bridge.self_check import missing_names

    return {
        "torch": str(torch.__version__),
        "tested": RELEASE in TESTED_RELEASES,
        "tested_releases": [f"{major}.{minor}" for major, minor in TESTED_RELEASES],
        "found": CHOICES,
        "missing": [
            {"name": name.name, "features": list(name.features), "used_in": list(name.used_in)}
            for name in missing_names()
        ],
    }


def _lines(found: dict[str, Any]) -> list[Text]:
    """The result for people to read."""
    tested = "tested" if found["tested"] else "not tested"
    releases = ", ".join(found["tested_releases"])
    lines = [
        Text(f"torch {found['torch']}: {tested} (the tested releases are {releases})"),
        Text(""),
        Text("found", style="bold"),
    ]
    width = max(map(len, found["found"]))
    lines += [Text(f"  {name:<{width}}  {value}") for name, value in found["found"].items()]
    lines.append(Text(""))
    if not found["missing"]:
        lines.append(Text("no name is missing", style="green"))
        return lines
    lines.append(Text("missing", style="bold red"))
    for missing in found["missing"]:
        lines.append(Text(f"  {missing['name']}  turns off {', '.join(missing['features'])}"))
    return lines

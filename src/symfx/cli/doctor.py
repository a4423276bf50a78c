"""``symfx doctor``: the versions that symfx runs with, and the missing packages."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from typing import Any

import typer
from rich.text import Text

from symfx._version import __version__
from symfx.cli.console import FAILED, clear_errors, print_json, print_lines
from symfx.cli.options import AsJson, Debug, Quiet, Verbose
from symfx.cli.steps import progress
from symfx.extras import EXTRAS, missing_packages

__all__ = ["doctor_command"]

#: The packages that symfx always has, and whose releases matter.
_PACKAGES = ("torch", "numpy", "sympy", "safetensors", "rich", "typer", "lark")
#: What each extra is for.
_PURPOSES = {
    "types": "symfx typecheck, gradual types, unification",
    "z3": "the prover that asks z3, translation validation",
    "onnx": "symfx trace --onnx",
    "dask": "symfx sweep --dask",
}


def doctor_command(
    as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False
) -> None:
    """Print the versions that symfx runs with, and which parts of it lack a package.

    The command prints the versions of Python and of packages, the extras that are installed, and
    the compilers. It tells whether this release of torch is supported, and which names this torch
    lacks.

    Examples:
        symfx doctor

    Exit codes: 0 no name of torch is missing, 1 some are, 70 symfx itself failed.
    """
    with clear_errors(debug, verbose):
        with progress("looking up names of torch"):
            found = _examine()
        if as_json:
            print_json("symfx doctor", found)
        else:
            print_lines(_lines(found)[: 1 if quiet else None])
    if found["missing"]:
        raise typer.Exit(FAILED)


def _examine() -> dict[str, Any]:
    import torch

    from symfx.optimization.runtime.compiled import compiler
    from symfx.torch_bridge.releases import CHOICES, RELEASE, TESTED_RELEASES
    from symfx.torch_bridge.self_check import missing_names

    return {
        "symfx": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "extras": {
            extra: {"purpose": _PURPOSES.get(extra, ""), "missing": missing_packages(extra)}
            for extra in EXTRAS
        },
        "compilers": {
            "C": compiler(),  # for the kernels of symfx.optimize
            "C++": shutil.which("g++") or shutil.which("clang++"),  # for Inductor
        },
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
    """The result for people to read; its first line is the whole of it in short."""
    supported = "supported" if found["tested"] else "not tested"
    releases = ", ".join(found["tested_releases"])
    lacking = [extra for extra, about in found["extras"].items() if about["missing"]]
    missing = len(found["missing"])
    names = "no name missing" if not missing else f"names missing: {missing}"
    without = f"; without the extras {', '.join(lacking)}" if lacking else ""
    lines = [
        Text(
            f"symfx {found['symfx']} on torch {found['torch']} ({supported}): {names}{without}",
            style="bold" if not missing else "bold red",
        ),
        Text(f"The supported releases of torch are {releases}."),
    ]
    packages = {"python": found["python"], **found["packages"]}
    lines += _table("versions", packages)
    extras = {}
    for extra, about in found["extras"].items():
        state = "installed"
        if about["missing"]:
            state = f'missing: {", ".join(about["missing"])}; pip install "symfx[{extra}]"'
        extras[extra] = f"{about['purpose']}: {state}"
    lines += _table("extras", extras)
    uses = {"C": "the kernels of symfx optimize", "C++": "symfx trace --aoti"}
    lines += _table(
        "compilers",
        {
            language: f"{uses[language]}: {path or 'missing'}"
            for language, path in found["compilers"].items()
        },
    )
    lines += _table("what this torch has", found["found"])
    lines += [Text(), Text("names of torch", style="bold")]
    for name in found["missing"]:
        text = f"  {name['name']} is missing, which turns off {', '.join(name['features'])}"
        lines.append(Text(text, style="red"))
    if not found["missing"]:
        lines.append(Text("  no name is missing", style="green"))
    return lines


def _table(title: str, rows: dict[str, str]) -> list[Text]:
    width = max(map(len, rows))
    lines = [Text(f"  {name:<{width}}  {value}") for name, value in rows.items()]
    return [Text(), Text(title, style="bold"), *lines]

"""The report of an installation: the names that were swapped, and where."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from symfx.installation.substitutes import NOT_SWAPPED
from symfx.installation.switch import current

__all__ = ["InstalledReport", "Swapped", "installed_report"]


@dataclass(frozen=True)
class Swapped:
    """A name of torch that stands for an object of symfx.

    Attributes:
        name: the name.
        places: the globals of torch and of other packages that held torch's object.
    """

    name: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class InstalledReport:
    """The state of the installation.

    Attributes:
        installed: whether symfx is installed.
        torch: the version of torch.
        swapped: the names that stand for objects of symfx.
        kept: kinds of names that stay torch's, with the reason.
        missing: modules of torch that symfx looks for and this torch does not have.
    """

    installed: bool
    torch: str
    swapped: tuple[Swapped, ...]
    kept: dict[str, str]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        if not self.installed:
            return f"symfx is not installed; torch {self.torch} uses its own symbolic shapes"
        places = sum(len(name.places) for name in self.swapped)
        lines = [
            f"symfx is installed in torch {self.torch}: "
            f"{len(self.swapped)} names in {places} places"
        ]
        width = max(len(name.name) for name in self.swapped)
        for name in self.swapped:
            rest = len(name.places) - 3
            more = f" and {rest} more" if rest > 0 else ""
            lines.append(f"  {name.name:<{width}}  {', '.join(name.places[:3])}{more}")
        lines += [f"kept: {kind}, because {reason}" for kind, reason in self.kept.items()]
        lines += [f"not found in this torch: {name}" for name in self.missing]
        return "\n".join(lines)


def installed_report() -> InstalledReport:
    """Which names of torch stand for symfx's objects, where, and which were not found.

    Example:
        >>> import symfx
        >>> symfx.installed_report().installed
        False
    """
    found = current()
    if found is None:
        return InstalledReport(False, str(torch.__version__), (), {}, ())
    swapped = [
        Swapped(name, tuple(sorted(map(str, places)))) for name, places in found.places.items()
    ]
    return InstalledReport(
        True, str(torch.__version__), tuple(swapped), dict(NOT_SWAPPED), tuple(found.missing)
    )

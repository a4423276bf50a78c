"""install, uninstall and installed: symfx's objects in the place of torch's, and torch's again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from symfx.errors import SymfxError
from symfx.installation.substitutes import Present, substitutes
from symfx.torch_bridge.dynamo import skip_frames_of_symfx
from symfx.torch_bridge.holders import Place, import_users, replace_everywhere
from symfx.torch_bridge.running_work import between_compilations, running_work

__all__ = ["InstallError", "current", "install", "installed", "is_installed", "uninstall"]


class InstallError(SymfxError, RuntimeError):
    """symfx cannot be installed or uninstalled now."""


@dataclass
class _Installation:
    """What stands in torch's place.

    Attributes:
        pairs: by name, torch's object and the one in its place.
        places: by name, the globals that held torch's object.
        missing: modules of torch that the running torch does not have.
    """

    pairs: dict[str, tuple[Any, Any]]
    places: dict[str, list[Place]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


class _Process:
    """The state of the process: the installation, if there is one."""

    installation: _Installation | None = None


_lock = threading.RLock()
# Made once: an object that still holds a substitute after `uninstall` holds the same one later.
_substitutes: dict[str, tuple[Any, Any]] = {}


def current() -> _Installation | None:
    """The present installation, or None."""
    return _Process.installation


def is_installed() -> bool:
    """Whether symfx stands in the place of torch's symbolic shapes.

    Example:
        >>> import symfx
        >>> with symfx.installed():
        ...     is_installed()
        True
    """
    return Present.installed


def install() -> None:
    """Have torch's export, compile and AOTAutograd use symfx from now on.

    They make symfx's environments and numbers, and trace with symfx's make_fx. Programs that
    were made before keep torch's. A second call changes nothing.

    Raises:
        InstallError: torch traces or compiles a program at this moment.

    Example:
        >>> import symfx, torch
        >>> symfx.install()
        >>> rows = torch.export.Dim("rows")
        >>> program = torch.export.export(
        ...     torch.nn.Linear(4, 2), (torch.ones(3, 4),), dynamic_shapes=({0: rows},)
        ... )
        >>> symfx.uninstall()
        >>> program.module()(torch.ones(5, 4)).shape
        torch.Size([5, 2])
    """
    with _lock:
        if Present.installed:
            return
        _refuse_while_working("install")
        missing = import_users()
        if not _substitutes:
            _substitutes.update(substitutes())
        made = _Installation(dict(_substitutes), missing=missing)
        with _no_compilation("install"):
            found = replace_everywhere(list(made.pairs.values()))
            made.places = {name: found[id(theirs)] for name, (theirs, _) in made.pairs.items()}
            skip_frames_of_symfx(True)
            _Process.installation = made
            Present.installed = True


def uninstall() -> None:
    """Have torch use its own symbolic shapes again. Without an installation nothing changes.

    Programs that were made under symfx keep symfx's environment.

    Raises:
        InstallError: torch traces or compiles a program at this moment.
    """
    with _lock:
        if _Process.installation is None:
            return
        _refuse_while_working("uninstall")
        with _no_compilation("uninstall"):
            # Modules that were imported since have taken the substitutes from torch's modules.
            replace_everywhere([pair[::-1] for pair in _Process.installation.pairs.values()])
            skip_frames_of_symfx(False)
            _Process.installation = None
            Present.installed = False


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """A context manager: symfx is installed inside, and afterwards if it was before.

    The installation is of the process: other threads use symfx too.

    Raises:
        InstallError: torch traces or compiles a program at the beginning or the end.
    """
    before = is_installed()
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def _refuse_while_working(verb: str) -> None:
    work = running_work()
    if work is not None:
        raise InstallError(
            f"symfx.{verb}() was called during {work}",
            fix=f"call symfx.{verb}() before torch begins to trace, or after it has ended",
        )


@contextlib.contextmanager
def _no_compilation(verb: str) -> Iterator[None]:
    with between_compilations() as free:
        if not free:
            raise InstallError(
                f"symfx.{verb}() was called while another thread compiles",
                fix="wait for that thread, or call it before the threads begin",
            )
        yield

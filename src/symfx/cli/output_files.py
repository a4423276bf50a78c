"""Files that other libraries write for a command: each appears when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["drop_unfinished", "written_beside"]

_unfinished: set[Path] = set()
_TRIES = 20


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path to write to instead of another; what is written there appears when the block ends.

    The path has the same file name, in a directory of its own beside it: some writers put the name
    into the file, or write more files whose names begin with it.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written_beside(folder / "notes.txt") as unfinished:
        ...     _ = unfinished.write_text("all of it")
        ...     (folder / "notes.txt").exists()
        False
        >>> [written.name for written in folder.iterdir()]
        ['notes.txt']
    """
    folder = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=".symfx-"))
    _unfinished.add(folder)
    try:
        yield folder / path.name
        for written in folder.iterdir():
            os.replace(written, path.absolute().parent / written.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


def drop_unfinished() -> None:
    """Remove what is not complete, because the process ends at once."""
    for folder in list(_unfinished):
        for _ in range(_TRIES):  # another thread may still write into it
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)

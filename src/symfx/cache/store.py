"""The files of the cache: found by key, written whole or not at all, few enough for a limit.

The traces of one kind of call stand in one directory, a file each. A file begins with a line of
JSON that has its own key and what has to be known before the trace is read; a file of
`symfx.Trace.save` follows. Several processes may use one directory: a file appears by one renaming,
and a file that another process removes meanwhile is no entry.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from symfx.cache.code import Identity
from symfx.errors import SpecError, TraceFileError
from symfx.untrusted import Item, Limits, Source, parse

__all__ = ["Entry", "Store", "default_directory", "default_limit"]

_MAGIC = b"symfx cache 1\n"
_VERSION_DIRECTORY = "traces-1"
_SUFFIX, _PART = ".entry", ".part"
_LIMITS = Limits(size=16 << 20)
_FUNCTIONS, _CONSTANTS = 20_000, 20_000
#: A file that is being written is no older than this, in seconds.
_ABANDONED = 3600.0
#: Eviction removes somewhat more than is needed, so that it does not run at each writing.
_REMAINING = 0.9
_DEFAULT_LIMIT = 1 << 30
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def default_directory() -> Path:
    """The directory of the cache: SYMFX_CACHE_DIR, or ``symfx`` in the user's cache directory."""
    own = os.environ.get("SYMFX_CACHE_DIR")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "symfx"


def default_limit() -> int:
    """The most bytes that the cache keeps: SYMFX_CACHE_SIZE, such as ``500M``; 1 GiB by default.

    Raises:
        SpecError: the variable is no size.
    """
    text = (
        os.environ.get("SYMFX_CACHE_SIZE", "").strip().upper().removesuffix("B").removesuffix("I")
    )
    if not text:
        return _DEFAULT_LIMIT
    number, unit = (text[:-1], text[-1]) if text[-1] in "KMGT" else (text, "")
    if not number.isascii() or not number.isdigit() or len(number) > 15:
        raise SpecError(
            f"SYMFX_CACHE_SIZE is {os.environ['SYMFX_CACHE_SIZE']!r}",
            where="the environment",
            fix="give bytes, or a number with K, M, G or T, such as 500M",
        )
    return int(number) * _UNITS[unit]


@dataclass(frozen=True)
class Entry:
    """A trace in the cache.

    Attributes:
        path: its file, which `symfx.load` reads too.
        call: the digest of the kind of call.
        key: the digest of the model, and of the functions that run.
        running: the functions that ran while the model was traced.
        roots: those of them that have to be found by their names.
        constants: for constants of the graph that are the model's own tensors, the place of the
            tensor among those of the model.
        offsets: whether the graph depends on the storage offsets of its inputs.
    """

    path: Path
    call: str
    key: str
    running: frozenset[Identity]
    roots: frozenset[Identity]
    constants: Mapping[str, int]
    offsets: bool


class Store:
    """A directory of entries.

    Args:
        directory: the directory; it is made when the first entry is written.
        limit: the most bytes that its files have together; the ones that were not used for the
            longest time are removed.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.limit = limit
        self._root = directory / _VERSION_DIRECTORY

    # -- reading -----------------------------------------------------------------------------------

    def entries(self, call: str, damaged: Callable[[str], None]) -> Iterator[Entry]:
        """The entries of a kind of call, the one that was used last first.

        Args:
            call: the digest of the kind of call.
            damaged: told about a file that is no entry, in a sentence.
        """
        found = []
        with contextlib.suppress(OSError), os.scandir(self._root / call) as files:
            for file in files:
                if file.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        found.append((-file.stat().st_mtime_ns, file.path))
        for _, name in sorted(found):
            path = Path(name)
            try:
                yield _read(path)
            except FileNotFoundError:
                continue  # another process has removed it
            except (TraceFileError, OSError) as error:
                damaged(f"{path} is no entry of the cache: {getattr(error, 'what', error)}")

    def used(self, entry: Entry) -> None:
        """Note that an entry was used now."""
        with contextlib.suppress(OSError):
            os.utime(entry.path)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, entry: Entry, save: Callable[[Path], None]) -> None:
        """Write an entry.

        Args:
            entry: the entry; its path is not used.
            save: writes the trace to a file.

        Raises:
            TraceFileError: a file cannot hold the trace.
            OSError: the directory cannot be written.
        """
        folder = self._root / entry.call
        if not self._root.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            os.chmod(self._root, 0o700)
        folder.mkdir(exist_ok=True)
        head = {
            "call": entry.call,
            "key": entry.key,
            "running": sorted(map(list, entry.running)),
            "roots": sorted(map(list, entry.roots)),
            "constants": dict(entry.constants),
            "offsets": entry.offsets,
        }
        handle, name = tempfile.mkstemp(dir=folder, suffix=_PART)
        os.close(handle)
        part, saved = Path(name), Path(name + ".trace" + _PART)
        try:
            save(saved)
            body = json.dumps(head).encode() + b"\n" + saved.read_bytes()
            digest = blake2b(body, digest_size=20).hexdigest().encode()
            part.write_bytes(_MAGIC + digest + b"\n" + body)
            os.replace(part, folder / (_name_of(entry.key) + _SUFFIX))
        finally:
            for left in (part, saved):
                with contextlib.suppress(OSError):
                    left.unlink()
        self._evict()

    def remove(self, entry: Entry) -> None:
        """Remove an entry that cannot be used."""
        with contextlib.suppress(OSError):
            entry.path.unlink()

    def _evict(self) -> None:
        """Remove the files that were not used for the longest time, if there are too many bytes."""
        files, now = [], time.time()
        for path, status in self._files():
            if path.name.endswith(_PART):
                if now - status.st_mtime > _ABANDONED:
                    with contextlib.suppress(OSError):
                        path.unlink()
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self.limit:
            return
        for _, size, path in sorted(files, key=lambda file: file[0]):
            if total <= self.limit * _REMAINING:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    # -- the whole ---------------------------------------------------------------------------------

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    yield path, path.stat()

    def size(self) -> tuple[int, int]:
        """The number of entries, and their bytes."""
        sizes = [s.st_size for path, s in self._files() if path.name.endswith(_SUFFIX)]
        return len(sizes), sum(sizes)

    def clear(self) -> tuple[int, int]:
        """Remove all entries, and return the `size` from before."""
        before = self.size()
        # Nothing else of the directory is removed: the user may have named one with other files.
        shutil.rmtree(self._root, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()
        return before


def _name_of(key: str) -> str:
    return blake2b(key.encode(), digest_size=16).hexdigest()


def _read(path: Path) -> Entry:
    """Read the head of an entry, and check the whole.

    Raises:
        TraceFileError: the file is no entry, or was changed.
        OSError: it cannot be read.
    """
    source = Source(str(path), TraceFileError, "run `symfx cache clear`")
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise source.refusal("it does not begin as one")
    digest, newline, body = content[len(_MAGIC) :].partition(b"\n")
    if not newline or blake2b(body, digest_size=20).hexdigest().encode() != digest:
        raise source.refusal("its bytes were changed")
    head, _, _ = body.partition(b"\n")
    with source.guarding("its head cannot be read"):
        fields = parse(head.decode("utf-8"), source, _LIMITS).fields(
            "call", "key", "running", "roots", "constants", "offsets"
        )
        key = fields["key"].text()
        if fields["call"].text() != path.parent.name or _name_of(key) + _SUFFIX != path.name:
            raise source.refusal("it stands under the key of another")
        constants = fields["constants"].entries()
        if len(constants) > _CONSTANTS:
            raise source.refusal("it has too many constants")
        return Entry(
            path,
            path.parent.name,
            key,
            _identities(fields["running"]),
            _identities(fields["roots"]),
            {name: place.whole(0, 1 << 31) for name, place in constants.items()},
            fields["offsets"].truth(),
        )


def _identities(item: Item) -> frozenset[Identity]:
    found = []
    for each in item.items(_FUNCTIONS):
        module, name, line = each.items(exactly=3)
        found.append((module.text(), name.text(), line.whole(0, 1 << 31)))
    return frozenset(found)

"""The file of a trace: a zip of a JSON text and of tensors, written whole or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save

from symfx.untrusted import Limits, Source, shown
from symfx.whole_files import written_whole
from symfx.work import write_counted

__all__ = ["read_archive", "write_archive"]

_TEXT, _TENSORS = "trace.json", "tensors.safetensors"
#: The same in each file, so that equal traces make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_archive(path: Path, text: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a file.

    The file appears under its name when it is complete: a reader never meets half of one, and an
    older file of the name stays as it is where writing fails.

    Raises:
        OSError: the file cannot be written.
    """
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        described = zipfile.ZipInfo(_TEXT, _DATE)
        archive.writestr(described, text, zipfile.ZIP_DEFLATED)
        stored = zipfile.ZipInfo(_TENSORS, _DATE)
        content = save(dict(tensors))
        stored.file_size = len(content)
        with archive.open(stored, "w") as member:
            write_counted(member, content)


def read_archive(path: Path, source: Source, limits: Limits) -> tuple[str, dict[str, torch.Tensor]]:
    """The text and the tensors of a file.

    The tensors stand in the file without compression, so that they need no more memory than the
    file has bytes.

    Raises:
        SymfxError: the file is no such zip, or its text is longer than the limits; of the class
            ``source.error``.
        OSError: the file cannot be read.
    """
    with source.guarding("the file cannot be read"), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise source.refusal("the file is no saved trace: it is no zip")
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sorted(members) != sorted((_TEXT, _TENSORS)) or len(archive.infolist()) != 2:
                raise source.refusal(
                    f"the file is no saved trace: it has {shown(sorted(members)[:4])} in it"
                )
            text = members[_TEXT]
            if text.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise source.refusal(f"{_TEXT} is compressed by an unknown method")
            with archive.open(text) as packed:
                content = packed.read(limits.size + 1)
            if len(content) > limits.size:
                raise source.refusal(f"{_TEXT} is longer than {limits.size} bytes")
            stored = members[_TENSORS]
            if stored.compress_type != zipfile.ZIP_STORED:
                raise source.refusal(f"{_TENSORS} is compressed, which a saved trace never is")
            with archive.open(stored) as packed:
                tensors = load(packed.read())
    try:
        return content.decode("utf-8"), tensors
    except UnicodeDecodeError:
        raise source.refusal(f"{_TEXT} is not text") from None

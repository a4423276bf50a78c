"""The files of the cache: damaged, hostile, many, and written by several processes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import symfx
from symfx.cache.store import default_limit
from symfx.errors import SpecError

X = torch.ones(3, 4)


def model(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU())


def traced(folder: Path | str | bool, width: int = 4) -> symfx.Trace:
    return symfx.trace(model(width), X, dynamic=[("n", None)], cache=folder)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.entry"))


def test_a_trace_of_the_cache_is_the_trace(tmp_path: Path) -> None:
    first, again = traced(tmp_path), traced(tmp_path)
    assert first.cache_use is not None and first.cache_use.stored
    assert again.cache_use is not None and again.cache_use.hit
    assert str(again) == str(first)
    assert again.graph_module.code == first.graph_module.code
    assert again.guard_program().check(torch.ones(9, 4))
    assert not again.check(torch.ones(9, 5))
    again.model.to(torch.float32)
    with torch.no_grad():
        again.model[0].weight.fill_(2.0)  # the graph has the model's own parameters
    assert torch.equal(again(X), again.model(X))


def test_constants_are_the_tensors_of_the_model(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = [torch.tensor([2.0]), torch.tensor([3.0])]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scales[0] + self.scales[1]

    symfx.trace(Scaled(), X, cache=tmp_path)
    held = Scaled()
    t = symfx.trace(held, X, cache=tmp_path)
    assert t.cache_use is not None and t.cache_use.hit
    held.scales[1].fill_(7.0)
    assert torch.equal(t(X), held(X))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_are_traced_anew(tmp_path: Path) -> None:
    traced(tmp_path)
    path = entries(tmp_path)[0]
    whole = path.read_bytes()
    generator = random.Random(0)
    damaged = [
        b"",
        b"\0" * 100,
        whole[:-1],
        whole[: len(whole) // 2],
        whole + b"x",
        b"{}\n" + whole,
    ]
    for _ in range(20):
        place = generator.randrange(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        t = traced(tmp_path)
        assert t.cache_use is not None and not t.cache_use.hit
        assert torch.equal(t(X), t.model(X))
        assert path.read_bytes() == whole or traced(tmp_path).cache_use.hit  # written anew


def test_a_damaged_file_gives_a_warning(tmp_path: Path) -> None:
    traced(tmp_path)
    entries(tmp_path)[0].write_bytes(b"nothing")
    with pytest.warns(RuntimeWarning, match="is no entry of the cache: it does not begin as one"):
        traced(tmp_path)


def test_an_entry_under_the_key_of_another_is_no_hit(tmp_path: Path) -> None:
    traced(tmp_path)
    mine = entries(tmp_path)[0]
    traced(tmp_path, width=5)
    (other,) = set(entries(tmp_path)) - {mine}
    mine.write_bytes(other.read_bytes())
    with pytest.warns(RuntimeWarning, match="under the key of another"):
        t = traced(tmp_path)
    assert t.cache_use is not None and not t.cache_use.hit


def test_a_hostile_file_runs_no_code(tmp_path: Path) -> None:
    traced(tmp_path)
    path = entries(tmp_path)[0]
    import pickle
    from hashlib import blake2b

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    magic, _, rest = path.read_bytes().partition(b"\n")
    head = rest.split(b"\n")[1]
    body = head + b"\n" + pickle.dumps(Evil())
    digest = blake2b(body, digest_size=20).hexdigest().encode()
    path.write_bytes(magic + b"\n" + digest + b"\n" + body)
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        t = traced(tmp_path)
    assert t.cache_use is not None and t.cache_use.stored
    assert not (tmp_path / "harm").exists()


def test_the_size_is_bounded_and_the_oldest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced(tmp_path, 4)
    size = symfx.cache.info(tmp_path).size
    monkeypatch.setenv("SYMFX_CACHE_SIZE", str(int(size * 3.5)))
    for age, path in enumerate(entries(tmp_path)):
        os.utime(path, (1000 + age, 1000 + age))
    traced(tmp_path, 5)
    assert traced(tmp_path, 4).cache_use.hit  # used just now
    for width in (6, 7, 8):
        traced(tmp_path, width)
    assert symfx.cache.info(tmp_path).size <= size * 3.5
    assert traced(tmp_path, 8).cache_use.hit


def test_the_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, limit in (
        ("", 1 << 30),
        ("12", 12),
        ("3K", 3072),
        ("2g", 2 << 30),
        ("5MiB", 5 << 20),
    ):
        monkeypatch.setenv("SYMFX_CACHE_SIZE", text)
        assert default_limit() == limit
    for text in ("much", "-1", "1.5G", "G", "9" * 40):
        monkeypatch.setenv("SYMFX_CACHE_SIZE", text)
        with pytest.raises(SpecError, match="SYMFX_CACHE_SIZE"):
            default_limit()


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMFX_CACHE_DIR", str(tmp_path / "own"))
    traced(True)
    assert symfx.cache.info().directory == tmp_path / "own"
    assert symfx.cache.info().entries == 1
    monkeypatch.delenv("SYMFX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert symfx.cache.default_directory() == tmp_path / "xdg" / "symfx"


def test_clearing_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    traced(tmp_path)
    assert symfx.cache.clear(tmp_path).entries == 1
    assert symfx.cache.info(tmp_path).entries == 0
    assert (tmp_path / "mine.txt").exists()


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    t = traced(tmp_path / "file")
    assert t.cache_use is not None and not t.cache_use.stored and t.cache_use.reason


_WRITER = """
import sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, {here!r})
from test_cache_files import traced
for width in [4, 5, 6] * 3:
    traced({folder!r}, width)
print("done")
"""


def test_several_processes_use_one_directory(tmp_path: Path) -> None:
    code = _WRITER.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["done"] * 2
    assert symfx.cache.info(tmp_path).entries == 3
    assert not list(tmp_path.rglob("*.part"))

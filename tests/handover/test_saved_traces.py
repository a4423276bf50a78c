"""A trace that was saved and loaded is the trace that was saved: in text, in checks, in results."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn
from traced_programs import MLP, PROGRAMS, TRANSFORMERS, Counter, Program

import symfx
from symfx import SymfxError, TraceFileError
from symfx.handover.trace_files import VERSION, schema

ROOT = Path(__file__).parents[2]


def results(trace: Any, call: Any) -> Any:
    """The result of a run from a fixed seed, on copies of the inputs."""
    args, kwargs = copy.deepcopy(call)
    torch.manual_seed(0)
    with torch.no_grad():
        return trace(*args, **kwargs)


def assert_equal(one: Any, other: Any) -> None:
    leaves, spec = torch.utils._pytree.tree_flatten(one)
    others, other_spec = torch.utils._pytree.tree_flatten(other)
    assert spec == other_spec
    for a, b in zip(leaves, others, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "program", [*PROGRAMS.values(), *TRANSFORMERS.values()], ids=[*PROGRAMS, *TRANSFORMERS]
)
def test_round_trip(program: Program, tmp_path: Path) -> None:
    t = program.trace()
    path = tmp_path / "saved.symfx"
    t.save(path)
    again = symfx.load(path)
    assert str(again) == str(t)
    assert again.graph_module.code == t.graph_module.code
    assert [str(g) for g in again.guards] == [str(g) for g in t.guards]
    assert [{**vars(info), "term": str(info.term)} for info in again.shape_env.symbol_table()] == [
        {**vars(info), "term": str(info.term)} for info in t.shape_env.symbol_table()
    ]
    fresh = program.trace()  # whose buffers no run has changed
    for size in program.sizes:
        call = program.call(size)
        assert str(again.check(*call[0], **call[1])) == str(t.check(*call[0], **call[1]))
        if t.check(*call[0], **call[1]):
            assert_equal(results(again, call), results(fresh, call))
    # Other inputs are refused with the same reasons.
    args, kwargs = program.call(program.sizes[0])
    wrong = tuple(a[None] if isinstance(a, torch.Tensor) else a for a in args)
    assert str(again.check(*wrong, **kwargs)) == str(t.check(*wrong, **kwargs))
    t.save(tmp_path / "twice.symfx")
    symfx.load(path).save(tmp_path / "again.symfx")
    assert (tmp_path / "again.symfx").read_bytes() == (tmp_path / "twice.symfx").read_bytes()


@pytest.mark.parametrize("name", ["mlp", "counter", "branches", "tied", "nested", "resnet-train"])
def test_a_loaded_trace_verifies_itself_against_its_model(name: str, tmp_path: Path) -> None:
    t = PROGRAMS[name].trace()
    found = t.verify()
    assert found
    t.save(tmp_path / "saved")
    again = symfx.load(tmp_path / "saved", model=t.model)
    assert again.verification == found
    assert again.verify() == found


def test_a_mistake_in_a_saved_graph_is_caught_after_loading(tmp_path: Path) -> None:
    t = PROGRAMS["counter"].trace()
    (product, _) = [n for n in t.graph_module.graph.nodes if n.target == torch.ops.aten.mul.Tensor]
    product.target = torch.ops.aten.div.Tensor
    t.graph_module.recompile()
    t.save(tmp_path / "wrong")
    assert not symfx.load(tmp_path / "wrong", model=t.model).verify()


def test_without_a_model_a_loaded_trace_says_what_it_needs(tmp_path: Path) -> None:
    PROGRAMS["mlp"].trace().save(tmp_path / "t")
    with pytest.raises(SymfxError, match="loaded without MLP") as caught:
        symfx.load(tmp_path / "t").verify()
    assert "symfx.load(path, model=...)" in str(caught.value)


def test_a_file_without_weights_needs_the_model(tmp_path: Path) -> None:
    t = PROGRAMS["counter"].trace()
    t.save(tmp_path / "all")
    t.save(tmp_path / "t", weights=False)
    with zipfile.ZipFile(tmp_path / "t") as archive:
        assert b"state/" not in archive.read("tensors.safetensors")
    bare = symfx.load(tmp_path / "t")
    assert str(bare) == str(t)
    args, kwargs = PROGRAMS["counter"].call(5)
    assert bare.check(*args, **kwargs)
    with pytest.raises(SymfxError, match=r"total has no values.*") as caught:
        bare(*args, **kwargs)
    assert "symfx.load(path, model=...)" in str(caught.value)
    model = t.model
    whole = symfx.load(tmp_path / "t", model=model)
    before = model.total.clone()
    whole(*args, **kwargs)
    assert model.total == before + 5  # the graph updates the model's own buffer
    assert whole.verify()


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    PROGRAMS["mlp"].trace().save(tmp_path / "t")
    with pytest.raises(TraceFileError, match=r"no parameter or buffer 'up\.weight'"):
        symfx.load(tmp_path / "t", model=nn.Linear(2, 3))
    other = MLP()
    other.up = nn.Linear(8, 17)
    with pytest.raises(TraceFileError, match="of the model has shape"):
        symfx.load(tmp_path / "t", model=other)
    with pytest.raises(SymfxError, match="model is 3"):
        symfx.load(tmp_path / "t", model=3)  # type: ignore[arg-type]


def test_without_examples_the_file_has_none_of_their_values(tmp_path: Path) -> None:
    t = PROGRAMS["mlp"].trace()
    t.save(tmp_path / "t", examples=False)
    with zipfile.ZipFile(tmp_path / "t") as archive:
        assert b"inputs/" not in archive.read("tensors.safetensors")
    again = symfx.load(tmp_path / "t", model=t.model)
    assert again.check(torch.randn(7, 8)) and not again.check(torch.randn(7, 8).double())
    with pytest.raises(SymfxError, match="without data"):
        again.verify()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_file_has_the_published_form(program: Program, tmp_path: Path) -> None:
    t = program.trace()
    t.verify(shapes=1)
    t.save(tmp_path / "t")
    with zipfile.ZipFile(tmp_path / "t") as archive:
        data = json.loads(archive.read("trace.json"))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(data, schema())
    data["graph"]["nodes"][0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def test_the_schema_in_the_docs_is_that_of_the_package() -> None:
    assert json.loads((ROOT / "docs" / "trace.schema.json").read_text()) == schema()


def rewritten(path: Path, change: Any, to: Path) -> Path:
    """A file whose JSON was changed."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("trace.json"))
        tensors = archive.read("tensors.safetensors")
    change(data)
    with zipfile.ZipFile(to, "w") as archive:
        archive.writestr("trace.json", json.dumps(data))
        archive.writestr("tensors.safetensors", tensors)
    return to


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    PROGRAMS["mlp"].trace().save(tmp_path / "t")
    newer = rewritten(
        tmp_path / "t",
        lambda data: data.update(version=VERSION + 1, symfx="9.9", more={"a": 1}),
        tmp_path / "newer",
    )
    with pytest.raises(TraceFileError, match=f"has version {VERSION + 1} of the format") as caught:
        symfx.load(newer)
    assert "use the symfx that wrote it ('9.9')" in str(caught.value)


def test_the_first_file_ever_written_is_read() -> None:
    """A file of format version 1, kept as it was written: it must load in all later versions."""
    t = symfx.load(Path(__file__).parent / "format-1.symfx")
    assert [info.name for info in t.symbols] == ["n"]
    assert [str(g.term) for g in t.guards] == ["n % 2 == 0"]
    assert str(t.guards[0].provenance.frame).endswith(":7")
    assert torch.equal(t(torch.arange(6.0)), torch.tensor([3.0, 5.0, 7.0]))
    assert not t.check(torch.arange(5.0))


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(TraceFileError, match="it is no zip"):
        symfx.load(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("data.pkl", b"cos\nsystem\n")
    with pytest.raises(TraceFileError, match=r"it has \['data.pkl'\] in it"):
        symfx.load(tmp_path / "zip")
    with pytest.raises(TraceFileError, match="there is no such file"):
        symfx.load(tmp_path / "nothing")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(TraceFileError, match="no saved trace"):
        symfx.load(tmp_path / "weights.pt")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "t.symfx"
    PROGRAMS["mlp"].trace().save(path)
    before = path.read_bytes()
    t = PROGRAMS["counter"].trace()
    import symfx.handover.archive as archive

    def full(tensors: Any) -> bytes:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archive, "save", full)
        with pytest.raises(OSError, match="no space left"):
            t.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.symfx"]
    t.save(path)
    assert path.read_bytes() != before and len(list(tmp_path.iterdir())) == 1


def test_a_graph_that_writes_into_shared_memory_is_not_saved(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("whole", torch.zeros(6))
            self.register_buffer("part", self.whole[:3])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.part.add_(1)
            return self.whole.sum() + x

    t = symfx.trace(Views(), (torch.ones(3),))
    with pytest.raises(TraceFileError, match="shares its memory with whole"):
        t.save(tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_operators_of_other_libraries_must_be_allowed(tmp_path: Path) -> None:
    @torch.library.custom_op("handover_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(lambda x: torch.empty_like(x))
    t = symfx.trace(lambda x: twice(x) + 1, torch.ones(3), dynamic=[("n",)])
    t.save(tmp_path / "t")
    with pytest.raises(TraceFileError, match="an operator of the library handover_tests") as caught:
        symfx.load(tmp_path / "t")
    assert "libraries=['handover_tests']" in str(caught.value)
    again = symfx.load(tmp_path / "t", libraries=["handover_tests"])
    assert again(torch.ones(5)).tolist() == [3.0] * 5


def test_what_a_file_cannot_hold_is_named(tmp_path: Path) -> None:
    class Config:
        scale = 2

    t = symfx.trace(lambda x, c: x * c.scale, (torch.ones(3), Config()))
    with pytest.raises(TraceFileError, match="the input c is"):
        t.save(tmp_path / "t")
    sparse = torch.eye(3).to_sparse()
    t = symfx.trace(lambda x: x.to_dense(), (sparse,))
    with pytest.raises(TraceFileError, match=r"a tensor of layout torch\.sparse_coo"):
        t.save(tmp_path / "t")


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64,
     torch.complex64, torch.complex128, torch.float8_e4m3fn],
    ids=str,
)  # fmt: skip
def test_constants_of_each_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    constant = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype).t()
    t = symfx.trace(lambda x: (x, constant), torch.ones(3), dynamic=[("n",)])
    t.save(tmp_path / "t")
    _, again = symfx.load(tmp_path / "t")(torch.ones(5))
    assert again.dtype is dtype and again.stride() == constant.stride()
    assert torch.equal(again.t().view(torch.uint8), constant.t().view(torch.uint8))


SCRIPT = """
import sys, torch, symfx
from symfx.tracing.report import as_data
sys.path[:0] = {paths!r}
from traced_programs import PROGRAMS
for name in {names!r}:
    program = PROGRAMS[name]
    torch.manual_seed(0)
    model = program.make()
    t = symfx.load({folder!r} + "/" + name, model=model)
    assert bool(t.verify()), str(t.verify())
    args, kwargs = program.call(5)
    t = symfx.load({folder!r} + "/" + name)
    assert t.check(*args, **kwargs), str(t.check(*args, **kwargs))
    t(*args, **kwargs)
    print(name, str(t).count(chr(10)))
"""
NAMES = ["mlp", "counter", "branches", "nested", "tied", "encoder", "lstm", "resnet-train"]


def in_another_process(python: str, folder: Path) -> str:
    paths = [str(ROOT), str(Path(__file__).parent)]
    script = SCRIPT.format(names=NAMES, folder=str(folder), paths=paths)
    source = str(ROOT / "src")
    done = subprocess.run(
        [python, "-c", script],
        capture_output=True,
        text=True,
        timeout=600,
        env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


def test_another_process_reads_the_files(tmp_path: Path) -> None:
    lines = {}
    for name in NAMES:
        t = PROGRAMS[name].trace()
        t.save(tmp_path / name)
        lines[name] = str(t).count("\n")
    found = in_another_process(sys.executable, tmp_path)
    assert found.split() == " ".join(f"{n} {count}" for n, count in lines.items()).split()


@pytest.mark.skipif("SYMFX_OTHER_PYTHON" not in os.environ, reason="names a Python of other torch")
def test_another_release_of_torch_reads_the_files(tmp_path: Path) -> None:
    for name in NAMES:
        PROGRAMS[name].trace().save(tmp_path / name)
    in_another_process(os.environ["SYMFX_OTHER_PYTHON"], tmp_path)


@pytest.mark.parametrize("name", ["mlp", "counter", "branches", "guarded", "lstm"])
def test_graph_modules_are_pickled_and_copied(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]
    t = program.trace()
    torch.save(t.graph_module, tmp_path / "t.pt")
    copies = [
        copy.deepcopy(t.graph_module),
        pickle.loads(pickle.dumps(t.graph_module)),
        torch.load(tmp_path / "t.pt", weights_only=False),
    ]
    leaves = t.admission.layout.flatten(*program.call(program.sizes[1]))
    expected = copy.deepcopy(t.graph_module)(*leaves)
    for made in copies:
        assert made.code == t.graph_module.code
        assert_equal(made(*leaves), expected)


def test_state_of_a_copy_is_its_own() -> None:
    model = Counter()
    t = symfx.trace(model, (torch.ones(4, 3),), {"scale": torch.ones(4, 1)}, dynamic=True)
    again = copy.deepcopy(t.graph_module)
    again(torch.ones(4, 3), torch.ones(4, 1))
    assert again.total == 4 and model.total == 0


def test_guards_that_follow_from_the_others_are_dropped_again(tmp_path: Path) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[0] // 2, x.shape[1] // 2
        y = x * 2 if rows >= 2 and columns >= 3 else x
        # That both factors are 1 follows as no size is negative.
        return y + 1 if ((rows + 90) // 97) * ((columns + 90) // 97) == 1 else y  # both are 1

    t = symfx.trace(model, torch.randn(30, 40), dynamic=[("h", "w")])
    t.save(tmp_path / "t")
    again = symfx.load(tmp_path / "t")
    lines = [str(guard.provenance) for guard in t.guards]
    assert [str(guard.provenance) for guard in again.guards] == lines and "  # both" in lines[0]
    assert [str(g.term) for g in again.guards] == [str(g.term) for g in t.guards]

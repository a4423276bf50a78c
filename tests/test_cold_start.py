"""What is not imported before it is needed: no times, for these are `benchmarks/cold_start.py`'s."""

from __future__ import annotations

import pytest

import symfx
from command_line import loaded

TRACE = (
    "import sys, symfx, torch\n"
    "t = symfx.trace(torch.nn.Linear(4, 4), torch.ones(3, 4), dynamic={'input': ('n', 4)})\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "import symfx",
        "import symfx; dir(symfx); symfx.__version__",
        "import symfx; symfx.SpecError; symfx.SymfxError",
        "import symfx; symfx.algebra.Table",
        "import symfx; hasattr(symfx, 'no_such_name')",
        "from symfx import SymfxError, algebra, errors",
        "import symfx.cli",
    ],
)
def test_torch_waits_until_a_name_needs_it(code: str) -> None:
    assert loaded(["torch", "sympy", "numpy", "z3"], code) == []


def test_each_public_name_is_there_when_it_is_asked_for() -> None:
    assert set(symfx.__all__) <= set(dir(symfx))
    code = "import symfx; [getattr(symfx, name) for name in symfx.__all__]"
    assert loaded(["torch"], code) == ["torch"]
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = symfx.no_such_name


@pytest.mark.parametrize("use", ["", "t.verify()\n", "t.check(torch.ones(7, 4)); str(t)\n"])
def test_a_trace_imports_only_what_it_needs(use: str) -> None:
    """torch._dynamo and sympy come with torch's own fake tensors and symbolic shapes."""
    unneeded = [
        "IPython",
        "lark",
        "multipledispatch",
        "onnx",
        "torch._inductor.codecache",
        "torch._inductor.compile_fx",
        "typer",
        "unification",
        "z3",
        *(f"symfx.{part}" for part in ("cli", "optimization", "static_migration", "validator")),
        *(f"symfx.{part}" for part in ("meta_tracer", "recording", "migrate_gradual_types")),
    ]
    assert loaded(unneeded, TRACE + use) == []

"""The floor stands alone: importing it brings in neither torch nor sympy."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["symfx.algebra", "symfx.algebra.reasoning.prover", "symfx.algebra.reasoning.facts"]
)
def test_no_torch_and_no_sympy(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'sympy', 'numpy', 'z3', 'mpmath'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "t = symfx.algebra.Table(); s = t.symbol('s')\n"
        "assert symfx.algebra.evaluate((s + 1) // 2, {s: 4}) == 2\n"
        "assert not {'torch', 'sympy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_terms_print_as_python_whichever_module_is_imported() -> None:
    code = (
        "from symfx.algebra.terms.table import Table\n"
        "t = Table(); assert str((t.symbol('s') + 1) // 2) == '(s + 1)//2'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

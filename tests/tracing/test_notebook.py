"""Traces, verifications, checks and tables of guards as a notebook shows them."""

from __future__ import annotations

import html.parser
from collections.abc import Callable
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from torch import Tensor, nn

import symfx
from symfx.tracing.markup import element, table

HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"

CELLS = [
    """import symfx, torch
def program(x):
    if x.shape[1] > 4:
        x = x + 1
    return x * torch.ones(3, 1)
t = symfx.trace(program, torch.randn(3, 6), dynamic={"x": ("batch", "seq")}, strict=False)
t""",
    "t.guards",
    "t.specializations",
    "t.verify(shapes=2)",
    "t.check(torch.randn(3, 2))",
    "t.explain('batch')",
    "t.why_not('f32[3, 2]')",
    "t.symbols",
    "t.cost()",
    "dir(symfx)",
    "1/0",
]


class Document(html.parser.HTMLParser):
    """The tags and the text of HTML, in which each tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    """The outputs of the cells above, executed in a notebook."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=True).execute()
    assert book.cells[-1].outputs[0].ename == "ZeroDivisionError"  # the kernel is a real one
    return [dict(cell.outputs[0].get("data", {})) for cell in book.cells[:-1]]


@pytest.mark.slow
def test_a_notebook_shows_tables(cells: list[dict[str, Any]]) -> None:
    trace, guards, pins, verified, checked, explained, rejected, symbols, cost, names = cells
    document = Document(trace["text/html"])
    assert {"table", "caption", "th", "details", "summary"} <= set(document.tags)
    for words in ("the program pins dimensions", "batch", "seq >= 5", "if x.shape[1] > 4:"):
        assert words in document.text
    assert "seq >= 5" in Document(guards["text/html"]).text
    assert "aten.mul.Tensor" in Document(pins["text/html"]).text
    assert "agrees" in Document(verified["text/html"]).text
    assert "seq >= 5 does not hold for seq = 2" in Document(checked["text/html"]).text
    assert "batch is pinned to 3" in Document(explained["text/html"]).text
    assert "x: f32[3, 5]" in Document(rejected["text/html"]).text
    # The text beside the HTML is short.
    for cell, most in ((trace, 1), (guards, 2), (verified, 1), (explained, 1), (rejected, 1)):
        assert len(cell["text/plain"].splitlines()) <= most, cell["text/plain"]
    assert "code object" not in "".join(cell["text/plain"] for cell in cells)
    assert cost["text/plain"].startswith("<symfx.Cost of program: 1 modules, ")
    shown_cost = Document(cost["text/html"])
    assert "table" in shown_cost.tags and "operations" in shown_cost.text
    assert symbols["text/plain"].startswith("(<SymbolInfo ")
    shown = eval(names["text/plain"])
    assert shown == dir(symfx)


def test_dir_shows_the_public_names() -> None:
    names = dir(symfx)
    assert set(symfx.__all__) <= set(names)
    assert not {"os", "annotations", "import_module", "TYPE_CHECKING", "Any"} & set(names)
    assert [name for name in names if name.startswith("_")] == ["__version__"]
    for name in names:
        assert getattr(symfx, name) is not None


class Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(HOSTILE.replace(".", ""), nn.Linear(4, 4))

    def forward(self, x: Tensor, mode: str) -> Tensor:
        torch._check(x.shape[0] > 3, lambda: HOSTILE)
        for module in self.children():
            x = module(x)
        return x.view(2, -1)


@pytest.mark.parametrize(
    "shown",
    [
        lambda t: t,
        lambda t: t.guards,
        lambda t: t.verify(shapes=1),
        lambda t: t.check(torch.randn(4, 4), HOSTILE * 2),
        lambda t: t.check(HOSTILE, HOSTILE),
        lambda t: t.why_not(torch.randn(5, 3), HOSTILE * 2),
        lambda t: t.explain(),
        lambda t: t.cost(),
        lambda t: t.explain(next(n for n in t.graph_module.graph.nodes if "linear" in str(n.target) or n.op == "call_function")),
        lambda t: symfx.Verification((), 0, note=HOSTILE, remarks=(HOSTILE,)),
        lambda t: symfx.CheckResult((HOSTILE,)),
        lambda t: symfx.Explanation(HOSTILE, "node", HOSTILE, details=((HOSTILE, HOSTILE),), fix=HOSTILE),
    ],
)  # fmt: skip
def test_hostile_names_run_no_script(shown: Callable[[symfx.Trace], Any]) -> None:
    Hostile.__name__ = HOSTILE
    try:
        t = symfx.trace(Hostile(), (torch.randn(4, 4), HOSTILE), dynamic={"x": ("n", None)})
        document = Document(shown(t)._repr_html_())
    finally:
        Hostile.__name__ = "Hostile"
    assert not {"script", "img"} & set(document.tags)
    assert {name for name, _ in document.attributes} <= {"style", "scope"}


def test_markup_escapes_text_and_attributes() -> None:
    document = Document(element("p", HOSTILE, title=HOSTILE))
    assert document.tags == ["p"] and document.text == HOSTILE
    assert document.attributes == [("title", HOSTILE)]
    cells = Document(table(HOSTILE, [HOSTILE], [[HOSTILE]]))
    assert set(cells.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert cells.text == HOSTILE * 3
    assert table("guards", ["guard"], []) == "<p>no guards</p>"

"""`Trace.explain` names the conditions, the operators and the lines behind dimensions and guards."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import symfx
from small_models import WithBlock
from symfx import SpecError, TracingError
from symfx.explanation.nodes import guards_by_node
from symfx.symbolic_shapes import GuardOnDataDependentSymNode


class Model(WithBlock):
    def forward(self, x: Tensor, mask: Tensor) -> Any:
        y = self.block(x)
        if x.shape[1] > 4 and x.shape[1] % 2 == 0:
            y = y + 1
        return y.view(x.shape[0], 16, -1), mask * 2, x.nonzero()


def pinning(x: Tensor, y: Tensor) -> Tensor:
    a = x.reshape(4, 4)
    for i in range(y.shape[0]):
        a = a + i
    return a


def closing_in(x: Tensor) -> Tensor:
    if x.shape[0] <= 16:
        x = x + 1
    if x.shape[0] * 2 >= 32:
        x = x * 2
    return x


def of_data(x: Tensor) -> Tensor:
    count = x.sum().int().item()
    return x if count > 3 else x + 1


class OfData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return of_data(x)


@pytest.fixture(scope="module")
def t() -> symfx.Trace:
    dynamic = {"x": ("batch", "seq", None), "mask": ("batch", "seq")}
    return symfx.trace(Model(), (torch.randn(3, 6, 8), torch.randn(3, 6)), dynamic=dynamic)


@pytest.fixture(scope="module")
def pinned() -> symfx.Trace:
    args = (torch.randn(16), torch.randn(5))
    return symfx.trace(pinning, args, dynamic={"x": ("a",), "y": ("b",)}, strict=False)


def line_of(function: Any, text: str) -> int:
    code = getattr(function, "forward", function).__code__
    with open(__file__) as file:
        lines = file.readlines()
    start = code.co_firstlineno - 1
    return next(i + 1 for i in range(start, len(lines)) if text in lines[i])


def leaves(explanation: symfx.Explanation) -> Iterator[Any]:
    for reason in explanation.reasons:
        yield from reason.leaves()


def test_a_pinned_dimension_has_the_guard_the_operator_and_the_line(pinned: symfx.Trace) -> None:
    found = pinned.explain("a")
    assert (found.subject, found.kind) == ("a", "dimension")
    (reason,) = found.reasons
    assert (reason.statement, reason.kind, reason.because) == ("a == 16", "guard", ())
    assert reason.operator == "aten.view.default"
    assert reason.line.lineno == line_of(pinning, "x.reshape(4, 4)")
    assert reason.line.line == "a = x.reshape(4, 4)"
    assert "a is pinned to 16" in str(found) and "a = x.reshape(4, 4)" in str(found)
    loop = pinned.explain("b")
    assert loop.reasons[0].line.line == "for i in range(y.shape[0]):"
    assert loop.fix and "Python loop" in loop.fix
    assert pinned.explain("x.shape[0]") == found == pinned.explain(pinned.specializations[0])


def test_guards_that_pin_together_are_named_together() -> None:
    t = symfx.trace(closing_in, torch.randn(16), dynamic={"x": ("n",)}, strict=False)
    (reason,) = t.explain("n").reasons
    assert reason.statement == "n == 16" and reason.kind == "follows"
    assert {each.statement for each in reason.because} == {"n <= 16", "n >= 16"}
    lines = {each.line.lineno for each in reason.because}
    assert lines == {line_of(closing_in, "<= 16:"), line_of(closing_in, ">= 32:")}


def test_a_dynamic_dimension_has_its_range_with_the_facts_that_give_it(t: symfx.Trace) -> None:
    found = t.explain("seq")
    (bound,) = found.reasons
    assert bound.statement == "seq >= 6"
    assert {each.statement for each in bound.because} == {"seq >= 5", "seq % 2 == 0"}
    assert ("inputs", "x.shape[1], mask.shape[1]") in found.details
    (begins,) = t.explain("batch").reasons
    assert (begins.statement, begins.kind) == ("batch >= 2", "range")


def test_other_ways_to_write_a_size(t: symfx.Trace) -> None:
    seq = t.explain("seq")
    for text in ("x.shape[1]", "x.size(1)", "x.size()[1]", "x.shape[-2]", "dimension 1 of x"):
        assert t.explain(text) == seq
    static = t.explain("x.shape[2]")
    assert "8: it is static" in static.sentence and static.fix


def test_a_dimension_equal_to_another() -> None:
    def add(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    args = (torch.randn(4), torch.randn(4))
    t = symfx.trace(add, args, dynamic={"x": ("a",), "y": ("b",)}, strict=False)
    sentences = {t.explain(name).sentence for name in "ab"}
    assert any(s in sentences for s in ("b is always a", "a is always b"))
    equal = next(t.explain(n) for n in "ab" if "always" in t.explain(n).sentence)
    assert equal.reasons[0].operator == "aten.add.Tensor"


def test_a_number_of_data(t: symfx.Trace) -> None:
    found = t.explain("u0")
    assert "known only when the graph runs" in found.sentence
    assert found.reasons[0].kind == "data" and found.reasons[0].operator == "aten.nonzero.default"


def test_guards_by_object_by_text_and_written_otherwise(t: symfx.Trace) -> None:
    for guard in t.guards:
        by_object = t.explain(guard)
        assert by_object == t.explain(str(guard.term)) and by_object.kind == "guard"
        assert by_object.reasons[0].line == guard.provenance.frame
    assert t.explain("4 < seq") == t.explain("seq >= 5")
    assert ("rejects", "seq = 4") in t.explain("seq >= 5").details


def test_a_guard_of_several_questions() -> None:
    def halves(x: Tensor) -> Tensor:
        y = x.view(2, -1)
        return y.view(4, -1)

    t = symfx.trace(halves, torch.randn(8), dynamic={"x": ("n",)})
    (guard,) = t.guards
    assert str(guard.term) == "n % 4 == 0"
    (reason,) = t.explain(guard).reasons
    assert len(reason.because) == 2
    assert {each.line.line for each in reason.because} == {
        "y = x.view(2, -1)",
        "return y.view(4, -1)",
    }


def test_a_guard_that_is_not_listed() -> None:
    def halves(x: Tensor) -> Tensor:
        return x.view(2, -1).view(4, -1)

    t = symfx.trace(halves, torch.randn(8), dynamic={"x": ("n",)})
    recorded = [str(guard.term) for guard in t.shape_env.guards]
    assert len(recorded) == 2
    for text in recorded:
        found = t.explain(text)
        assert found.sentence.endswith("; it is not listed, because it follows from n % 4 == 0")
        assert found.reasons[0].operator == "aten.view.default"


def test_what_the_user_states_is_no_fault_of_the_program() -> None:
    args = (torch.randn(16),)
    stated = symfx.trace(torch.relu, args, dynamic=[("n",)], where="n == 16", strict=False)
    found = stated.explain("n")
    assert found.sentence.startswith("n is pinned to 16, as where= states") and found.fix is None
    assert "where= states n == 16" in str(stated.why_not("f32[8]"))
    narrow = symfx.trace(torch.relu, args, dynamic=[(symfx.Dim("n", min=16, max=16),)])
    assert narrow.explain("n").sentence == "n is dynamic: the graph holds for 16 alone"


def test_a_stated_condition() -> None:
    args = (torch.randn(16),)
    t = symfx.trace(torch.relu, args, dynamic=[("n",)], where="n % 8 == 0")
    (reason,) = t.explain("n % 8 == 0").reasons
    assert reason.kind == "stated"
    (even,) = t.explain("n % 4 == 0").reasons
    assert [each.kind for each in even.because] == ["stated"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seq >= 3", "holds for all inputs that fit"),
        ("seq <= 4", "fails for all inputs that fit"),
        ("seq >= 8", "nothing decides it: inputs that fit may have seq = 6"),
        ("batch == batch", "holds whatever the sizes are"),
    ],
)
def test_conditions_that_are_no_guards(t: symfx.Trace, text: str, words: str) -> None:
    found = t.explain(text)
    assert found.kind == "condition" and words in found.sentence


def test_nodes(t: symfx.Trace, pinned: symfx.Trace) -> None:
    relu = t.explain("relu")
    assert relu.sentence.startswith("relu is f32[batch, seq, 8]: relu(view_1), made by ")
    assert ("module", "block (Block)") in relu.details
    lines = dict(relu.details)["lines"].splitlines()
    assert len(lines) == 2 and "y = self.block(x)" in lines[0] and "self.lin(x)" in lines[1]
    node = next(node for node in t.graph_module.graph.nodes if node.name == "relu")
    assert t.explain(node) == relu
    assert ("symbols", "u0") in t.explain("nonzero").details
    assert ("symbols", "batch, seq") in t.explain("x", kind="node").details
    assert t.explain("block.lin.weight").subject == "block_lin_weight"
    (guard,) = pinned.explain("view").reasons
    assert guard.statement == "a == 16"
    assert {name: [str(g.term) for g in gs] for name, gs in guards_by_node(pinned).items()} == {
        "view": ["a == 16"]
    }


def test_a_model_of_layers_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.MaxPool2d(2))
    t = symfx.trace(model, torch.randn(2, 3, 16, 16), dynamic=[("b", None, "h", "w")])
    (height,) = [guard for guard in t.guards if "h" in str(guard.term)]
    assert ("nodes", "max_pool2d_with_indices") in t.explain(height).details
    pinned = symfx.trace(nn.Linear(8, 4), torch.randn(3, 8), dynamic=True, strict=False)
    found = pinned.explain("input.shape[1]")
    assert "linear.py" in found.sentence and found.fix == "use a layer that takes other sizes"


def test_an_input_and_its_dimension_have_one_name() -> None:
    def repeated(x: Tensor, n: int) -> Tensor:
        return x.expand(n, 3)

    t = symfx.trace(repeated, (torch.randn(3), 4), dynamic={"n": "n"})
    assert t.explain("n").kind == "dimension" and t.explain("n", kind="node").kind == "node"


def test_nothing_is_all_that_is_notable(t: symfx.Trace, pinned: symfx.Trace) -> None:
    assert [part.subject for part in t.explain().parts] == ["u0", "seq >= 5", "seq % 2 == 0"]
    assert [part.subject for part in pinned.explain().parts] == ["a", "b"]
    plain = symfx.trace(torch.relu, torch.randn(3))
    assert (
        plain.explain().parts == ()
        and str(plain.explain()) == repr(plain)[len("<symfx.Trace of ") : -1]
    )


@pytest.mark.parametrize(
    ("subject", "kind", "words"),
    [
        ("sek", None, "did you mean seq"),
        ("reluu", None, "did you mean relu"),
        ("seq > = 5", None, "did you mean seq >= 5"),
        ("seq", "node", "no node"),
        ("relu", "dimension", "the dimensions are batch, seq, u0"),
        ("x.shape[7]", None, "no dimension"),
        ("y.shape[0]", None, "no dimension"),
        ("nothing >= 5", None, "no dimension"),
        (3, None, "3 is no dimension"),
        ("seq", "edge", "kind is 'edge'"),
        ("", None, "no dimension"),
    ],
)
def test_names_that_are_none(t: symfx.Trace, subject: Any, kind: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        t.explain(subject, kind=kind)
    assert words in str(caught.value)


def test_a_saved_trace_explains_as_the_traced_one(t: symfx.Trace, tmp_path: Any) -> None:
    t.save(tmp_path / "t.symfx")
    again = symfx.load(tmp_path / "t.symfx")
    for subject in ("seq", "u0", "seq >= 5", "relu", "x.shape[2]"):
        assert str(again.explain(subject)) == str(t.explain(subject)), subject
    (begins,) = again.explain("batch").reasons
    assert (begins.statement, begins.kind) == ("batch >= 2", "range")
    for guard in t.guards:  # of the other trace
        assert str(again.explain(guard)) == str(t.explain(guard))


def test_answers_are_data_text_and_html(t: symfx.Trace) -> None:
    found = t.explain("seq")
    data = json.loads(json.dumps(found.as_data()))
    assert data["reasons"][0]["because"][0]["line"]["text"].startswith("if x.shape[1] > 4")
    assert found.__rich__().plain == str(found)
    html = found._repr_html_()
    assert "<code>seq &gt;= 5</code>" in html and "<br></br>" not in html


# -- errors ----------------------------------------------------------------------------------------


def test_a_refused_pin_is_explained() -> None:
    with pytest.raises(TracingError) as caught:
        args = (torch.randn(16), torch.randn(5))
        symfx.trace(pinning, args, dynamic={"x": ("a",), "y": None})
    found = symfx.explain(caught.value)
    assert found.reasons[0].statement == "a == 16"
    assert found.fix == caught.value.fix
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.refused is None
    assert symfx.explain(again).sentence == caught.value.what


def test_several_refused_pins_are_explained_each() -> None:
    with pytest.raises(TracingError) as caught:
        args = (torch.randn(16), torch.randn(5))
        symfx.trace(pinning, args, dynamic={"x": ("a",), "y": ("b",)})
    assert [part.subject for part in symfx.explain(caught.value).parts] == ["a", "b"]


def test_a_stated_condition_that_is_too_weak_is_explained() -> None:
    def quarters(x: Tensor) -> Tensor:
        return x.view(-1, 4)

    with pytest.raises(TracingError) as caught:
        symfx.trace(quarters, torch.randn(16), dynamic={"x": ("n",)}, where="n % 2 == 0")
    found = symfx.explain(caught.value)
    assert found.kind == "guard" and "n % 4 == 0" in found.sentence


def test_a_data_dependent_error_is_explained() -> None:
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        symfx.trace(of_data, torch.randn(3))
    found = symfx.explain(caught.value)
    (asked,) = found.reasons
    assert (asked.statement, asked.kind) == ("u0 >= 4", "open")
    assert asked.line.line == "return x if count > 3 else x + 1"
    (made,) = [reason for reason in asked.because if reason.kind == "data"]
    assert made.line.line == "count = x.sum().int().item()" and made.note == "which is count"
    assert found.fix and "torch._check(count >= 4)" in found.fix
    assert pickle.loads(pickle.dumps(caught.value)).question is None


def test_refused_inputs_are_explained(t: symfx.Trace) -> None:
    with pytest.raises(symfx.InputMismatchError) as caught:
        t(torch.randn(3, 7, 8), torch.randn(3, 7))
    found = symfx.explain(caught.value)
    assert "the program needs seq % 2 == 0" in str(found) and "if x.shape[1] > 4" in str(found)
    assert ("x", "f32[3, 8, 8]") in found.details


def test_an_error_behind_another_is_explained() -> None:
    with symfx.installed(), pytest.raises(Exception) as caught:
        torch.export.export(OfData(), (torch.randn(3),), strict=False)
    assert not isinstance(caught.value, TracingError)
    found = symfx.explain(caught.value)
    assert found.reasons[0].kind == "open" and "count > 3" in str(found)


def test_the_last_exception_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "last_exc", raising=False)
    monkeypatch.delattr(sys, "last_value", raising=False)
    with pytest.raises(SpecError, match="no exception to explain"):
        symfx.explain()
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        symfx.trace(of_data, torch.randn(3))
    monkeypatch.setattr(sys, "last_value", caught.value, raising=False)
    assert symfx.explain() == symfx.explain(caught.value)


def test_other_errors_have_their_place() -> None:
    def fails(x: Tensor) -> Tensor:
        return x @ x

    with pytest.raises(TracingError) as caught:
        symfx.trace(fails, torch.randn(3, 4))
    found = symfx.explain(caught.value)
    assert found.kind == "error" and "return x @ x" in str(found) and found.fix


def test_a_recompilation_is_explained() -> None:
    def f(x: Tensor) -> Tensor:
        return x.sum() if x.shape[0] > 4 else x.mean()

    with symfx.installed():
        compiled = torch.compile(f, backend="eager", dynamic=True)
        compiled(torch.ones(3)), compiled(torch.ones(8))
    (recompile,) = symfx.explain_recompiles(compiled)
    found = symfx.explain(recompile)
    assert found.kind == "recompile" and found.reasons[0].statement == "2 <= x.size()[0] <= 4"
    assert "x.shape[0] > 4" in str(found)


def test_what_cannot_be_explained(t: symfx.Trace) -> None:
    assert symfx.explain(t) == t.explain()
    for subject in (3, "seq", symfx.Trace):
        with pytest.raises(SpecError, match="cannot be explained"):
            symfx.explain(subject)

"""What PyTorch's own tests of torch.export look at: messages, suggestions, runtime assertions."""

from __future__ import annotations

import io
import logging
import re

import pytest
import torch
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.export import Dim, export
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes
from torch.testing._internal.two_tensor import TwoTensor

import symfx


@pytest.fixture(autouse=True)
def _installed():
    torch._dynamo.reset()
    with symfx.installed():
        yield
    torch._dynamo.reset()


class Of(torch.nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


class OfOne(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ones = torch.ones
both = pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])


# Dimensions.


@both
def test_a_dimension_with_a_fixed_size_is_named_by_a_number(strict) -> None:
    model = Of(lambda x, y: x + y)
    with pytest.raises(torch._dynamo.exc.UserError, match=r"Suggested fixes:\n  b = 4\n"):
        export(
            model, (ones(4), ones(4)), dynamic_shapes=({0: Dim("b")}, {0: 4}),
            strict=strict,
        )  # fmt: skip
    apart = Of(lambda x, y: x.sum() + y)
    program = export(
        apart,
        (ones(4), ones(4)),
        dynamic_shapes=({0: Dim("b", min=3, max=6)}, {0: 4}),
        strict=strict,
    )
    assert program.module()(ones(5), ones(4)).sum() == 24
    with pytest.raises(AssertionError, match=r"Guard failed: x\.size\(\)\[0\] <= 6"):
        program.module()(ones(7), ones(4))
    with pytest.raises(
        (RuntimeError, ValueError),
        match="Static shape constraint of 5 does not match input size of 4",
    ):
        export(apart, (ones(4), ones(4)), dynamic_shapes=({0: 5}, None), strict=strict)


@both
def test_a_range_from_1_to_2_is_kept(strict) -> None:
    program = export(
        OfOne(lambda x: x * 2),
        (ones(2, 2),),
        dynamic_shapes=({0: Dim("dx", min=1, max=2)},),
        strict=strict,
    )
    for rows in (1, 2):
        assert program.module()(ones(rows, 2)).shape == (rows, 2)
    with pytest.raises(AssertionError, match=r"Guard failed: x\.size\(\)\[0\] <= 2"):
        program.module()(ones(3, 2))
    (bounds,) = program.range_constraints.values()
    assert (bounds.lower, bounds.upper) == (1, 2)


def test_a_range_from_1_to_2_is_left_by_a_program_that_asks() -> None:
    model = OfOne(lambda x: x + 1 if x.shape[0] == 1 else x)
    with pytest.raises(RuntimeError, match="specialized"):
        export(model, (ones(2, 2),), dynamic_shapes=({0: Dim("dx", min=1, max=2)},))


@both
def test_derived_dimensions_whose_root_has_one_value(strict) -> None:
    dy = Dim("dy", min=6)
    with pytest.raises(torch._dynamo.exc.UserError) as error:
        export(
            Of(lambda x, y: x.reshape([-1]) + y),
            (ones(6, 2), ones(12)),
            dynamic_shapes=({0: dy - 6, 1: 2}, {0: dy}),
            strict=strict,
        )
    text = error.value.args[0]
    assert "Specializations unexpectedly required (dy)!" in text
    assert re.search("for dy - 6 = .* resulted in a specialized value of 6", text)
    assert "dy = 12" in text.split("Suggested fixes:")[1] and "dy - 6 = 6" not in text


@pytest.mark.parametrize(
    ("modulus", "rest", "bounds", "root", "form"),
    [
        (2, 0, {"min": 3, "max": 100}, "_d = Dim('_d', max=50)", "d = 2*_d"),
        (3, 2, {"max": 50}, "_d = Dim('_d', min=1, max=17)", "d = 3*_d - 1"),
        (4, 1, {"max": 50}, "_d = Dim('_d', min=2, max=13)", "d = 4*_d - 3"),
    ],
)
def test_new_roots_are_suggested_as_torch_does(modulus, rest, bounds, root, form) -> None:
    model = OfOne(lambda x: x + 1 if x.shape[0] % modulus == rest else x)
    shapes = ({0: Dim("d", **bounds)},)
    args = (ones(3 * modulus + rest),)
    with pytest.raises(torch._dynamo.exc.UserError) as error:
        export(model, args, dynamic_shapes=shapes)
    lines = error.value.args[0].split("Suggested fixes:\n")[1].split("\n\n")[0].split("\n")
    assert [line.strip() for line in lines] == [root, form]
    found = refine_dynamic_shapes_from_suggested_fixes(
        error.value.args[0].split("\n\nThe error above")[0], shapes
    )
    program = export(model, args, dynamic_shapes=found)
    x = ones(5 * modulus + rest)
    assert torch.equal(program.module()(x), model(x))


def test_guards_read_as_the_kernel_asks() -> None:
    dx = Dim("dx")
    program = export(
        Of(lambda x, y: x + y[1:]), (ones(5), ones(6)), dynamic_shapes=({0: dx}, {0: dx + 1})
    )
    with pytest.raises(AssertionError, match=r"x\.size\(\)\[0\] == -1 \+ y\.size\(\)\[0\]"):
        program.module()(ones(5), ones(7))


@both
def test_dimensions_are_derived_from_suggested_fixes(strict) -> None:
    def refined(model, args, shapes):
        with pytest.raises(torch._dynamo.exc.UserError) as error:
            export(model, args, dynamic_shapes=shapes, strict=strict)
        found = refine_dynamic_shapes_from_suggested_fixes(error.value.msg, shapes)
        export(model, args, dynamic_shapes=found, strict=strict)
        return found

    found = refined(
        Of(lambda x, y: x + y[4:]),
        (ones(6, 4), ones(10, 4)),
        ((Dim("dx0"), Dim("dx1")), (Dim("dy0"), Dim("dy1"))),
    )
    assert found[1][0].root == found[0][0] and found[1][0].fn(5) == 9
    assert found[1][1] == found[0][1]
    # torch cannot write a size that is the sum of two dimensions, and needs no fix for it.
    found = refined(
        Of(lambda x, y: torch.cat([x, x]) + y),
        (ones(2, 3), ones(4, 3)),
        ({0: Dim("a")}, {0: Dim("c"), 1: Dim("e")}),
    )
    assert found[1][1] == 3 and found[1][0].fn(5) == 10

    class Three(torch.nn.Module):
        def forward(self, x, y, z):
            return torch.cat([x, y]) + z

    parts = {"x": {0: Dim("a")}, "y": {0: Dim("b")}, "z": {0: Dim("c"), 1: Dim("e")}}
    assert refined(Three(), (ones(2, 3), ones(4, 3), ones(6, 3)), parts)["z"][1] == 3


@both
def test_automatic_dimensions_are_suggested_by_their_sources(strict) -> None:
    with pytest.raises(torch._dynamo.exc.UserError, match=r"fixes:\n  L\['y'\].*\[0\] = 2\*dx"):
        export(
            Of(lambda x, y: x.reshape(-1) + y),
            (ones(4, 2), ones(8)),
            dynamic_shapes=({0: Dim("dx")}, {0: Dim.AUTO}),
            strict=strict,
        )


# Numbers that data gives, and what is checked about them when the program runs.


def equal(x, y):
    a, b = x.item(), y.item()
    torch._check(a == b)
    return ones(a) + ones(b)


def equal_computed(x, y):
    a, b = x.item(), y.item()
    torch._check(a == b)
    return ones(a + 1) + ones(b + 1)


def equal_one_used(x, y):
    a, b = x.item(), y.item()
    torch._check(a == b)
    return ones(a + 1)


def equal_unused(x, y):
    a, b = x.item(), y.item()
    torch._check(a == b)
    return x + 1


def twice(x, y):
    a, b = x.item(), y.item()
    torch._check(a == b * 2)
    return ones(a + 1) + ones(2 * b + 1)


def a_sum(x, y):
    a, b = x.item(), y.item()
    torch._check(a + b == 6)
    return ones(a + 1) + ones(7 - b)


def one_value(x, y):
    a, b = x.item(), y.item()
    torch._check(a == 3)
    return x + b


def joined(x, y):
    return torch.cat([ones(x.item()), ones(x.item() + 1)]) + ones(y.item())


def saved_and_loaded(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


@both
@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (equal, (3, 3), (3, 4)),
        (equal_computed, (3, 3), (3, 4)),
        (equal_one_used, (3, 3), (3, 4)),
        (equal_unused, (3, 3), (3, 4)),
        (twice, (4, 2), (4, 3)),
        (a_sum, (2, 4), (2, 5)),
        (one_value, (3, 1), (4, 1)),
        (joined, (2, 5), (2, 6)),
    ],
)
def test_what_a_program_relies_on_is_checked_in_every_form(function, good, bad, strict) -> None:
    model = Of(function)
    program = export(model, tuple(map(torch.tensor, good)), strict=strict)
    loaded = saved_and_loaded(program)
    for form in (program, program.run_decompositions(), loaded, loaded.run_decompositions()):
        module = form.module()
        inputs = tuple(map(torch.tensor, good))
        assert torch.equal(module(*inputs), model(*inputs))
        with pytest.raises(RuntimeError, match=r"Runtime assertion failed|size of tensor"):
            module(*map(torch.tensor, bad))


@both
def test_what_a_branch_relies_on_is_checked_in_it(strict) -> None:
    def of_data(x, y):
        n = y.item()
        torch._check(n >= 2)
        torch._check(n <= 5)
        return x * n

    model = Of(lambda x, y: torch.cond(x.sum() > 0, of_data, lambda x, y: x.clone(), [x, y]))
    program = export(model, (ones(3), torch.tensor(2)), strict=strict)
    for form in (program, program.run_decompositions(), saved_and_loaded(program)):
        module = form.module()
        assert module(ones(3), torch.tensor(5)).sum() == 15
        assert module(-ones(3), torch.tensor(6)).sum() == -3
        for n in (1, 6):
            with pytest.raises(RuntimeError, match="Runtime assertion failed for expression"):
                module(ones(3), torch.tensor(n))


def test_an_assertion_does_not_compare_a_number_with_itself() -> None:
    program = export(Of(joined), (torch.tensor(2), torch.tensor(5)))
    with pytest.raises(RuntimeError, match=r"Runtime assertion failed for expression Eq"):
        program.module()(torch.tensor(2), torch.tensor(1))


def test_remainders_of_sizes_read_as_torch_writes_them() -> None:
    program = export(Of(lambda x, y: y.view(x.item(), -1)), (torch.tensor(4), ones(8)))
    with pytest.raises(RuntimeError, match=re.escape("expression Eq(Mod(8, u0), 0)")):
        program.module()(torch.tensor(3), ones(8))


@both
def test_slices_by_data_are_decomposed(strict) -> None:
    model = Of(lambda x, y: (y[x.item() :], y[: x.item()], y[1 : x.item()]))
    program = export(model, (torch.tensor(3), ones(8)), strict=strict).run_decompositions()
    y = torch.arange(8.0)
    for n in (5, 8, -2):
        for got, expected in zip(
            program.module()(torch.tensor(n), y), model(torch.tensor(n), y), strict=True
        ):
            assert torch.equal(got, expected)


def test_bools_of_data_are_decomposed() -> None:
    model = Of(lambda x, y: (torch.where(x, y, y + 1), x.item()))
    program = export(model, (torch.tensor(True), ones(3))).run_decompositions()
    for value in (True, False):
        tensor, number = program.module()(torch.tensor(value), ones(3))
        assert number == value and tensor.sum() == (3 if value else 6)


# Errors about data.


def test_an_error_about_data_says_what_torch_says_too() -> None:
    def branch(x, y):
        a = x.item()
        return y + 1 if a > 5 else y

    with pytest.raises(RuntimeError) as error:
        export(Of(branch), (torch.tensor(4), ones(2)))
    text = str(error.value)
    assert text.startswith("Could not guard on data-dependent expression a >= 6")
    assert "Could not guard on data-dependent expression u0 > 5 (unhinted: u0 > 5)." in text

    with pytest.raises(RuntimeError) as error:
        export(Of(lambda x, y: [y for _ in range(x.item())]), (torch.tensor(4), ones(2)))
    words = "Could not extract specialized integer from data-dependent expression u0 (unhinted: u0)"
    assert words in str(error.value)

    with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value"):
        export(Of(lambda x, y: torch.is_nonzero(y)), (torch.tensor(4), ones(2)))


def test_checks_are_suggested_in_the_names_of_the_program() -> None:
    def asks_inside_of_torch(x, y):
        n = x.item()
        torch._assert(n < 9, "nine")
        return ones(n)

    with pytest.raises(RuntimeError) as error:
        export(Of(asks_inside_of_torch), (torch.tensor(4), ones(2)))
    text = str(error.value)
    assert re.search(
        r"The following call raised this error:\n  File \".*\", line \d+, in asks_", text
    )
    expected = (
        "To fix the error, insert one of the following checks before this call:\n"
        "  1. torch._check(n < 9)\n"
        "  2. torch._check(n >= 9)\n\n"
        "(These suggested fixes were derived by replacing `u0` with n in u0 < 9 and its negation.)"
    )
    assert expected in text


@both
def test_a_float_of_data_that_torch_compares_with_itself_may_be_nan(strict) -> None:
    program = export(Of(lambda x, y: y * x.item()), (torch.tensor(0.5), ones(3)), strict=strict)
    assert program.module()(torch.tensor(float("nan")), ones(3)).isnan().all()


# The structured trace, and the report of a draft export.


def draft(function, *args, shapes=None):
    return torch.export.draft_export(Of(function), args, dynamic_shapes=shapes)._report


def branch_on_data(x, y):
    n = y.item()
    return x + 1 if n > 2 else x - 1


def asks_in_a_loop(x, y):
    for i in range(3):
        if y.item() > i:
            x = x + 1
    return x


def test_the_report_of_a_draft_export_names_the_questions_about_data() -> None:
    report = draft(branch_on_data, ones(8), torch.tensor(3))
    (failure,) = report.failures
    assert str(failure.failure_type) == "DATA_DEPENDENT_ERROR"
    assert (failure.data["expr"], failure.data["result"]) == ("u0 > 2", "True")
    assert failure.data["frame_locals"]["locals"]["n"] == ["u0"]
    assert failure.data["user_stack"][-1]["loc"] == "return x + 1 if n > 2 else x - 1"
    assert "u0 > 2" in str(report)

    (failure,) = draft(asks_in_a_loop, ones(8), torch.tensor(3)).failures
    assert failure.data["occurrences"] == 3


def test_the_report_of_a_draft_export_names_guards_that_break_promises() -> None:
    report = draft(lambda x, y: x + y, ones(8), ones(8), shapes=({0: Dim("b")}, {0: Dim("c")}))
    (failure,) = report.failures
    assert str(failure.failure_type) == "GUARD_ADDED"
    assert set(failure.data["symbol_to_sources"].values()) == {
        "L['x'].size()[0]",
        "L['y'].size()[0]",
    }
    assert draft(
        lambda x, y: x + y.sum(), ones(8), ones(8), shapes=({0: Dim("b")}, None)
    ).successful()


class Events(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list] = {}

    def emit(self, record) -> None:
        for name, fields in getattr(record, "metadata", {}).items():
            self.seen.setdefault(name, []).append(fields)


def test_the_structured_trace_has_the_events_of_torch() -> None:
    def view_of_one_size(x, y):
        n = y.item()
        torch._check(n >= 2)
        return x.view(4, 2), ones(n)

    events = Events()
    log = torch._logging._internal.trace_log
    before, log.handlers = log.handlers, [events]
    try:
        export(
            Of(view_of_one_size), (ones(8), torch.tensor(3)), dynamic_shapes=({0: Dim.AUTO}, None)
        )
    finally:
        log.handlers = before
    (symbol,) = events.seen["create_symbol"]
    assert symbol["source"] == "L['x'].size()[0]" and symbol["val"] == "8"
    (unbacked,) = events.seen["create_unbacked_symbol"]
    assert unbacked["symbol"] == "u0"
    (pinned,) = events.seen["symbolic_shape_specialization"]
    assert pinned["symbol"] == symbol["symbol"] and pinned["value"] == "8"
    guards = [event["expr"] for event in events.seen["guard_added_fast"]]
    assert any("Eq(" in text and symbol["symbol"] in text for text in guards)
    assert any("u0" in text for text in guards)
    assert pinned["user_stack"][-1]["loc"] == "return x.view(4, 2), ones(n)"


# Dynamo's graphs.


def test_comparisons_that_have_one_answer_leave_no_node() -> None:
    counter = torch._dynamo.testing.CompileCounter()

    def f(x, y):
        return x + y if x.shape == y.shape else x

    torch.compile(f, backend=counter, dynamic=True)(ones(3, 4), ones(3, 4))
    assert counter.op_count == 1


def test_reasons_of_recompilations_are_in_torchs_words() -> None:
    def f(x, y):
        return x + y if x.shape[0] > 4 else x - y

    compiled = torch.compile(f, backend="eager", dynamic=True)
    for sizes in ((3, 3), (8, 8), (8, 1)):
        compiled(*map(ones, sizes))
    reasons = [text for texts in torch._dynamo.utils.guard_failures.values() for text in texts]
    assert any("2 <= x.size()[0] <= 4" in text for text in reasons), reasons


def test_an_error_about_data_names_the_variables_that_dynamo_interprets() -> None:
    def branch(x, y):
        count = x.item()
        return y + 1 if count > 5 else y

    compiled = torch.compile(branch, backend="eager", fullgraph=True, dynamic=True)
    with (
        torch._dynamo.config.patch(capture_scalar_outputs=True),
        pytest.raises(torch._dynamo.exc.UserError) as error,
    ):
        compiled(torch.tensor([4]), ones(2))
    text = str(error.value)
    assert "data-dependent expression count >= 6" in text
    assert "torch._check(count >= 6)" in text


def test_an_error_about_data_names_the_variables_of_a_function_that_dynamo_inlines() -> None:
    def inner(x):
        count = x.item()
        return x + 1 if count > 5 else x

    with pytest.raises(torch._dynamo.exc.UserError) as error:
        export(Of(lambda x, y: inner(x) + y), (torch.tensor(4), ones(2)), strict=True)
    text = str(error.value)
    assert "torch._check(count >= 6)" in text
    assert re.search(r"Caused by: return x \+ 1 if count > 5 else x  # .*:\d+ in inner", text)
    assert 'also add TORCHDYNAMO_EXTENDED_DEBUG_CREATE_SYMBOL="u0"' in text
    assert "User Stack (most recent call last):" in text


def test_graphs_of_aot_autograd_are_named_as_torch_names_them() -> None:
    recorder = AotEagerAndRecordGraphs()
    torch.compile(lambda x: x + 1, backend=recorder, dynamic=True)(ones(3))
    text = recorder.fw_graphs[0].print_readable(print_output=False)
    assert text.startswith("class <lambda>(torch.nn.Module):")


def test_sizes_of_a_subclass_are_read_from_its_last_inputs() -> None:
    recorder = AotEagerAndRecordGraphs()
    pair = TwoTensor(torch.ones(3, 4), torch.ones(3, 4))
    torch.compile(lambda t: t.sin().view(-1), backend=recorder, dynamic=True)(pair)
    text = recorder.fw_graphs[0].print_readable(print_output=False)
    assert "sym_size.int(view, 0)" in text
    assert "No stacktrace" not in text  # the question for a size has the line of its tensor
    torch._dynamo.reset()
    torch.compile(lambda t: t.sin(), backend=recorder, dynamic=True)(pair)
    graph = recorder.fw_graphs[1].graph
    numbers = {str(n.meta["val"]): n for n in graph.find_nodes(op="placeholder")}  # the last ones
    rows, columns = (
        numbers[str(size)] for size in graph.find_nodes(op="placeholder")[2].meta["val"].shape
    )
    assert graph.output_node().args[0][-3:] == (rows, columns, columns)


# Graphs.


def test_make_fx_names_symbols_and_asks_sizes_as_torch_does() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda a, b: a.sin().new_ones(b.shape[0] * 2), tracing_mode="symbolic")(
        ones(3), ones(5)
    )
    assert [n.name for n in graph.graph.nodes] == [
        "a_1", "b_1", "sin", "sym_size_int", "mul", "new_ones", "output",
    ]  # fmt: skip
    assert str(graph.graph.find_nodes(op="placeholder")[0].meta["val"].shape[0]) == "s75"


def test_a_size_is_asked_before_an_operator_changes_it() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    def rows(x):
        y = x.clone()
        y.t_()
        return y.new_ones(x.shape[0] + y.shape[0])

    graph = make_fx(rows, tracing_mode="symbolic")(ones(3, 4))
    assert graph(ones(5, 2)).shape == rows(ones(5, 2)).shape == (7,)


def test_nodes_of_aot_graphs_have_torchs_numbers() -> None:
    recorder = AotEagerAndRecordGraphs()
    torch.compile(lambda x: (x.sin() * x.shape[0]).view(-1), backend=recorder, dynamic=True)(
        ones(3, 4)
    )
    assert "mul_2" in [n.name for n in recorder.fw_graphs[0].graph.nodes]


def test_a_decomposed_program_has_torchs_names() -> None:
    rows = Dim("rows", min=3, max=6)
    model = Of(lambda x, y: x + y[1:])
    program = export(model, (ones(5), ones(6)), dynamic_shapes=({0: rows}, {0: rows + 1}))
    names = [n.name for n in program.run_decompositions({}).graph.nodes]
    assert names == ["x", "y", "slice_1", "add_3", "output"]


@pytest.mark.parametrize("shape", [(-1, 3), (3, -1)])
def test_a_view_of_an_unbacked_size_asserts_that_its_elements_fit(shape) -> None:
    def viewed(x):
        return torch.zeros(x.sum().item()).view(shape)

    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        compiled = torch.compile(viewed, backend="aot_eager", fullgraph=True)
        for total in (3, 6):
            assert compiled(torch.tensor([total])).shape == viewed(torch.tensor([total])).shape
        with pytest.raises(RuntimeError):
            compiled(torch.tensor([4]))


def test_a_fact_that_replaces_a_symbol_is_asserted_once_in_its_first_words() -> None:
    def function(numbers, rows):
        first, second = numbers.tolist()
        torch._check(first >= 0)
        torch._check(second >= 0)
        torch._check(first + second == rows.shape[0])
        return rows.split([first, second])[0] + 1

    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    rows = torch.arange(5.0)
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        result = torch.compile(function, backend=keep)(torch.tensor([2, 3]), rows)
    assert torch.equal(result, rows[:2] + 1)
    target = torch.ops.aten._assert_scalar.default
    (graph,) = graphs
    messages = [node.args[1] for node in graph.graph.find_nodes(op="call_function", target=target)]
    assert [message.split(" on node ")[0].split("expression ")[1] for message in messages] == [
        "u0 <= 5", "u1 <= 5", "u0 >= 0", "u1 >= 0", "Eq(u0 + u1, 5)",
    ]  # fmt: skip
    with pytest.raises(RuntimeError, match=r"Eq\(u0 \+ u1, 5\)"):
        graph(torch.tensor([2, 2]), rows)
    with pytest.raises(RuntimeError, match=r"u1 >= 0|u0 <= 5"):
        graph(torch.tensor([6, -1]), rows)

"""Strides and storage offsets in graphs: the tensors that are asked, and the computed terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import symfx
from symfx import Dim
from symfx.proxy_tensor import make_fx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

LAYOUT_OPERATORS = (
    torch.ops.aten.sym_stride.int,
    torch.ops.aten.sym_stride.default,
    torch.ops.aten.sym_storage_offset.default,
)


def questions(graph_module: torch.fx.GraphModule) -> list[tuple[str, Any]]:
    """The tensors that a graph asks for strides and offsets: the maker of each, and the dimension."""
    return [
        (node.args[0].op if node.args[0].op == "placeholder" else str(node.args[0].target), *node.args[1:])
        for node in graph_module.graph.nodes
        if node.target in LAYOUT_OPERATORS
    ]  # fmt: skip


def agrees(function: Any, graph: Any, *inputs: torch.Tensor) -> None:
    for x in inputs:
        torch.testing.assert_close(graph(x), function(x))


COMPUTED = {
    "flip": lambda y: y.flip(2),
    "sort": lambda y: y.sort(-1)[0],
    "msort": torch.msort,
    "gather": lambda y: y.gather(1, torch.zeros_like(y).long()),
    "ones_like": torch.ones_like,
    "zeros_like": torch.zeros_like,
    "nan_to_num": lambda y: y.nan_to_num(),
    "empty_like": lambda y: torch.empty_like(y).fill_(1),
    "full_like": lambda y: torch.full_like(y, 2),
    "clone": torch.clone,
    "cumsum": lambda y: y.cumsum(1),
    "roll": lambda y: y.roll(1, 1),
    "argsort": lambda y: y.argsort(-1).double(),
    "relu": torch.relu,
}


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("how", ["make_fx", "trace"])
def test_the_number_of_elements_is_not_read_off_a_stride(name: str, how: str) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = COMPUTED[name](x[None][:, 1:])
        return y.sum() / y.numel()

    x = torch.arange(30, dtype=torch.float64).view(6, 5)
    if how == "make_fx":
        graph = make_fx(function, tracing_mode="symbolic")(x)
        assert questions(graph) == []
    else:
        graph = symfx.trace(function, x, dynamic=[("a", "b")])
        assert questions(graph.graph_module) == []
    agrees(function, graph, x, torch.randn(3, 7).double(), torch.randn(9, 2).double())


@pytest.mark.parametrize("name", COMPUTED)
def test_the_stride_of_a_dimension_of_size_1_is_asked_of_the_very_tensor(name: str) -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        y = COMPUTED[name](x[None][:, 1:])
        return y, y.stride(0), 2 * y.stride()[0] + y.stride(1)

    graph = symfx.trace(function, torch.randn(6, 5), dynamic=[("a", "b")])
    agrees(function, graph, torch.randn(6, 5), torch.randn(3, 7), torch.randn(9, 2))


def test_strides_of_larger_dimensions_are_computed_from_sizes() -> None:
    def function(x: torch.Tensor) -> tuple[int, int, int]:
        y = x.mT[1:]
        return y.stride(0), y.stride(1), y.storage_offset()

    graph = symfx.trace(function, torch.randn(6, 5), dynamic=[("a", "b")])
    assert questions(graph.graph_module) == []
    agrees(function, graph, torch.randn(6, 5), torch.randn(3, 7))


def test_strides_of_computed_tensors_may_be_branched_on() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.mT.relu()[1:]
        return y + y.stride(1) if y.stride(0) == 1 and y.storage_offset() == 1 else y - 1

    graph = symfx.trace(function, torch.randn(6, 5), dynamic=[("a", "b")])
    agrees(function, graph, torch.randn(6, 5), torch.randn(3, 7))


def test_filled_copies_keep_the_order_of_the_dimensions() -> None:
    def function(x: torch.Tensor) -> tuple[int, ...]:
        rows = torch.zeros(1, dtype=torch.int64)
        return (
            *x.mT.index_fill(1, rows, 1.0).stride(),
            *x.mT.index_fill(0, rows, x[0, 0]).stride(),
        )

    graph = symfx.trace(function, torch.randn(6, 9)[:, :5], dynamic=[("a", "b")])
    agrees(function, graph, torch.randn(6, 9)[:, :5], torch.randn(3, 9)[:, :7])


@torch.library.custom_op("symfx_tests::mistaken", mutates_args=())
def mistaken(x: torch.Tensor) -> torch.Tensor:
    return x.mT.contiguous().mT


@mistaken.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape)


def test_a_fake_kernel_that_is_mistaken_of_a_layout_is_found_out_when_the_graph_runs() -> None:
    graph = symfx.trace(
        lambda x: x * mistaken(x).stride(0), torch.randn(6, 5), dynamic=[("a", "b")]
    )
    with pytest.raises(RuntimeError, match=r"does not hold; asserted.*stride\(0\)"):
        graph(torch.randn(6, 5))


def test_an_input_is_asked_for_a_stride_that_sizes_do_not_give() -> None:
    def function(x: torch.Tensor) -> tuple[int, int]:
        y = x[:, 1:]
        return y.stride(0), y.storage_offset()

    base = torch.randn(12, 5)
    graph = symfx.trace(function, base[3:, :4], dynamic=[("a", "b")])
    assert set(questions(graph.graph_module)) == {("placeholder", 0), ("placeholder",)}
    agrees(function, graph, base[3:, :4], torch.randn(12, 9)[7:, :3])


def with_strides(size: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(2000).as_strided(size, stride)


@pytest.mark.parametrize("low", [None, 1])
def test_the_stride_of_an_input_of_size_1_is_the_one_of_the_call(low: int | None) -> None:
    """Any stride is admitted there, so the graph must not compute one."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, Any, int]:
        return torch.as_strided(x, x.size(), x.stride()), x.stride(), x[None].stride(1)

    entry = None if low is None else Dim("a", min=low)
    t = symfx.trace(function, torch.randn(1, 4, 5), dynamic=[(entry, "b", "c")])
    for x in (torch.randn(1, 6, 7), with_strides((1, 6, 7), (91, 7, 1))):
        assert t.check(x)
        agrees(function, t, x)


def test_a_stride_that_the_program_only_computes_with_is_asked_of_the_input(tmp_path: Path) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * x.stride(0)

    t = symfx.trace(function, torch.randn(6, 5), dynamic=[(Dim("a", min=1), "b")])
    assert not t.guards
    path = tmp_path / "trace.symfx"
    t.save(path)
    for each in (t, symfx.load(path)):
        for x in (torch.randn(2, 7), torch.randn(1, 7), with_strides((1, 7), (91, 1))):
            assert each.check(x)
            agrees(function, each, x)


def test_a_stride_that_the_program_depends_on_is_checked_where_the_size_is_1(
    tmp_path: Path,
) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.stride(0) == x.shape[1] else x

    t = symfx.trace(function, torch.randn(6, 5), dynamic=[(Dim("a", min=1), "b")])
    assert not t.guards
    path = tmp_path / "trace.symfx"
    t.save(path)
    for each in (t, symfx.load(path)):
        for n in (1, 2):
            assert each.check(torch.randn(n, 7))
            agrees(function, each, torch.randn(n, 7))
        loose = with_strides((1, 7), (91, 1))
        refused = each.check(loose)
        assert not refused and "the strides of x are (91, 1), not (7, 1)" in str(refused)
        assert each.check(loose.clone(memory_format=torch.contiguous_format))
    # Without the question both are served.
    t = symfx.trace(torch.relu, torch.randn(6, 5), dynamic=[(Dim("a", min=1), "b")])
    agrees(torch.relu, t, with_strides((1, 7), (91, 1)))


def test_no_stride_follows_from_the_stride_of_a_dimension_of_size_1() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x * x.stride(0)

    example = with_strides((6, 1, 1), (4, 4, 1))
    t = symfx.trace(
        function, example, dynamic=[("b", Dim("a", min=1), Dim("a", min=1))], strict=False
    )
    x = with_strides((6, 1, 1), (4, 98, 99))
    assert t.check(x)
    agrees(function, t, x)


def test_inputs_do_not_share_the_symbol_of_a_stride_that_means_nothing() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
        return x + 1, y[1:].storage_offset()

    x, y = with_strides((1, 4), (8, 1)), with_strides((4, 4), (8, 1))
    dims = Dim("a", min=1), Dim("b", min=1), "c"
    t = symfx.trace(
        function, (x, y), dynamic=[(dims[0], dims[2]), (dims[1], dims[2])], strict=False
    )
    x = with_strides((1, 4), (97, 1))
    assert t.check(x, y)
    assert t(x, y)[1] == 8


def test_layouts_of_tensors_without_elements_are_asked_of_the_tensor() -> None:
    def function(x: torch.Tensor) -> tuple[int, int]:
        return x.stride(0), x[1:].storage_offset()

    t = symfx.trace(function, torch.randn(1, 4), dynamic=[(Dim("a", min=0), "b")])
    for x in (torch.randn(1, 3), with_strides((1, 3), (91, 1))):
        assert t.check(x)
        agrees(function, t, x)


def test_a_branch_on_a_stride_that_means_nothing_is_refused_with_its_line() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.relu()
        if y.stride(0) == 5:  # of a dimension of size 1
            return y
        return y + 1

    with pytest.raises(symfx.SymfxError, match=r"y\.stride\(0\) == 5"):
        symfx.trace(function, torch.randn(1, 5), dynamic=[(None, "n")])


def test_whether_a_tensor_is_contiguous_does_not_hang_on_dimensions_of_size_1() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x[None][:, 1:].flip(2)
        return y + 1 if y.is_contiguous() and x.is_contiguous() else y - 1

    t = symfx.trace(function, torch.randn(4, 1, 5), dynamic=[("a", None, "b")])
    x = with_strides((3, 1, 7), (7, 91, 1))
    assert t.check(x)
    agrees(function, t, x)


def test_a_stride_of_a_tensor_with_as_many_rows_as_data_says_is_asked_of_it() -> None:
    def function(x: torch.Tensor) -> tuple[Any, Any]:
        y = x.nonzero()
        return y.stride(0), y.stride(1)

    t = symfx.trace(function, torch.tensor([[1.0, 0, 2], [0, 3, 4]]), dynamic=[("a", "b")])
    agrees(function, t, torch.ones(3, 3), torch.eye(5))
    assert {kind for kind, *_ in questions(t.graph_module)} == {"aten.nonzero.default"}


def test_an_operator_that_moves_dimensions_in_place_changes_the_answer() -> None:
    def function(x: torch.Tensor) -> tuple[int, int]:
        y = x[None].clone()
        before = y.stride(0)
        y.transpose_(0, 1)
        return before, y.stride(1)

    t = symfx.trace(function, torch.randn(4, 5), dynamic=[("a", "b")])
    agrees(function, t, torch.randn(4, 5), torch.randn(2, 9))


def test_the_operators_of_torch_ask_like_the_methods() -> None:
    def function(x: torch.Tensor) -> tuple[Any, ...]:
        aten = torch.ops.aten
        return (
            aten.sym_stride.int(x, 0),
            aten.sym_storage_offset.default(x),
            aten.stride.int(x, 0),
            *aten.sym_stride.default(x),
        )

    graph = make_fx(function, tracing_mode="symbolic")(torch.randn(1, 5))
    for x in (torch.randn(1, 5), with_strides((1, 5), (91, 1))):
        assert graph(x) == function(x)


def test_an_empty_tensor_is_not_taken_for_one_in_channels_last() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.is_contiguous(memory_format=torch.channels_last) else x - 1

    t = symfx.trace(function, torch.randn(4, 1, 4, 4), dynamic=[("c", None, "b", Dim("a", min=0))])
    agrees(function, t, torch.randn(4, 1, 4, 4), torch.randn(2, 1, 3, 5))
    assert not t.check(torch.randn(2, 1, 6, 0))


def test_the_order_of_a_tensor_without_elements_is_data() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        empty = x[1:].swapaxes(0, -1)
        return x + 1 if empty.is_contiguous(memory_format=torch.channels_last) else x - 1

    with pytest.raises(GuardOnDataDependentSymNode):
        symfx.trace(function, torch.randn(1, 1, 1, 1))


def test_a_matrix_is_not_in_channels_last_however_many_rows_it_has() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        found = x.nonzero()
        return found + int(found.is_contiguous(memory_format=torch.channels_last))

    t = symfx.trace(function, torch.ones(3, 2))
    agrees(function, t, torch.zeros(3, 2), torch.ones(3, 2))


@pytest.mark.parametrize("scale", [1, 2])
def test_a_stride_that_other_kernels_choose_is_refused_where_it_means_nothing(scale: int) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, int]:
        y = torch.nn.functional.interpolate(x, scale_factor=float(scale)) * 2
        return y, x.numel() + y.stride(1)

    x = torch.randn(1, 4, 2)[..., 1:].permute(1, 0, 2)
    with pytest.raises(symfx.TracingError, match="comes from interpolate"):
        symfx.trace(program, x, dynamic=[(symfx.Dim("n", min=1), None, None)])
    wide = torch.randn(4, 3, 5)
    t = symfx.trace(program, wide, dynamic=[("n", "c", "w")])
    agrees(program, t, torch.randn(2, 3, 7), torch.randn(5, 2, 4))


@pytest.mark.parametrize("n", [1, 4])
def test_the_stride_of_a_reshaped_tensor_guards_which_operators_made_it(n: int) -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        y = x.transpose(0, 2).reshape(x.shape[2] * x.shape[1], x.shape[0], 1) + 0
        return y, y.stride(2), x.numel() + y.stride(1)

    def made(n: int, m: int) -> torch.Tensor:
        return torch.randn(n, 2, m)

    dims = (symfx.Dim("n", min=1), None, symfx.Dim("m", min=1))
    t = symfx.trace(program, made(n, 3), dynamic=[dims], strict=False)
    for sizes in ((1, 3), (4, 3), (2, 5), (1, 1), (3, 1)):
        x = made(*sizes)
        if t.check(x):
            agrees(program, t, x)


def test_an_added_dimension_of_size_1_has_the_stride_of_the_kernel() -> None:
    """The stride takes part where an elementwise operator sorts overlapping dimensions."""

    def function(x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        y = x.unflatten(1, (1, -1)).unfold(0, 2, 1).relu()
        return y, (y.stride(0), y.stride(-1))

    dims = [(Dim("c", min=0), Dim("a", min=2))]
    t = symfx.trace(function, torch.randn(3, 1).expand(3, 3), dynamic=dims)
    agrees(function, t, torch.randn(3, 1).expand(3, 3), torch.randn(5, 1).expand(5, 4))


EXACT = {
    "views": lambda x: (*x.mT[1:].stride(), *x[:, 1:].stride(), *x[0].stride(), *x[None].stride()),
    "offsets": lambda x: (x[1:].storage_offset(), x[0, :1].storage_offset(), x.mT.storage_offset()),
    "windows": lambda x: (*x.unfold(1, 2, 1).stride(), *x.split(2, 1)[0].stride()),
    "reshaped": lambda x: (*x.view(-1).stride(), *x.unflatten(1, (-1, 1)).mT.stride()),
    "row-major": lambda x: (*x.mT.sum(0, keepdim=True).stride(), *(x @ x.mT).stride()),
    "kept": lambda x: (*(x.relu() * 2).flip(0).stride(), *torch.stack([x, x], 1).stride()),
    "sorted": lambda x: (*x.mT.topk(1, 0)[0].stride(), *x.sort(1)[1].stride()),
    "in place": lambda x: (*x.clone().add_(1).transpose_(0, 1).stride(),),
    "empty": lambda x: torch.cumsum(x, 1)[:, 4:].stride(),
}


@pytest.mark.parametrize("name", EXACT)
def test_strides_that_kernels_are_known_to_choose_need_no_size_of_2(name: str) -> None:
    t = symfx.trace(EXACT[name], torch.randn(4, 6), dynamic=[(Dim("a", min=1), Dim("b", min=2))])
    for size in ((1, 2), (1, 7), (5, 2), (3, 8)):
        if name != "empty" or size[1] > 4:
            assert t.check(torch.randn(size))
            agrees(EXACT[name], t, torch.randn(size))


@pytest.mark.parametrize("contiguous", [torch.contiguous_format, torch.channels_last])
def test_whether_a_tensor_is_contiguous_is_one_condition(contiguous: torch.memory_format) -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.is_contiguous(memory_format=contiguous) else x - 1

    def example(n: int, c: int, h: int) -> torch.Tensor:
        return torch.randn(h, n, c, 3).permute(1, 2, 0, 3)

    dims = (Dim("n", min=1), Dim("c", min=1), Dim("h", min=1), None)
    t = symfx.trace(function, example(4, 5, 6), dynamic=[dims])
    assert len(t.guards) <= 1
    for size in ((1, 5, 6), (4, 1, 6), (4, 5, 1), (1, 1, 6), (4, 1, 1), (1, 5, 1), (1, 1, 1)):
        x = example(*size)
        wanted = x.is_contiguous(memory_format=contiguous)
        assert bool(t.check(x)) is not wanted
        if not wanted:
            agrees(function, t, x)

"""make_fx and the names around it: their results, and their errors."""

from __future__ import annotations

import copy
import operator
from typing import Any

import pytest
import torch
from torch import fx, nn

from symfx.errors import SpecError, SymfxError, TracingError
from symfx.proxy_tensor import (
    PythonKeyTracer,
    decompose,
    disable_proxy_modes_tracing,
    extract_val,
    fetch_object_proxy,
    fetch_sym_proxy,
    get_proxy_mode,
    get_proxy_slot,
    has_proxy_slot,
    is_sym_node,
    make_fx,
    set_proxy_slot,
    snapshot_fake,
    track_tensor_tree,
)
from symfx.symbolic_shapes import Dim, GuardOnDataDependentSymNode

MODES = ("real", "fake", "symbolic")
aten = torch.ops.aten


def targets(g: fx.GraphModule) -> list[Any]:
    return [n.target for n in g.graph.nodes if n.op == "call_function"]


def test_a_product_of_sums_is_computed_as_one() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape
        return x.new_zeros((rows + 1) * (columns - 2) + 3)

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    counts = [targets(g).count(op) for op in (operator.add, operator.sub, operator.mul)]
    assert counts == [2, 1, 1]
    assert g(torch.rand(5, 6)).shape == (27,)


def test_defaults_of_parameters_are_kept() -> None:
    def f(x: torch.Tensor, n: int = 3, name: str | None = None) -> torch.Tensor:
        return x * n

    assert make_fx(f, tracing_mode="symbolic")(torch.ones(2), 5)(torch.ones(2))[0] == 3
    g = make_fx(f, tracing_mode="symbolic")(torch.ones(2), 5, "a")
    assert "x_1, n_1 = 3, name_1 = None" in g.code
    # A tree of inputs has no place for them.
    tree = make_fx(lambda xs, n=3: xs[0] * n, tracing_mode="symbolic")([torch.ones(2)], 5)
    assert tree([torch.ones(2)], 4)[0] == 4


def test_sizes_are_asked_once_and_computed_once() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> Any:
        a, b = x.shape
        n = a * b + 1
        return x.new_zeros(n), y.new_zeros(a * b + 1), torch.arange(n), (x + y).view(-1), n - 1

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4), torch.rand(3, 4))
    asked = [t for t in targets(g) if t is aten.sym_size.int]
    assert len(asked) == 2
    assert targets(g).count(operator.mul) == 1
    assert targets(g).count(operator.add) == 1
    x, y = torch.rand(5, 7), torch.rand(5, 7)
    assert [getattr(v, "shape", v) for v in g(x, y)] == [getattr(v, "shape", v) for v in f(x, y)]


def test_unused_sizes_are_not_asked() -> None:
    g = make_fx(
        lambda x: x.view(-1) * x.shape[0] // 1 if x.numel() else x, tracing_mode="symbolic"
    )(torch.rand(3, 4))
    assert targets(g)[0] is aten.sym_size.int
    g = make_fx(lambda x: x.shape[0] * 0 + x, tracing_mode="symbolic")(torch.rand(3, 4))
    assert aten.sym_size.int not in targets(g)


def test_a_size_is_that_of_the_input_even_after_it_was_changed() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[0]
        x.t_()
        return torch.zeros(rows) + 1

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    assert g(torch.rand(5, 7)).shape == (5,)


def test_arithmetic_of_every_kind_runs() -> None:
    def f(x: torch.Tensor, n: int) -> Any:
        a, b = x.shape
        return (
            torch.zeros(max(a, b)), torch.zeros(min(a, b)), torch.zeros(a // 2 + b % 3),
            x * (a / b), x * (n - 2 * a), x * -n, torch.zeros(a**2), x * torch.sym_max(a, n),
            x * (b - a + 1), x * torch.sym_float(n), x * (n * n - n),
        )  # fmt: skip

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 5), 7)
    for rows, columns, n in ((3, 5, 7), (4, 9, 11)):
        x = torch.rand(rows, columns)
        torch.testing.assert_close(g(x, n), f(x, n))


def test_dynamic_shapes() -> None:
    def f(x: torch.Tensor, n: int, tree: Any) -> Any:
        return x.view(-1, x.shape[-1]).sum(0) * n, tree["a"][1].t(), tree["b"] * x.shape[0]

    tree = {"a": [torch.rand(2), torch.rand(3, 4)], "b": 2}
    spec = ({0: Dim("batch", max=64), 1: "seq"}, "n", {"a": [None, {0: "batch"}]})
    g = make_fx(f, tracing_mode="symbolic", dynamic_shapes=spec)(torch.rand(3, 5, 8), 7, tree)
    x = next(n for n in g.graph.nodes if n.op == "placeholder")
    assert [str(s) for s in x.meta["val"].shape] == ["batch", "seq", "8"]
    info = {s.name: s for s in g.shape_env.symbol_table()}
    assert info["batch"].sources == ("x.size()[0]", "tree['a'][1].size()[0]")
    assert info["batch"].upper == 64
    other = torch.rand(6, 7, 8), 9, {"a": [torch.rand(2), torch.rand(6, 4)], "b": 2}
    torch.testing.assert_close(g(*other), f(*other))


def test_dynamic_shapes_by_name_and_by_dimension() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    args = torch.rand(3, 4), torch.rand(3, 4)
    for spec, shape in (
        ({"x": {0: True}, "y": {0: True}}, ["s93", "4"]),
        ([[None, "n"], {-1: "n"}], ["3", "n"]),
        ([(3, Dim("n")), [True, "n"]], ["3", "n"]),
        ([None, None], ["3", "4"]),
        ([True, True], ["s93", "s44"]),
    ):
        g = make_fx(f, tracing_mode="symbolic", dynamic_shapes=spec)(*args)
        x = next(n for n in g.graph.nodes if n.op == "placeholder")
        assert [str(s) for s in x.meta["val"].shape] == shape


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"z": None}, "entries for z"),
        ([None], "1 entries for 2 arguments"),
        ("batch", "a str"),
        (["batch", None], "does not fit x"),
        ([{5: True}, None], "entries for 5"),
        ([[True], None], "has 2 dimensions"),
        ([{0: 1.5}, None], "does not describe dimension 0"),
        ([[4, None], None], "is 3, dynamic_shapes says 4"),
        ([None, 1.5], "does not describe n"),
        ([None, {0: True}], "does not describe n"),
    ],
)
def test_dynamic_shapes_that_do_not_fit(spec: Any, says: str) -> None:
    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n

    with pytest.raises(SpecError, match=says):
        make_fx(f, tracing_mode="symbolic", dynamic_shapes=spec)(torch.rand(3, 4), 2)


def test_options_that_make_no_sense() -> None:
    for options, says in (
        ({"tracing_mode": "quick"}, "'quick'"),
        ({"dynamic_shapes": []}, "tracing_mode is 'real'"),
    ):
        with pytest.raises(SpecError, match=says):
            make_fx(torch.sin, **options)  # type: ignore[arg-type]
    with pytest.raises(TracingError, match="positional arguments"):
        make_fx(lambda x: x)(torch.rand(1), torch.rand(1))
    with pytest.raises(TracingError, match="true branch returns 1 values, the false branch 2"):
        make_fx(
            lambda x: torch.ops.higher_order.cond(
                x.sum() > 0, lambda v: (v,), lambda v: (v, v), (x,)
            )
        )(torch.rand(3))


def test_reading_values_suggests_a_fix() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x

    with pytest.raises(TracingError, match="bake in"):
        make_fx(f)(torch.rand(3))
    with pytest.raises(GuardOnDataDependentSymNode):
        make_fx(f, tracing_mode="symbolic")(torch.rand(3))
    g = make_fx(f, _error_on_data_dependent_ops=False)(torch.rand(3))
    assert g(torch.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_guards_name_the_users_line() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 2:  # the line
            return x + 1
        return x

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    (guard,) = g.shape_env.guards
    assert guard.provenance.frame.function.endswith("f")
    assert "# the line" in guard.provenance.frame.line


def test_guards_name_the_operator_that_asked_and_no_other() -> None:
    def f(x: Any, y: Any) -> Any:
        z = x.view(6, -1)  # asks for a size that 6 divides
        if y.shape[0] > 3:
            return z * 2
        return z

    gm = make_fx(f, tracing_mode="symbolic")(torch.ones(12), torch.ones(5))
    by_operator, by_program = gm.shape_env.guards[0], gm.shape_env.guards[-1]
    assert by_operator.provenance.operator in ("aten.view.default", "aten.reshape.default")
    assert by_program.provenance.operator is None
    assert "y.shape[0] > 3" in str(by_program.provenance)


def test_a_symbol_from_elsewhere_is_refused() -> None:
    kept: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return x

    make_fx(keep, tracing_mode="symbolic")(torch.rand(3, 4))

    def f(x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(kept[0].shape[0])

    with pytest.raises((SymfxError, RuntimeError)):
        make_fx(f, tracing_mode="symbolic")(torch.rand(5, 6))


def test_weights_are_read_once() -> None:
    net = nn.Linear(4, 4)
    g = make_fx(lambda x: net(net(x)), tracing_mode="fake", _allow_non_fake_inputs=True)(
        torch.rand(3, 4)
    )
    assert [n.target for n in g.graph.nodes if n.op == "get_attr"] == [
        "_param_constant0",
        "_param_constant1",
    ]
    assert g._param_constant0 is net.weight


def test_real_weights_need_leave_to_meet_fake_tensors() -> None:
    net = nn.Linear(4, 4)
    with pytest.raises(AssertionError, match="allow_non_fake_inputs"):
        make_fx(net, tracing_mode="fake")(torch.rand(3, 4))


@pytest.mark.parametrize("mode", MODES)
def test_graph_modules_are_copied_and_called(mode: str) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() + 1).view(-1)

    g = make_fx(f, tracing_mode=mode)(torch.rand(3, 4))
    assert isinstance(g, fx.GraphModule)
    assert "sin" in g.code
    x = torch.rand(3, 4)
    torch.testing.assert_close(copy.deepcopy(g)(x), f(x))
    g.graph.lint()
    retraced = make_fx(g, tracing_mode=mode)(x)
    assert targets(retraced) == targets(g)


def test_the_fast_path_of_encoder_layers_is_not_taken() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        g = make_fx(layer, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
            torch.rand(2, 3, 8)
        )
        h = make_fx(
            lambda x: attention(x, x, x)[0], tracing_mode="fake", _allow_non_fake_inputs=True
        )(torch.rand(2, 3, 8))
    for module in (g, h):
        assert not any(
            "native_multi_head" in str(t) or "_encoder" in str(t) for t in targets(module)
        )


# -- the names around make_fx --------------------------------------------------------------------


def test_the_mode_that_traces() -> None:
    seen = []

    def f(x: torch.Tensor) -> torch.Tensor:
        mode = get_proxy_mode()
        assert mode is not None and mode.enable_tracing
        with disable_proxy_modes_tracing() as off:
            assert off is mode
            assert get_proxy_mode() is None
            y = x.cos()
        seen.append(y)
        return x.sin()

    g = make_fx(f, tracing_mode="fake")(torch.rand(3))
    assert targets(g) == [aten.sin.default]
    assert get_proxy_mode() is None


def test_decompose() -> None:
    table = torch._decomp.get_decompositions([aten.silu])

    def f(x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(x)
        with decompose(table) as active:
            assert active is table
            return torch.nn.functional.silu(x)

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3))
    assert targets(g)[0] is aten.silu.default
    assert targets(g).count(aten.silu.default) == 1
    assert len(targets(g)) > 2
    with pytest.raises(TracingError, match="no trace is running"), decompose(table):
        pass


def test_slots() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        mode = get_proxy_mode()
        assert mode is not None
        tracer = mode.tracer
        assert has_proxy_slot(x, tracer)
        found = get_proxy_slot(x, tracer)
        assert found.proxy.node.name == "x_1"
        assert found.constant is None
        size = fetch_sym_proxy(tracer)(x.shape[0])
        assert size.node.target is aten.sym_size.int
        assert is_sym_node(size.node)
        with disable_proxy_modes_tracing():
            y = x.sin()
        assert not has_proxy_slot(y, tracer)
        assert fetch_object_proxy(tracer, y) is y
        assert get_proxy_slot(y, tracer, None) is None
        with pytest.raises(TracingError, match="has not seen"):
            get_proxy_slot(y, tracer)
        set_proxy_slot(y, tracer, found)
        with pytest.raises(TypeError):
            set_proxy_slot(y, tracer, found.proxy)
        with pytest.raises(TypeError):
            set_proxy_slot("y", tracer, found)
        return y + x.shape[0]

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    add = next(n for n in g.graph.nodes if n.name == "add")
    assert [a.name for a in add.args] == ["x_1", "sym_size_int"]


def test_trees_are_tracked_by_hand() -> None:
    tracer = PythonKeyTracer()
    node = tracer.create_node("placeholder", "x", (), {})
    value = (torch.rand(2), [torch.rand(3), 5])
    assert track_tensor_tree(value, fx.Proxy(node, tracer), constant=None, tracer=tracer) is value
    second = get_proxy_slot(value[1][0], tracer).proxy.node
    assert second.target is operator.getitem
    assert second.meta["val"].shape == (3,)
    assert second.meta["tensor_meta"].dtype == torch.float32


def test_snapshots_keep_the_past() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.rand(2, 3)
    kept = snapshot_fake(x)
    x.t_()
    assert (kept.shape, x.shape) == ((2, 3), (3, 2))
    assert kept.untyped_storage()._cdata == x.untyped_storage()._cdata
    assert extract_val({"a": [x, 2, None]})["a"][0].shape == (3, 2)
    assert extract_val(torch.rand(2)).fake_mode is not None


@pytest.mark.parametrize("module", [nn.Linear(7, 3), nn.Conv1d(5, 2, 2)], ids=["linear", "conv"])
def test_a_module_with_parameters_says_how_to_trace_it(module: nn.Module) -> None:
    with pytest.raises(TracingError, match="Parameter of shape") as error:
        make_fx(module, tracing_mode="symbolic")(torch.randn(4, 5, 7))
    assert isinstance(error.value, AssertionError)  # as torch's own error
    assert "symfx.trace" in str(error.value.fix)


def test_a_trace_logs_no_error_of_a_run_on_trial(caplog: pytest.LogCaptureFixture) -> None:
    make_fx(nn.Linear(7, 3), tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        torch.randn(5, 7)
    )
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

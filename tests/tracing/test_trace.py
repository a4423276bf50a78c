"""symfx.trace: what the graph holds, how it is called, what `dynamic` may say, what check says."""

import importlib
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import symfx
from symfx import Dim, InputMismatchError, SpecError, TracingError

randn = torch.randn


def names(trace):
    return [info.name for info in trace.symbols]


class Stack(nn.Module):
    """Two linears, the second with the first one's weight."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"a": nn.Linear(8, 8)})
        self.b = nn.Linear(8, 8)
        self.b.weight = self.inner["a"].weight
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        return self.b(torch.relu(self.inner["a"](x)))

    def half(self, x, *, bias=True):
        y = x @ self.b.weight
        return y + self.b.bias if bias else y


# -- the graph and its state ----------------------------------------------------------------------


def test_parameters_are_the_models_own_under_their_names():
    model = Stack()
    t = symfx.trace(model, randn(3, 8), dynamic={"x": ("n", None)})
    held = dict(t.graph_module.named_parameters())
    assert held.keys() == {"inner.a.weight", "inner.a.bias", "b.bias"}  # tied once, unused not
    assert all(tensor is model.get_parameter(name) for name, tensor in held.items())
    x = randn(5, 8)
    torch.testing.assert_close(t.graph_module(x), model(x))
    with torch.no_grad():
        model.b.bias.add_(1.0)
    torch.testing.assert_close(t.graph_module(x), model(x))


def test_each_attribute_is_read_once():
    t = symfx.trace(Stack(), randn(3, 8))
    targets = [node.target for node in t.graph_module.graph.nodes if node.op == "get_attr"]
    assert sorted(targets) == ["b.bias", "inner.a.bias", "inner.a.weight"]


def test_names_that_a_graph_module_has_itself():
    model = nn.Module()
    model.graph = nn.Linear(4, 4)
    model.register_buffer("code", torch.ones(4))
    model.forward = lambda x: model.graph(x) + model.code
    t = symfx.trace(model, randn(2, 4))
    x = randn(2, 4)
    torch.testing.assert_close(t(x), model.graph(x) + 1)


def test_running_statistics_are_updated_as_eager_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    t = symfx.trace(model, randn(5, 4), dynamic={0: ("n", None)})
    assert int(model[1].num_batches_tracked) == 0, "tracing must leave the model alone"
    twin = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    twin.load_state_dict(model.state_dict())
    for n in (7, 9):
        x = randn(n, 4)
        torch.testing.assert_close(t.graph_module(x), twin(x))
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer)
    assert int(model[1].num_batches_tracked) == 2


class Counter(nn.Module):
    def __init__(self, grow=False):
        super().__init__()
        self.register_buffer("steps", torch.zeros(2))
        self.grow = grow

    def forward(self, x):
        self.steps = torch.cat([self.steps, self.steps]) if self.grow else self.steps + 1
        return x * self.steps.sum()


def test_a_buffer_that_is_assigned_anew_is_updated():
    model = Counter()
    t = symfx.trace(model, randn(3, 4), dynamic=True)
    kept = model.steps
    x = randn(5, 4)
    torch.testing.assert_close(t(x), x * 2)
    torch.testing.assert_close(t(x), x * 4)
    assert model.steps is kept and kept.tolist() == [2.0, 2.0]


def test_running_averages_stay_out_of_autograd():
    class Average(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(4, 4)
            self.register_buffer("mean", torch.zeros(4, 4))

        def forward(self, x):
            with torch.no_grad():
                self.mean.view(-1).mul_(0.5).add_(self.lin.weight.view(-1))
            return self.lin(x) + self.mean.sum()

    model = Average()
    t = symfx.trace(model, randn(3, 4), dynamic=[("n", None)])
    assert t.verify()
    for _ in range(2):
        t(randn(5, 4)).sum().backward()
    torch.testing.assert_close(model.mean, 1.5 * model.lin.weight.detach())
    assert not model.mean.requires_grad and model.mean.grad_fn is None
    assert model.lin.bias.grad.tolist() == [10.0] * 4


def test_a_buffer_that_grows_is_refused():
    with pytest.raises(TracingError, match=r"replaces its buffer steps.*shape \(2,\).*\(4,\)"):
        symfx.trace(Counter(grow=True), randn(3, 4))


@pytest.mark.parametrize("deleted", [True, False])
def test_a_buffer_that_goes_away_is_refused(deleted):
    class Used(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("first", torch.ones(3))

        def forward(self, x):
            y = x + self.first
            if deleted:
                del self.first
            else:
                self.first = None
            return y

    model = Used()
    before = model.first
    with pytest.raises(TracingError, match=r"replaces its buffer first.*by None"):
        symfx.trace(model, randn(2, 3))
    assert model.first is before and list(model._buffers) == ["first"]


def test_a_method_of_a_module():
    model = Stack()
    t = symfx.trace(model.half, randn(3, 8), {"bias": False}, dynamic={"x": ("n", None)})
    assert dict(t.graph_module.named_parameters()).keys() == {"inner.a.weight"}
    x = randn(4, 8)
    torch.testing.assert_close(t(x, bias=False), model.half(x, bias=False))
    assert not t.check(x)


def test_tensors_a_function_closes_over_are_part_of_the_graph():
    table = randn(8, 3)
    t = symfx.trace(lambda x: x @ table, randn(4, 8), dynamic=[("n", None)])
    x = randn(6, 8)
    torch.testing.assert_close(t(x), x @ table)


def test_training_and_eval_are_traced_as_they_stand():
    model = nn.Sequential(nn.Dropout(0.5))
    x = torch.ones(50, 40)
    assert (symfx.trace(model, x)(x) == 0).any()
    assert (symfx.trace(model.eval(), x)(x) == 1).all()


def test_gradients_reach_the_models_parameters():
    model = nn.Linear(4, 2)
    t = symfx.trace(model, randn(3, 4), dynamic=[("n", None)])
    x = randn(5, 4)
    t(x).sum().backward()
    torch.testing.assert_close(model.weight.grad, x.sum(0).expand(2, 4))


# -- how it is called ----------------------------------------------------------------------------------


def pairs(first, scale=2.0, *rest, flag=True, extra=None, **more):
    total = first["x"] * scale + sum(rest)
    if extra is not None:
        total = total + extra
    for value in more.values():
        total = total - value
    return (total, {"y": [total.sum(), None, 3]}) if flag else total


def test_leaves_in_the_order_of_the_parameters():
    x, y, z = randn(3, 4), randn(3, 4), randn(3, 4)
    t = symfx.trace(
        pairs,
        ({"x": x}, 0.5, y),
        {"late": z, "extra": y.clone()},
        dynamic={
            "first": {"x": ("n", None)},
            "rest": [("n", None)],
            "late": ("n", None),
            "extra": ("n", None),
        },
    )
    assert list(t.inputs) == ["first_x", "scale", "rest_0", "extra", "late"]
    x, y, z = randn(6, 4), randn(6, 4), randn(6, 4)
    expected, inner = pairs({"x": x}, 0.5, y, extra=y, late=z)
    for total, rest in (
        t({"x": x}, 0.5, y, late=z, extra=y),
        t.graph_module(x, 0.5, y, y, z),
    ):
        torch.testing.assert_close(total, expected)
        torch.testing.assert_close(rest["y"][0], inner["y"][0])
        assert rest["y"][1:] == [None, 3]


def test_defaults_that_were_not_given_are_no_inputs():
    t = symfx.trace(pairs, ({"x": randn(3)},), {"flag": False})
    assert list(t.inputs) == ["first_x", "flag"]
    assert t.check({"x": randn(3)}, 2.0, flag=False), "a default given by hand is the default"
    (sentence,) = t.check({"x": randn(3)}, 3.0, flag=False).failures
    assert sentence.startswith("scale is 3.0; the traced call did not pass it")


Point = namedtuple("Point", "x y")


@dataclass
class Box:
    inside: torch.Tensor


pytree.register_pytree_node(Box, lambda b: ([b.inside], None), lambda c, _: Box(*c))


@pytest.mark.parametrize("make", [Point, lambda x, y: Box(x + y)], ids=["namedtuple", "registered"])
def test_classes_of_the_models_own_come_back_from_the_trace(make):
    t = symfx.trace(lambda x: make(x + 1, x), randn(3))
    x = randn(3)
    ours, theirs = t(x), make(x + 1, x)
    assert type(ours) is type(theirs)
    for one, other in zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_what_the_tracer_refuses_gets_the_users_line():
    def refused(x):
        raise TracingError("this cannot be traced", fix="leave it out")

    with pytest.raises(TracingError, match="this cannot be traced") as caught:
        symfx.trace(refused, randn(3))
    line = line_of(refused, "raise TracingError")
    assert f"test_trace.py:{line}" in caught.value.where
    assert caught.value.fix == "leave it out"


def test_an_output_that_no_graph_can_hold():
    with pytest.raises(TracingError, match="returns a Opaque, which a graph cannot hold"):
        symfx.trace(lambda x: type("Opaque", (), {})(), randn(3))


def test_a_tensor_that_is_passed_twice_is_two_inputs():
    x = randn(3)
    t = symfx.trace(lambda a, b: a - 2 * b, (x, x))
    torch.testing.assert_close(t(torch.ones(3), torch.zeros(3)), torch.ones(3))


def test_inputs_named_as_nothing_else_can_be():
    t = symfx.trace(
        lambda **kw: kw["class"] + kw["self"], (), {"class": randn(3), "self": randn(3)}
    )
    torch.testing.assert_close(
        t(**{"class": torch.ones(3), "self": torch.ones(3)}), torch.full((3,), 2.0)
    )


def test_calling_with_inputs_that_do_not_fit():
    t = symfx.trace(nn.Linear(4, 2), randn(3, 4), dynamic=[("n", None)])
    with pytest.raises(InputMismatchError, match=r"dimension 1 of input is 5; it is static: 4"):
        t(randn(3, 5))
    with pytest.raises(InputMismatchError, match="missing a required argument: 'input'"):
        t()


def test_a_builtin_that_tells_no_signature():
    t = symfx.trace(torch.relu, randn(3, 4), dynamic={0: ("n", None)})
    assert names(t) == ["n"]
    assert (t(-torch.ones(9, 4)) == 0).all()


# -- dynamic --------------------------------------------------------------------------------------------


def add(x, y):
    return x + y


@pytest.mark.parametrize(
    "dynamic",
    [
        {"x": ("n", None), "y": ("n", None)},
        {0: {0: "n"}, 1: {0: "n"}},
        [("n", None), {-2: Dim("n", min=2, max=64)}],
        {"x": (Dim("n", max=64), 4), "y": ("n", None)},
    ],
)
def test_ways_to_say_the_same(dynamic):
    t = symfx.trace(add, (randn(3, 4), randn(3, 4)), dynamic=dynamic)
    assert names(t) == ["n"]
    assert t.symbols[0].sources == ("x.size()[0]", "y.size()[0]")
    assert t.symbols[0].hint == 3
    assert t.check(randn(7, 4), randn(7, 4))
    assert not t.check(randn(7, 4), randn(8, 4))
    assert not t.check(randn(7, 5), randn(7, 5))


def test_nothing_is_dynamic_by_default():
    t = symfx.trace(add, (randn(3, 4), randn(3, 4)))
    assert t.symbols == () and t.guards == ()
    assert t.check(randn(3, 4), randn(3, 4))
    assert not t.check(randn(2, 4), randn(2, 4))


def test_true_is_every_dimension_of_every_tensor():
    t = symfx.trace(lambda x, n: x * n, (randn(3, 4), 2), dynamic=True)
    assert len(names(t)) == 2
    assert t.check(randn(5, 6), 2)
    assert not t.check(randn(5, 6), 3), "an int is dynamic only where it is named"


def test_a_range_bounds_what_is_admitted():
    t = symfx.trace(torch.sin, randn(8), dynamic=[(Dim("n", min=4, max=16),)])
    (info,) = t.symbols
    assert (info.lower, info.upper) == (4, 16)
    assert t.check(randn(4)) and t.check(randn(16))
    for size in (3, 17):
        (sentence,) = t.check(randn(size)).failures
        assert sentence == f"n is {size} (dimension 0 of arg0), outside 4 <= n <= 16"


def test_an_int_can_be_dynamic_and_share_a_name_with_a_dimension():
    def scaled(x, n):
        return x * n + x.shape[0]

    t = symfx.trace(scaled, (randn(6, 2), 6), dynamic={"x": ("n", None), "n": "n"})
    x = randn(9, 2)
    torch.testing.assert_close(t(x, 9), scaled(x, 9))
    (sentence,) = t.check(x, 8).failures
    assert sentence in (
        "n is 9 (dimension 0 of x) and also 8 (n)",
        "n is 8 (n) and also 9 (dimension 0 of x)",
    )
    assert "n is 9.0, not an int" in str(t.check(x, 9.0))


def test_entries_for_nested_inputs():
    def total(xs, table):
        return sum(x.sum() for x in xs) + table["k"].sum()

    t = symfx.trace(
        total,
        ([randn(3), randn(5)], {"k": randn(3), "z": 1}),
        dynamic={"xs": [("n",), None], "table": {"k": ("n",)}},
    )
    assert t.check([randn(7), randn(5)], {"z": 1, "k": randn(7)})
    assert not t.check([randn(7), randn(6)], {"k": randn(7), "z": 1})
    assert "another structure" in str(t.check([randn(3)], {"k": randn(3), "z": 1}))


WRONG = [
    ({"z": ("n", None)}, "names 'z', which is not an input"),
    ({5: ("n", None)}, "names input 5, and the call has 2"),
    ({"x": ("n", None), 0: ("n", None)}, "describes 'x' twice"),
    ({"x": ("n",)}, "x has 2 dimensions, and its entry .* has 1"),
    ({"x": {2: "n"}}, "x has no dimension 2: it has 2 dimensions"),
    ({"x": {"0": "n"}}, "x has no dimension '0'"),
    ({"x": "n"}, "x is a tensor, and its entry is 'n'"),
    ({"x": ("n", "n")}, "n names two sizes: 3 .dimension 0 of x. and 4 .dimension 1 of x."),
    ({"x": (Dim("n", min=5), None)}, "dimension 0 of x is 3 in the example, outside 5 <= n"),
    ({"x": (Dim("n", max=2), None)}, "dimension 0 of x is 3 in the example, outside 2 <= n <= 2"),
    (
        {"x": (Dim("n", max=9), None), "y": (Dim("n", max=8), None)},
        "n has two values for max: 8 and 9",
    ),
    ({"x": (Dim("n", min=9), None), "y": (Dim("n", max=8), None)}, "at least 9 and at most 8"),
    ({"x": ("2n", None)}, "expected a bound or the end, found 'n'"),
    ({"x": (3.5, None)}, "dimension 0 of x cannot be described by 3.5"),
    ({"x": (4, None)}, "dimension 0 of x is 3 in the example, not 4"),
    ([("n", None)], "1 entries, and the call has 2 inputs"),
    ("n", "dynamic is 'n'"),
    ({"n": 3}, "names 'n'"),
    ({"xx": ("n", None)}, "names 'xx'.*\n.*\n.*did you mean 'x'"),
]


@pytest.mark.parametrize(("dynamic", "message"), WRONG)
def test_wrong_descriptions(dynamic, message):
    with pytest.raises(SpecError, match=message):
        symfx.trace(add, (randn(3, 4), randn(3, 4)), dynamic=dynamic)


@pytest.mark.parametrize("size", [0, 1])
def test_an_example_of_zero_or_one_cannot_stand_for_all(size):
    with pytest.raises(SpecError, match=f"is {size} in the example, and n is to be dynamic"):
        symfx.trace(torch.sin, torch.ones(size), dynamic=[("n",)])


@pytest.mark.parametrize("value", [2.5, True, "text"])
def test_only_ints_and_tensors_are_dynamic(value):
    with pytest.raises(SpecError, match="only tensors and ints can be dynamic"):
        symfx.trace(lambda x, v: x, (randn(3), value), dynamic={"v": "n"})


def test_nested_entries_of_another_structure():
    with pytest.raises(SpecError, match=r"xs is a list; its entry .* has another structure"):
        symfx.trace(lambda xs: xs[0], ([randn(3), randn(3)],), dynamic={"xs": [("n",)]})


def test_entries_of_nested_inputs_that_are_misspelt_or_missing():
    def model(batch):
        return batch["ids"] + batch["more"]["mask"]

    batch = {"ids": randn(3), "more": {"mask": randn(3), "name": "a"}, "flag": True}
    good = {"ids": ("n",), "more": {"mask": ("n",)}}
    assert symfx.trace(model, (batch,), dynamic={"batch": good}).check(batch)
    for wrong, words in [
        ({**good, "idz": ("n",)}, r"batch has no member 'idz'.*\n.*\n.*did you mean 'ids'"),
        ({"ids": ("n",), "more": {"masc": ("n",)}}, r"batch\['more'\] has no member 'masc'"),
        ({"ids": ("n",)}, r"batch\['more'\] has no entry"),
        ({"more": {"mask": ("n",)}}, r"batch\['ids'\] has no entry.*\n.*\n.*'ids': None"),
        ({"ids": ("n",), "more": {}}, r"batch\['more'\]\['mask'\] has no entry"),
    ]:
        with pytest.raises(SpecError, match=words):
            symfx.trace(model, (batch,), dynamic={"batch": wrong})
    static = {"ids": None, "more": None}
    assert symfx.trace(model, (batch,), dynamic={"batch": static}).symbols == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dynamic_shapes": {"x": {0: "n"}}}, "no argument dynamic_shapes.*\n.*\n.*dynamic="),
        ({"dynamics": True}, "no argument dynamics.*\n.*\n.*did you mean dynamic"),
        ({"mask": None}, "no argument mask.*\n.*\n.*kwargs="),
    ],
)
def test_arguments_that_trace_does_not_have(arguments, words):
    with pytest.raises(SpecError, match=words):
        symfx.trace(add, (randn(3), randn(3)), **arguments)


def test_a_class_is_no_model():
    with pytest.raises(SpecError, match=r"Linear is a class.*\n.*\n.*Linear"):
        symfx.trace(nn.Linear, randn(3, 4))


def test_arguments_the_model_does_not_take():
    with pytest.raises(InputMismatchError, match="do not fit: too many positional"):
        symfx.trace(add, (randn(3), randn(3), randn(3)))
    with pytest.raises(SpecError, match="cannot be called"):
        symfx.trace(3, randn(3))
    with pytest.raises(SpecError, match="args is 7"):
        symfx.trace(add, 7)


# -- guards and check --------------------------------------------------------------------------------------


def branches(x, y):
    if x.shape[0] * y.shape[0] > 20:  # the line to blame
        return x.sum() * y
    return y


def line_of(function, text):
    import inspect

    lines, start = inspect.getsourcelines(function)
    return next(start + i for i, line in enumerate(lines) if text in line)


def test_a_guard_knows_the_users_line():
    t = symfx.trace(branches, (randn(5), randn(6)), dynamic=[("a",), ("b",)])
    (guard,) = t.guards
    frame = guard.provenance.frame
    assert frame.filename == __file__
    assert frame.lineno == line_of(branches, "line to blame")
    assert t.check(randn(3), randn(7))
    (sentence,) = t.check(randn(3), randn(6)).failures
    assert "does not hold for a = 3, b = 6" in sentence
    assert f"test_trace.py:{frame.lineno}" in sentence
    assert "if x.shape[0] * y.shape[0] > 20" in sentence


def test_a_dimension_that_the_model_pins_is_reported():
    def pinned(x):
        if x.shape[0] == 5:
            return x + 1
        return x

    t = symfx.trace(pinned, randn(5, 2), dynamic=[("n", None)], strict=False)
    assert t.check(randn(5, 2))
    assert not t.check(randn(6, 2))
    assert "fixed while tracing" in str(t) and "n = 5" in str(t)
    assert f"test_trace.py:{line_of(pinned, '== 5')}" in str(t)
    assert "fixed: n = 5" in repr(t), "no report hides it"
    (record,) = t.specializations
    assert (record.symbol_name, record.value) == ("n", 5)
    assert record.provenance.frame.lineno == line_of(pinned, "== 5")
    assert t.symbols == ()


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(randn(16, 8))

    def forward(self, x):
        return x + self.table


def first_rows(x, n):
    return x[:n] if n == 3 else x


def between(x):
    if x.shape[0] >= 5 and x.shape[0] <= 5:
        return x + 1
    return x


def both(x, y):
    return x.relu() if x.shape[0] == y.shape[0] == 5 else y


PINNED = [
    (Positions(), (randn(3, 16, 8),), [("b", "seq", None)], "seq, dimension 1 of x, to 16"),
    (Positions(), (randn(3, 16, 8),), {"x": {1: True}}, "dimension 1 of x, to 16"),
    (
        Positions(),
        (randn(3, 16, 8),),
        {0: {-2: Dim("seq", max=99)}},
        "seq, dimension 1 of x, to 16",
    ),
    (first_rows, (randn(7, 2), 3), {"n": "n"}, "n, to 3"),
    (between, (randn(5),), [("n",)], "n, dimension 0 of x, to 5"),
    (both, (randn(5), randn(5)), [("n",), ("m",)], "n, dimension 0 of x, to 5"),
    (lambda xs: xs["a"] + torch.ones(4), ({"a": randn(4)},), [{"a": ("n",)}], "of xs['a'], to 4"),
]


@pytest.mark.parametrize(("model", "args", "dynamic", "words"), PINNED)
def test_a_pinned_dimension_that_was_to_be_dynamic_is_an_error(model, args, dynamic, words):
    with pytest.raises(TracingError) as caught:
        symfx.trace(model, args, dynamic=dynamic)
    assert words in caught.value.what
    assert "the guard is " in caught.value.what
    assert "test_trace.py:" in caught.value.where
    assert "strict=False" in caught.value.fix
    with pytest.raises(TracingError):
        symfx.trace(model, args, dynamic=dynamic, strict=True)
    t = symfx.trace(model, args, dynamic=dynamic, strict=False)
    assert t.specializations and t.check(*args)


def test_guards_that_leave_one_value_together_are_a_pin():
    def halves(x):
        return x * 2 if x.shape[0] // 2 == 1 and x.shape[0] % 2 == 0 else x

    def small(x):
        a, b = x.shape
        return x * 2 if a + b <= 6 and a >= 3 and b >= 3 else x

    with pytest.raises(TracingError, match=r"a, dimension 0 of x, to 2"):
        symfx.trace(halves, randn(2, 4), dynamic=[("a", None)])
    t = symfx.trace(small, randn(3, 3), dynamic=[("a", "b")], strict=False)
    assert [(pin.symbol_name, pin.value) for pin in t.specializations] == [("a", 3), ("b", 3)]
    assert t.symbols == ()
    t = symfx.trace(halves, randn(6, 4), dynamic=[("a", None)])
    assert t.specializations == () and t.check(randn(5, 4))


def test_what_was_not_promised_may_be_pinned():
    x = randn(3, 16, 8)
    for dynamic in (
        True,
        {"x": True},
        [("b", None, None)],
        [("b", Dim("s", min=16, max=16), None)],
    ):
        t = symfx.trace(Positions(), x, dynamic=dynamic)
        assert t.check(randn(5, 16, 8)) and not t.check(randn(5, 17, 8))


def test_the_symbols_are_those_of_the_inputs():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("k", torch.tensor(3))

        def forward(self, x):
            return x * self.k.item()

    t = symfx.trace(Scaled(), randn(4, 5), dynamic=[("b", "c")])
    assert names(t) == ["b", "c"]
    view = randn(8, 6)[2:5]
    t = symfx.trace(torch.sin, view, dynamic=[("b", "c")])
    assert names(t) == ["b", "c"]
    t = symfx.trace(lambda x: x.nonzero(), randn(4), dynamic=[("b",)])
    assert names(t)[0] == "b" and t.symbols[1].unbacked


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((randn(3, 4).double(), randn(3, 4)), "x has dtype torch.float64, not torch.float32"),
        ((randn(3, 4, 1), randn(3, 4)), "x has 3 dimensions, not 2"),
        ((None, randn(3, 4)), "x is None, not a tensor"),
        ((randn(3, 4).to("meta"), randn(3, 4)), "x has device meta, not cpu"),
        ((randn(3, 4).to_sparse(), randn(3, 4)), "x has layout torch.sparse_coo"),
        ((randn(3, 5), randn(3, 4)), "dimension 1 of x is 5; it is static: 4 when traced"),
        ((randn(5, 4), randn(6, 4)), "n is 5 (dimension 0 of x) and also 6 (dimension 0 of y)"),
        ((randn(1, 4), randn(1, 4)), "n is 1 (dimension 0 of x), outside 2 <= n"),
        (
            (randn(4, 3).t(), randn(3, 4)),
            "the strides of x are (1, 3), not (4, 1): pass x.contiguous()",
        ),
        ((randn(3, 4),), "missing a required argument: 'y'"),
    ],
)
def test_check_says_what_does_not_fit(inputs, words):
    t = symfx.trace(add, (randn(3, 4), randn(3, 4)), dynamic={"x": ("n", None), "y": ("n", None)})
    result = t.check(*inputs)
    assert not result
    assert [s for s in result.failures if words in s], str(result)
    assert len(result.failures) == 1, str(result)


def test_strides_of_single_elements_do_not_matter():
    t = symfx.trace(torch.sin, randn(3, 1), dynamic=[("n", None)])
    assert t.check(torch.as_strided(randn(9), (3, 1), (1, 7)))


def test_the_layout_of_the_example_is_kept():
    t = symfx.trace(torch.sin, randn(4, 3).t(), dynamic=[("a", "b")])
    assert t.check(randn(6, 5).t())
    (sentence,) = t.check(randn(5, 6)).failures
    assert "pass it in the traced layout" in sentence
    assert t.verify(shapes=3)


# -- programs that cannot be traced ----------------------------------------------------------------------------


def broken(x):
    y = x + 1
    return y @ torch.ones(7, 2)  # the shapes do not match


def test_a_failure_names_the_users_line():
    with pytest.raises(TracingError) as caught:
        symfx.trace(broken, randn(3, 4))
    assert f"test_trace.py:{line_of(broken, 'do not match')}" in caught.value.where
    assert "y @ torch.ones(7, 2)" in caught.value.where
    assert caught.value.__cause__ is not None and caught.value.fix


def test_a_failure_inside_torchs_modules_names_theirs():
    with pytest.raises(TracingError) as caught:
        symfx.trace(nn.Sequential(nn.Linear(3, 4)), randn(2, 5))
    assert caught.value.where.startswith("torch/nn/modules/linear.py:")


def test_models_that_are_not_ready():
    with pytest.raises(TracingError, match="the parameter weight has no shape yet"):
        symfx.trace(nn.LazyLinear(4), randn(2, 5))
    scripted = torch.jit.script(nn.Linear(3, 4))
    with pytest.raises(TracingError, match="compiled by TorchScript"):
        symfx.trace(scripted, randn(2, 3))


def test_a_failure_does_not_log_a_traceback(capfd):
    with pytest.raises(TracingError):
        symfx.trace(nn.Linear(3, 4), randn(2, 5))
    assert "Traceback" not in capfd.readouterr().err


def data_dependent(x):
    if x.sum() > 0:  # data-dependent
        return x
    return -x


def test_data_dependence_keeps_its_own_message():
    from symfx.symbolic_shapes import GuardOnDataDependentSymNode

    with pytest.raises(symfx.SymfxError) as caught:
        symfx.trace(data_dependent, randn(3))
    assert isinstance(caught.value, (GuardOnDataDependentSymNode, TracingError))
    assert f"test_trace.py:{line_of(data_dependent, 'data-dependent')}" in str(caught.value)


# -- reading it ----------------------------------------------------------------------------------------------------


def test_print_shows_all_there_is():
    def model(x, mask):
        if x.shape[1] > 3:
            x = x.reshape(-1, 4)
        return {"y": x.relu(), "n": x.shape[0]}

    t = symfx.trace(
        model,
        (randn(3, 8), torch.zeros(3, dtype=torch.bool)),
        dynamic={"x": ("batch", Dim("seq", max=64)), "mask": ("batch",)},
    )
    text = str(t)
    assert text.splitlines()[0].startswith("model: ")
    assert "f32[batch, seq]" in text and "bool[batch]" in text
    assert "x.shape[0], mask.shape[0]" in text
    assert "<= seq <= 64" in text and "example 8" in text
    assert "if x.shape[1] > 3:" in text
    assert "return {'y': " in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert "batch, seq" in repr(t)


def test_data_is_plain():
    import json

    from symfx.tracing.report import as_data

    t = symfx.trace(branches, (randn(5), randn(6)), dynamic=[("a",), ("b",)])
    data = json.loads(json.dumps(as_data(t, t.verify(shapes=1))))
    assert data["graph"][0]["value"] == {"dtype": "float32", "shape": ["a"]}
    assert data["symbols"][0]["sources"] == ["x.shape[0]"]
    assert data["guards"][0]["line"] == line_of(branches, "line to blame")
    assert data["verification"]["passed"] is True


# -- the front door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["symfx", "symfx.algebra", "symfx.errors", "symfx.cli"])
def test_what_needs_no_torch_imports_none(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_front_door_lists_what_it_has():
    assert set(symfx.__all__) <= set(dir(symfx))
    for name in symfx.__all__:
        assert getattr(symfx, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = symfx.nothing
    for name in symfx._MODULES:
        assert getattr(symfx, name) is importlib.import_module(f"symfx.{name}")
    assert callable(symfx.trace), "a submodule must not take the verb's name"


def test_a_static_value_without_a_hash_is_compared():
    t = symfx.trace(lambda x, names: x * len(names), (randn(3), {"a", "b"}), dynamic={"x": ("n",)})
    assert t.check(randn(5), {"a", "b"})
    (sentence,) = t.check(randn(5), {"a"}).failures
    assert sentence.startswith("names is {'a'}; it is static:")
    assert t.verify()


# -- models that are wrapped, and outputs that are no tensors -----------------------------------------


def test_a_compiled_model_is_traced_as_what_it_wraps():
    linear = nn.Linear(4, 4)
    t = symfx.trace(torch.compile(linear), randn(3, 4), dynamic=[("n", None)])
    assert t.model is linear and t.verify()
    t = symfx.trace(torch.compile(add), (randn(3), randn(3)), dynamic=[("n",), ("n",)])
    assert t.name == "add" and t.verify()
    inside = nn.Sequential(torch.compile(nn.Linear(4, 4)), nn.ReLU())
    t = symfx.trace(inside, randn(3, 4), dynamic=[("n", None)])
    assert "addmm" in str(t.graph_module.graph)


class DynamicCache:
    pass


def test_outputs_that_tell_of_a_mistake():
    with pytest.raises(TracingError) as caught:
        symfx.trace(lambda x: (x, DynamicCache()), randn(3))
    assert "returns a DynamicCache" in caught.value.what and "use_cache=False" in caught.value.fix

    def make():
        return nn.Linear(4, 4)

    with pytest.raises(TracingError) as caught:
        symfx.trace(make)
    assert "trace what it returns, make()" in caught.value.fix
    with pytest.raises(InputMismatchError) as caught:
        symfx.trace(make, randn(3, 4))
    assert "if this function makes the model, trace make()" in caught.value.fix


def test_inputs_beside_each_other_are_refused():
    x = torch.ones(2)
    with pytest.raises(SpecError, match="give all positional arguments as one tuple"):
        symfx.trace(torch.add, x, x)

"""Trace.verify: which shapes it tries, what it compares, and that it finds what is wrong."""

import copy

import pytest
import torch
from torch import nn

import symfx
from symfx import Dim

randn = torch.randn


def sizes(verification, name="n"):
    return [run.sizes[name] for run in verification.runs]


def break_graph(trace, find, replace):
    """Rewrite the nodes whose target's name holds `find`; at least one must be there."""
    nodes = [n for n in trace.graph_module.graph.nodes if find in str(n.target)]
    assert nodes
    for node in nodes:
        replace(node)
    trace.graph_module.recompile()


# -- shapes ------------------------------------------------------------------------------------


def test_the_example_and_as_many_other_shapes_as_asked_for():
    t = symfx.trace(torch.sin, randn(6), dynamic=[("n",)])
    v = t.verify(shapes=7)
    assert v and v.note is None and v.difference == 0
    assert v.runs[0].example and sizes(v)[0] == 6
    others = sizes(v)[1:]
    assert len(set(others)) == 7 and 6 not in others
    assert 2 in others and 12 in others and any(n % 2 for n in others)


def test_only_shapes_that_the_guards_and_ranges_admit():
    def model(x):
        if x.shape[0] % 4 == 0 and x.shape[0] > 8:
            return x.reshape(4, -1)
        return x

    t = symfx.trace(model, randn(16), dynamic=[(Dim("n", max=40),)])
    tried = sizes(t.verify())
    assert len(tried) >= 4
    assert all(n % 4 == 0 and 8 < n <= 40 for n in tried)


def test_a_note_where_there_are_too_few_shapes():
    t = symfx.trace(torch.sin, randn(6), dynamic=[(Dim("n", min=5, max=7),)])
    v = t.verify()
    assert sorted(sizes(v)) == [5, 6, 7]
    assert v and v.note == "only 2 of 5 other shapes exist: 5 <= n <= 7"


def test_the_note_names_the_guards_that_leave_too_few_shapes():
    def model(x):
        return x.reshape(7, -1) if x.shape[0] % 7 == 0 and x.shape[0] < 30 else x

    v = symfx.trace(model, randn(14), dynamic=[("n",)]).verify(shapes=9)
    assert sorted(sizes(v)) == [7, 14, 21, 28]
    assert v.note.startswith("only 3 of 9 other shapes ")
    assert "n % 7 == 0" in v.note


def test_a_static_trace_is_verified_at_its_only_shape():
    v = symfx.trace(torch.sin, randn(6)).verify()
    assert v and len(v.runs) == 1 and "nothing is dynamic" in v.note


def test_an_example_without_elements_is_compared():
    v = symfx.trace(torch.nn.Linear(8, 5), torch.zeros(0, 8)).verify()
    assert v and len(v.runs) == 1
    v = symfx.trace(torch.abs, torch.zeros(4, 0, 8), dynamic=[("n", None, None)]).verify()
    assert v and len(v.runs) > 1


def test_the_same_seed_tries_the_same():
    t = symfx.trace(torch.sin, randn(6, 7), dynamic=[("n", "m")])
    assert str(t.verify(shapes=9, seed=3)) == str(t.verify(shapes=9, seed=3))
    assert sizes(t.verify(shapes=9, seed=3)) != sizes(t.verify(shapes=9, seed=4))


def test_ints_are_varied_too():
    t = symfx.trace(lambda x, n: x * n, (randn(3), 5), dynamic={"n": "n"})
    v = t.verify()
    assert v and len(set(sizes(v))) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shapes": -1}, "shapes is -1"),
        ({"shapes": 2.5}, "shapes is 2.5"),
        ({"seed": 2**70}, f"seed is {2**70}"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"tolerance": (1e-3, -1e-9)}, "tolerance is (0.001, -1e-09)"),
        ({"tolerance": (1e-3,)}, "tolerance is (0.001,)"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"tolerance": "tight"}, "tolerance is 'tight'"),
        ({"make_inputs": 3}, "make_inputs is 3"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, words):
    t = symfx.trace(torch.sin, randn(6), dynamic=[("n",)])
    with pytest.raises(symfx.SymfxError) as caught:
        t.verify(**arguments)
    assert caught.value.what == words
    assert caught.value.fix


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1, -1])
def test_every_seed_of_64_bits_is_taken(seed):
    assert symfx.trace(torch.sin, randn(6), dynamic=[("n",)]).verify(seed=seed)


def test_tensors_without_data_cannot_be_compared():
    t = symfx.trace(torch.sin, torch.empty(6, device="meta"), dynamic=[("n",)])
    with pytest.raises(symfx.SymfxError, match="arg0 is a tensor without data"):
        t.verify()
    t = symfx.trace(nn.Linear(3, 3, device="meta"), torch.empty(2, 3, device="meta"))
    with pytest.raises(symfx.SymfxError, match="without data"):
        t.verify()


# -- what is wrong is found -------------------------------------------------------------------------


def test_a_graph_that_holds_at_the_example_alone():
    t = symfx.trace(lambda x: x * x.shape[0], randn(6), dynamic=[("n",)])
    break_graph(t, "mul", lambda node: node.update_arg(1, 6))
    v = t.verify(shapes=3)
    assert not v and v.runs[0].passed and not any(run.passed for run in v.runs[1:])
    assert v.runs[1].failure == "the result differs beyond the tolerance"
    assert v.difference > 0 and "verification failed at 3 of 4 shapes" in str(v)


def test_tolerance():
    t = symfx.trace(lambda x: x * 2.0, randn(6), dynamic=[("n",)])
    break_graph(t, "mul", lambda node: node.update_arg(1, 2.0 + 1e-4))
    assert not t.verify()
    assert t.verify(tolerance=1e-3)
    assert t.verify(tolerance=(1e-3, 0.0))
    assert not t.verify(tolerance=(0.0, 1e-9))
    assert t.verify().runs[0].relative == pytest.approx(5e-5, rel=0.1)


def test_infinities_and_nan_are_compared():
    t = symfx.trace(lambda x: (x / 0.0).sqrt(), randn(6), dynamic=[("n",)])
    results = t.graph_module(randn(99))
    assert results.isinf().any() and results.isnan().any()
    assert t.verify() and t.verify().difference == 0
    break_graph(t, "div", lambda node: node.update_arg(1, 1.0))
    v = t.verify()
    assert not v and v.difference == float("inf")


def test_another_dtype_shape_or_structure():
    def output(node):
        return next(iter(node.users))

    def keep_a_dimension(node):
        node.args = (node.args[0], [0])

    for change, words in [
        (lambda n: n.update_kwarg("dtype", torch.float64), "has dtype torch.float32 in the model"),
        (keep_a_dimension, "has shape () in the model, (1,) in the graph"),
        (lambda n: output(n).update_arg(0, (n,)), "the graph gives another structure"),
        (lambda n: output(n).update_arg(0, 3), "the model gives a float32 tensor"),
    ]:
        t = symfx.trace(lambda x: x.sum((0, 1)), randn(1, 1))
        break_graph(t, "sum", change)
        assert words in t.verify().runs[0].failure


def test_an_exception_tells_its_side():
    t = symfx.trace(lambda x: x.view(-1), randn(2, 3), dynamic=[("n", None)])
    break_graph(t, "view", lambda node: node.update_arg(1, [7]))
    assert t.verify(shapes=0).runs[0].failure.startswith("the graph raised RuntimeError: shape")


# -- the model itself fails -------------------------------------------------------------------------


def test_a_model_that_fails_on_the_example_is_one_error():
    t = symfx.trace(nn.Embedding(10, 3), torch.tensor([0, 12, 3]), dynamic=[("n",)])
    with pytest.raises(symfx.InputMismatchError) as caught:
        t.verify()
    assert caught.value.what.startswith("the model itself fails on the example: IndexError: index")
    assert "torch.embedding(" in caught.value.where

    broken = []

    def model(x):
        if broken:
            raise ValueError("no more")
        return x

    t = symfx.trace(model, randn(3))
    broken.append(1)
    with pytest.raises(symfx.InputMismatchError, match="ValueError: no more") as caught:
        t.verify()
    assert "test_verify.py" in caught.value.where


def test_a_shape_at_which_the_model_fails_is_not_comparable():
    t = symfx.trace(
        lambda x, lengths: x.split(lengths.tolist()),
        (randn(6, 4), torch.tensor([2, 1, 3])),
        dynamic=[("n", None), None],
    )
    v = t.verify(shapes=4)
    assert v, str(v)
    assert [run.compared for run in v.runs] == [True, False, False, False, False]
    assert all(run.passed and run.failure is None for run in v.runs)
    assert all("split_with_sizes expects" in run.model_error for run in v.runs[1:])
    text = str(v)
    assert text.count("split_with_sizes expects") == 1, "the error of the model is told once"
    assert "and 3 other shapes the model itself raised RuntimeError" in text
    assert "verified at 1 shape: equal to eager; 4 other shapes not comparable" in text


def test_a_graph_that_fails_where_the_model_does_not_is_a_failure():
    t = symfx.trace(
        lambda x, i: x.index_select(0, i),
        (randn(9, 4), torch.tensor([0, 8, 3])),
        dynamic=[("n", None), ("k",)],
    )
    break_graph(t, "index_select", lambda node: node.update_arg(1, 5))
    v = t.verify(shapes=2)
    assert not v
    assert all(run.compared and run.failure.startswith("the graph raised ") for run in v.runs)


def ctc(log_probs, targets, input_lengths, target_lengths):
    return nn.functional.ctc_loss(log_probs, targets, input_lengths, target_lengths)


T = torch.tensor
INTEGERS = {
    "index_select": (
        lambda x, i: x.index_select(0, i),
        (randn(9, 4), T([0, 8, 3])),
        [("n", None), ("k",)],
    ),
    "gather": (
        lambda x, i: x.gather(1, i),
        (randn(4, 9), T([[0, 8], [1, 2], [7, 7], [3, 0]])),
        [("n", "m"), ("n", "k")],
    ),
    "embedding_bag": (
        nn.EmbeddingBag(10, 3),
        (torch.randint(0, 10, (7,)), T([0, 2, 5])),
        [("n",), ("bags",)],
    ),
    "ctc": (
        ctc,
        (
            randn(7, 3, 5).log_softmax(-1),
            torch.randint(1, 5, (3, 4)),
            T([7, 7, 6]),
            T([4, 3, 2]),
        ),
        [("time", "n", None), ("n", "label"), ("n",), ("n",)],
    ),
    "edges": (
        lambda x, edges: torch.zeros_like(x).index_add(0, edges[1], x[edges[0]]),
        (randn(6, 4), T([[0, 1, 2, 5], [1, 2, 3, 4]])),
        [("nodes", None), (None, "edges")],
    ),
    "segment_reduce": (
        lambda x, offsets: torch.segment_reduce(x, "sum", offsets=offsets),
        (randn(7), T([0, 2, 5, 7])),
        [None, ("k",)],
    ),
}


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS.keys())
def test_integers_that_index_stay_valid(case):
    model, args, dynamic = case
    v = symfx.trace(model, args, dynamic=dynamic).verify()
    assert v and len(v.runs) == 6, str(v)
    assert sum(run.compared for run in v.runs) >= (6 if case[2][0] else 2), str(v)


def test_what_happens_to_inputs_is_compared():
    def model(x):
        x.add_(1)
        return x.sum()

    example = randn(4)
    before = example.clone()
    t = symfx.trace(model, example, dynamic=[("n",)])
    assert t.verify()
    assert torch.equal(example, before)
    break_graph(t, "add_", lambda node: node.update_arg(1, 0))
    # The result differs as well, so look for the inputs in a model without one.
    t = symfx.trace(lambda x: x.add_(1) is None, randn(4), dynamic=[("n",)])
    assert t.verify()
    break_graph(t, "add_", lambda node: node.update_arg(1, 0))
    assert t.verify().runs[0].failure.startswith("the inputs[0] differs")


def test_what_happens_to_buffers_is_compared():
    model = nn.BatchNorm1d(4)
    t = symfx.trace(model, randn(5, 4), dynamic=[("n", None)])
    assert t.verify()
    break_graph(t, "add_", lambda node: node.update_arg(1, 2))
    assert "the buffer num_batches_tracked" in t.verify().runs[0].failure


# -- the user's model stays as it was ---------------------------------------------------------------------


class Busy(nn.Module):
    """Changes its buffers in place and anew, its parameters, a plain tensor, and a counter."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("seen", torch.zeros(()))
        self.plain = torch.zeros(4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen = self.seen + x.shape[0]
        self.plain.add_(1)
        with torch.no_grad():
            self.scale.view(-1).mul_(0.5)
        return torch.dropout(self.norm(x) * self.scale + self.plain, 0.5, True)


def test_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    model = Busy()
    before = copy.deepcopy(model)
    t = symfx.trace(model, randn(5, 4), dynamic=[("n", None)])
    for tensor, old in zip(
        [*model.parameters(), *model.buffers(), model.plain],
        [*before.parameters(), *before.buffers(), before.plain],
        strict=True,
    ):
        assert torch.equal(tensor, old), "tracing alone changed the model"
    model.calls = 0
    seen = model.seen
    random_state = torch.get_rng_state()
    v = t.verify()
    assert v, str(v)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.calls == 0 and model.seen is seen
    for (name, tensor), old in zip(
        model.state_dict().items(), before.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, old), name
    assert torch.equal(model.plain, before.plain)


def test_effects_that_the_graph_leaves_out_are_told():
    class Keeps(nn.Module):
        def forward(self, x):
            self.last = x * 2
            return x

    model = nn.Sequential(Keeps())
    t = symfx.trace(model, randn(3))
    assert not hasattr(model[0], "last"), "tracing leaves its own tensors in the model"
    (note,) = t.notes
    assert note.startswith("the model assigns a tensor to its attribute 0.last when it runs")
    assert t.notes[0] in str(t)
    assert t.verify() and not hasattr(model[0], "last")


def test_a_module_that_a_function_closes_over_is_put_back():
    model = nn.BatchNorm1d(4)
    t = symfx.trace(lambda x: model(x) + 1, randn(5, 4), dynamic=[("n", None)])
    assert int(model.num_batches_tracked) == 0
    assert t.verify()
    assert int(model.num_batches_tracked) == 0 and torch.all(model.running_mean == 0)
    t(randn(5, 4))
    assert int(model.num_batches_tracked) == 1


def test_tensors_that_a_function_closes_over_are_put_back():
    count = torch.zeros(())

    def model(x):
        count.add_(1)
        return x * count

    t = symfx.trace(model, randn(5), dynamic=[("n",)])
    assert t.verify()
    assert float(count) == 0


# -- the inputs it makes up -------------------------------------------------------------------------------------


def record(example, shapes=6):
    """The inputs that verify makes from an example."""
    seen = []

    def model(x):
        seen.append(x)
        return x.clone()

    t = symfx.trace(model, example, dynamic=[("n",) + (None,) * (example.dim() - 1)])
    seen.clear()
    assert t.verify(shapes=shapes)
    return seen[1:]


def test_integers_are_the_examples_own():
    made = record(torch.tensor([7, 3, 99, 3]))
    assert {int(v) for x in made for v in x} == {3, 7, 99}


def test_rows_of_integers_stay_whole():
    corners = torch.tensor([[[1, 2, 5, 6], [0, 0, 3, 3]], [[2, 2, 9, 9], [1, 1, 4, 4]]])
    seen = []

    def model(boxes):
        seen.append(boxes)
        return boxes[..., 2:] - boxes[..., :2]

    t = symfx.trace(model, corners, dynamic=[("batch", "seq", None)])
    seen.clear()
    assert t.verify()
    known = {tuple(row.tolist()) for row in corners.reshape(-1, 4)}
    made = [tuple(row.tolist()) for boxes in seen[1:] for row in boxes.reshape(-1, 4)]
    assert len(made) > 20 and set(made) == known


@pytest.mark.parametrize(
    "example",
    [[0, 2, 5, 9], [9, 7, 7, 2], [0, 0, 1, 1]],
    ids=["offsets", "falling", "segments"],
)
def test_the_order_of_integers_is_kept(example):
    for x in record(torch.tensor(example)):
        values = x.tolist()
        assert values == sorted(values, reverse=example[0] > example[-1])
        assert set(values) <= set(example)
        if example[0] == 0:
            assert values[0] == 0


def test_inputs_of_the_users_own():
    asked = []

    def make(sizes):
        asked.append(sizes)
        lengths = torch.ones(3, dtype=torch.int64)
        lengths[0] = sizes["n"] - 2
        return randn(sizes["n"], 4), lengths

    t = symfx.trace(
        lambda x, lengths: x.split(lengths.tolist()),
        (randn(6, 4), torch.tensor([2, 1, 3])),
        dynamic=[(Dim("n", min=3), None), None],
    )
    v = t.verify(make_inputs=make)
    assert v and all(run.compared for run in v.runs), str(v)
    assert asked == [run.sizes for run in v.runs[1:]] and len(asked) == 5
    by_name = t.verify(
        shapes=2, make_inputs=lambda sizes: dict(zip(("x", "lengths"), make(sizes), strict=True))
    )
    assert by_name and all(run.compared for run in by_name.runs)
    one = symfx.trace(torch.sin, randn(3), dynamic=[("n",)])
    assert one.verify(make_inputs=lambda sizes: torch.ones(sizes["n"]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda sizes: torch.ones(3), "asked for n=4, and its inputs do not fit: n is 3, not 4"),
        (lambda sizes: torch.ones(sizes["n"], 2), "arg0 has 2 dimensions, not 1"),
        (lambda sizes: sizes["m"], "make_inputs failed for n=4: KeyError: 'm'"),
        (lambda sizes: None, "make_inputs gave None"),
        (lambda sizes: (), "missing a required argument"),
    ],
)
def test_inputs_of_the_users_own_that_do_not_fit(make, words):
    t = symfx.trace(torch.sin, randn(3), dynamic=[("n",)])
    with pytest.raises(symfx.InputMismatchError, match=words):
        t.verify(make_inputs=make)


def test_a_number_that_the_program_reads_from_a_tensor_has_the_value_of_its_symbol():
    def first_rows(x, n):
        count = n.item()
        torch._check(count >= 0)
        torch._check(count < x.shape[0])
        return x.narrow(0, 0, count)

    t = symfx.trace(first_rows, (torch.randn(3, 4), torch.tensor(2)), dynamic={"x": ("m", None)})
    (item,) = [info.name for info in t.symbols if info.name != "m"]
    drawn = []

    def watched(x, n):
        drawn.append({"m": x.shape[0], item: int(n)})
        return first_rows(x, n)

    t.model = watched
    verification = t.verify()
    assert verification, str(verification)
    assert [dict(run.sizes) for run in verification.runs] == drawn
    assert len({sizes[item] for sizes in drawn}) > 1


def test_positions_count_on():
    for x in record(torch.arange(6)):
        assert x.tolist() == list(range(len(x)))


def test_floats_are_drawn_in_the_examples_range():
    probabilities = record(torch.rand(50))
    assert all(0 <= float(v) <= 1 for x in probabilities for v in x)
    assert len({float(v) for x in probabilities for v in x}) > 20
    ordinary = torch.cat(record(torch.randn(50) * 100))
    assert ordinary.std() > 30 and (ordinary < 0).any()


def test_masks_of_minus_infinity_stay_masks():
    made = record(torch.tensor([0.0, float("-inf"), 0.0]))
    assert {float(v) for x in made for v in x} == {0.0, float("-inf")}


def test_bools_are_both():
    made = torch.cat(record(torch.zeros(9, dtype=torch.bool)))
    assert made.any() and not made.all()


@pytest.mark.parametrize(
    "example",
    [
        randn(5, 3).t(),
        randn(8, 9)[2:7, 1:4],
        randn(5, 1).expand(5, 3),
        randn(5, 3).to(torch.complex64),
        randn(5, 3).to(torch.bfloat16),
        torch.randint(0, 250, (5, 3), dtype=torch.uint8),
        torch.randint(0, 250, (5, 3)).t().contiguous().t(),
        torch.randint(0, 250, (5, 1)).expand(5, 3),
        torch.randint(0, 250, (8, 9), dtype=torch.int32)[2:7, 1:4],
        torch.randint(0, 250, (5, 3)).to(torch.uint16),
    ],
    ids=[
        "transposed",
        "slice",
        "expanded",
        "complex",
        "bf16",
        "u8",
        "transposed ints",
        "expanded ints",
        "sliced ints",
        "u16",
    ],
)
def test_layouts_and_dtypes_are_kept(example):
    for x in record(example, shapes=3):
        assert x.dtype == example.dtype
        order = sorted(range(2), key=x.stride)
        assert order == sorted(range(2), key=example.stride)
        assert (x.stride(1) == 0) == (example.stride(1) == 0)


def test_embedding_and_dropout_in_train_mode():
    model = nn.Sequential(nn.Embedding(11, 8), nn.Dropout(0.3), nn.Linear(8, 2))
    t = symfx.trace(model, torch.randint(0, 11, (3, 5)), dynamic={"input": ("batch", "seq")})
    v = t.verify()
    assert v and v.difference == 0


def test_masks_keep_their_kind():
    left = torch.tensor([[False, False, True], [False, True, True]])
    for made in record(left):
        assert (made[..., 1:] >= made[..., :-1]).all() and not made.all(-1).any()
    mixed = torch.tensor([[True, False, True], [False, True, True]])
    for made in record(mixed):
        assert not made.all(-1).any() and made.any(-1).all()
    for made in record(left.flip(-1).t().contiguous().t()):
        assert (made[..., 1:] <= made[..., :-1]).all() and made.any(-1).all()


def test_where_restricts_the_shapes():
    t = symfx.trace(lambda x: x.relu(), randn(4, 6), dynamic=[("n", "m")])
    found = t.verify(shapes=20, where=["n == m", "m in {3, 50}"])
    assert sorted(run.sizes["n"] for run in found.runs[1:]) == [3, 50]
    for where in (
        "n == 37*m + 5",
        "n*m == 1000",
        "n % 41 == 8 and m > n + 300",
        "n // 7 == m",
        ["m in {3, 999}", "n + m == 1010"],
        "n == max(m, 60) + 1000",
    ):
        found = t.verify(shapes=1, where=where)
        assert found and len(found.runs) == 2, where
    impossible = t.verify(shapes=2, where=["n == 2*m", "m == 2*n"])
    assert len(impossible.runs) == 1 and "n == 2*m, m == 2*n" in impossible.note
    only = t.verify(shapes=2, where=["n == 4", "m == 6"])
    assert len(only.runs) == 1 and "only 0 of 2 other shapes" in only.note
    with pytest.raises(symfx.errors.SymfxError, match="no input has a dimension named k"):
        t.verify(where="k > 3")
    with pytest.raises(symfx.errors.SymfxError, match="where is 3"):
        t.verify(where=3)

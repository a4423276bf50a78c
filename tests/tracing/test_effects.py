"""Effects of a model beside its result: tracing undoes them, and the trace tells of them."""

import copy
import functools
from collections import OrderedDict, defaultdict, deque
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

import symfx

randn = torch.randn
LOG = []
COUNTS = []
LAST = None


class Memory:
    """A plain object that a model writes to."""

    def __init__(self):
        self.last = None
        self.all = []


class Keeper(nn.Module):
    """A module that keeps what it has seen, in a way that `keep` decides."""

    of_class: ClassVar = []

    def __init__(self, keep):
        super().__init__()
        self.keep = keep
        self.log = []
        self.by_name = {"deep": {"list": []}}
        self.seen = set()
        self.recent = deque([1, 2], maxlen=2)
        self.ordered = OrderedDict(a=1)
        self.groups = defaultdict(list)
        self.pair = ([], [])
        self.memory = Memory()
        self.size = None

    def forward(self, x):
        self.keep(self, x)
        return x * 2


def keep_global(m, x):
    LOG.append(x.sum())


def helper(x):
    LOG.append({"nested": [x]})


def keep_by_a_function(m, x):
    helper(x)


def keep_global_variable(m, x):
    global LAST
    LAST = x


KEPT = {
    "list": (lambda m, x: m.log.append(x.sum()), "changes the list log"),
    "nested": (
        lambda m, x: m.by_name["deep"]["list"].append(x),
        "changes the list by_name['deep']['list']",
    ),
    "key": (lambda m, x: m.by_name.update(new=x), "changes the dict by_name"),
    "set": (lambda m, x: m.seen.add(x), "changes the set seen"),
    "deque": (lambda m, x: m.recent.append(x), "changes the deque recent"),
    "ordered": (lambda m, x: m.ordered.update(a=x), "changes the OrderedDict ordered"),
    "default": (lambda m, x: m.groups["a"].append(x), "changes the defaultdict groups"),
    "tuple": (lambda m, x: m.pair[1].append(x), "changes the list pair[1]"),
    "object": (
        lambda m, x: setattr(m.memory, "last", x),
        "assigns a tensor to its attribute memory.last",
    ),
    "object's list": (lambda m, x: m.memory.all.append(x), "changes the list memory.all"),
    "class": (lambda m, x: m.of_class.append(x), "changes the list of_class"),
    "size": (
        lambda m, x: setattr(m, "size", x.shape[0]),
        "assigns a symbolic number to its attribute size",
    ),
    "attribute": (lambda m, x: setattr(m, "last", x), "assigns a tensor to its attribute last"),
    "global": (keep_global, "changes the list LOG"),
    "function": (keep_by_a_function, "changes the list LOG"),
    "variable": (keep_global_variable, "assigns a tensor to the variable LAST"),
}


def state_of(model):
    state = {k: v for k, v in vars(model).items() if not k.startswith("_") and k != "memory"}
    return copy.deepcopy([state, vars(model.memory), Keeper.of_class, LOG, COUNTS, LAST])


@pytest.mark.parametrize(("keep", "note"), KEPT.values(), ids=KEPT.keys())
def test_tracing_leaves_nothing_behind(keep, note):
    model = Keeper(keep)
    before = state_of(model)
    t = symfx.trace(model, randn(3, 4), dynamic=[("n", None)])
    assert state_of(model) == before
    assert f"the model {note} when it runs; the graph does not" in t.notes
    assert len(t.notes) == 1
    assert "note: the model" in str(t)


@pytest.mark.parametrize("wrap", [lambda m: m.forward, lambda m: functools.partial(m)])
def test_it_leaves_nothing_behind_in_a_model_that_is_wrapped(wrap):
    model = Keeper(KEPT["list"][0])
    t = symfx.trace(wrap(model), randn(3, 4))
    assert model.log == [] and "changes the list" in t.notes[0]


def test_variables_and_lists_of_a_closure():
    seen, last = [], None

    def model(x):
        nonlocal last
        seen.append(x)
        last = x
        return x + 1

    t = symfx.trace(model, randn(3), dynamic=[("n",)])
    assert seen == [] and last is None
    assert {note.split(" when ")[0] for note in t.notes} == {
        "the model changes the list seen",
        "the model assigns a tensor to the variable last",
    }


def test_a_trace_that_fails_leaves_nothing_behind_either():
    def keep(m, x):
        m.log.append(x)
        raise ValueError("no")

    model = Keeper(keep)
    with pytest.raises(symfx.TracingError):
        symfx.trace(model, randn(3, 4), dynamic=[("n", None)])
    assert model.log == []


def test_what_other_code_shares_is_left_alone():
    """A global list of plain numbers is not the model's, and no tensor of the trace is in it."""

    def keep(m, x):
        COUNTS.append(1)

    COUNTS.clear()
    t = symfx.trace(Keeper(keep), randn(3, 4), dynamic=[("n", None)])
    assert COUNTS == [1] and t.notes == ()
    COUNTS.clear()


def test_a_run_of_the_model_may_keep_what_it_likes():
    model = Keeper(KEPT["list"][0])
    t = symfx.trace(model, randn(3, 4), dynamic=[("n", None)])
    assert t.verify(shapes=2)
    assert not [leaf for leaf in pytree.tree_leaves(model.log) if isinstance(leaf, FakeTensor)]


def test_an_argument_that_the_model_changes_is_told():
    def model(x, cache):
        cache.append(x)
        return x * len(cache)

    cache = [randn(3)]
    t = symfx.trace(model, (randn(3), cache), dynamic=[("n",), [("n",)]])
    assert len(cache) == 1
    assert t.notes == (
        "the model changes the members of a list or dict among its arguments when it runs; "
        "the graph does not",
    )


# -- gradients --------------------------------------------------------------------------------------


class Trains(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 4)
        self.optimizer = torch.optim.SGD(self.inner.parameters(), 0.1)

    def forward(self, x):
        loss = self.inner(x).sum()
        loss.backward()
        self.optimizer.step()
        return loss


def test_backward_inside_of_a_model_is_told():
    model = Trains()
    before = copy.deepcopy(model.state_dict())
    t = symfx.trace(model, randn(3, 8), dynamic=[("n", None)])
    (note,) = t.notes
    assert "calls backward()" in note and "inner.weight, inner.bias" in note
    t.verify(shapes=2)
    for name, parameter in model.named_parameters():
        assert parameter.grad is None, name
        assert torch.equal(parameter, before[name]), name


def test_gradients_that_are_there_already_are_kept():
    layer = nn.Linear(4, 4)
    layer(randn(2, 4)).sum().backward()
    kept = layer.weight.grad
    value = kept.clone()
    t = symfx.trace(layer, randn(3, 4), dynamic=[("n", None)])
    assert t.verify(shapes=2) and t.notes == ()

    def model(x):
        layer(x).sum().backward()
        return x

    t = symfx.trace(model, randn(3, 4))
    t.verify(shapes=2)
    assert layer.weight.grad is kept and torch.equal(kept, value)
    assert "calls backward()" in t.notes[0]


def test_a_gradient_from_before_the_trace_is_no_constant():
    model = Trains()
    model.inner(randn(2, 8)).sum().backward()
    with pytest.raises(symfx.TracingError, match="uses a gradient that a parameter or an input"):
        symfx.trace(model, randn(3, 8), dynamic=[("n", None)])
    model.zero_grad()
    assert symfx.trace(model, randn(3, 8), dynamic=[("n", None)])


def test_gradients_of_inputs_and_of_a_closure():
    x = randn(3, 8, requires_grad=True)
    t = symfx.trace(lambda x: (x * x).sum().backward(), x, dynamic=[("n", None)])
    assert x.grad is None and "the gradients of x;" in t.notes[0]
    layer = nn.Linear(4, 4)

    def model(x):
        layer(x).sum().backward()
        return layer.weight.grad

    t = symfx.trace(model, randn(3, 4))
    assert layer.weight.grad is None and "layer.weight" in t.notes[0]


def test_gradients_that_the_graph_computes_are_no_effect():
    def model(x):
        w = torch.ones(4, 8, requires_grad=True)
        (x @ w.T).sum().backward()
        return w.grad

    t = symfx.trace(model, randn(3, 8), dynamic=[("n", None)])
    assert t.notes == () and t.verify()


# -- autocast ----------------------------------------------------------------------------------------


def test_autocast_is_remembered_and_told():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        t = symfx.trace(nn.Linear(8, 4), randn(3, 8), dynamic=[("n", None)])
        inside = t.verify(shapes=1)
    assert t(randn(5, 8)).dtype is torch.bfloat16
    (note,) = t.notes
    assert note.startswith(
        "the model was traced under torch.autocast('cpu', dtype=torch.bfloat16):"
    )
    assert inside and inside.notes == ()
    outside = t.verify(shapes=1)
    assert outside, str(outside)
    (note,) = outside.notes
    assert note == (
        "the model ran under torch.autocast('cpu', dtype=torch.bfloat16), as when it was traced; "
        "the call of verify is under no autocast"
    )
    assert note in str(outside)
    with torch.autocast("cpu", dtype=torch.float16):
        other = t.verify(shapes=1)
    assert other and "verify is under torch.autocast('cpu', dtype=torch.float16)" in other.notes[0]


def test_a_trace_without_autocast_is_verified_without():
    t = symfx.trace(nn.Linear(8, 4), randn(3, 8), dynamic=[("n", None)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v = t.verify(shapes=1)
    assert v and t.notes == () and "the model ran under no autocast" in v.notes[0]

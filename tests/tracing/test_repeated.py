"""Repeated blocks: the graph is that of a trace that runs each, also where blocks nearly agree."""

from __future__ import annotations

import gc
import itertools
import logging
import random
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import transformers
from tests.tracing.repeated_graphs import difference, stamped_calls, traces
from torch import nn
from torch.nn import functional

import symfx
from benchmarks.models import ResNet
from examples.encoder import EncoderStack
from symfx.proxy_tensor.repeated.reads import _MOST_CALLS, watching
from symfx.torch_bridge.releases import RELEASE

WIDTH = 8
SETTINGS = SimpleNamespace(scale=1.0)
COUNTER = itertools.count()


class Block(nn.Module):
    """A block with parameters, a dropout and an attribute that `forward` reads or does not."""

    def __init__(self, index=0, eps=1e-5, p=0.1, width=WIDTH, **more):
        super().__init__()
        self.index = index
        self.norm = nn.LayerNorm(width, eps=eps)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(p))
        self.out = nn.Linear(2 * width, width)
        for name, value in more.items():
            setattr(self, name, value)

    def forward(self, x):
        h = self.norm(x)
        return x + self.out(self.inner(h)) * x.shape[0]


class Stack(nn.Module):
    """Blocks one after the other."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def kind(forward):
    """A class of blocks with another `forward`."""
    return type("Other", (Block,), {"forward": forward, "__module__": __name__})


def check(model, monkeypatch, stamped, args=None, **options):
    """The trace equals the one that runs each block, and eager; so many calls were stamped."""
    made = stamped_calls(monkeypatch)
    args = (torch.randn(5, 3, WIDTH),) if args is None else args
    options.setdefault("dynamic", [("n", "m", None)])
    mine, other = traces(model, args, **options)
    assert difference(mine, other) is None
    blocks = {type(m) for m in model.children() for m in (m.children() or ())} or None
    counted = sum(n for kind, n in made[0].stamped.items() if kind in blocks)
    assert counted == stamped, made[0].refused
    torch.manual_seed(0)
    expected = model(*args)
    torch.manual_seed(0)
    torch.testing.assert_close(mine(*args), expected)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_equal_blocks_are_traced_twice(monkeypatch, train, grad, pre_dispatch):
    model = Stack([Block(i) for i in range(6)]).train(train)
    with torch.set_grad_enabled(grad):
        check(model, monkeypatch, stamped=4, pre_dispatch=pre_dispatch)


def near_equal():
    """Blocks of which one differs, with the number of calls that may be stamped."""
    seven = range(7)
    yield "another dropout", [Block(p=0.3 if i == 4 else 0.1) for i in seven], 4
    yield "another eps", [Block(eps=1e-3 if i == 4 else 1e-5) for i in seven], 4
    hooked = [Block() for _ in seven]
    hooked[4].inner[0].register_forward_hook(lambda m, a, out: out * 2)
    yield "a hook inside", hooked, 4
    outer = [Block() for _ in seven]
    outer[4].register_forward_hook(lambda m, a, out: out * 2)
    yield "a hook on the block", outer, 5
    before = [Block() for _ in seven]
    before[4].register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    yield "a hook before the block", before, 5
    tied = [Block() for _ in seven]
    tied[4].out.weight = tied[3].out.weight
    yield "a tied weight", tied, 5
    frozen = [Block() for _ in seven]
    frozen[4].out.weight.requires_grad_(False)
    yield "a frozen weight", frozen, 4
    evaluated = [Block() for _ in seven]
    evaluated[4].eval()
    yield "another mode", evaluated, 4
    whole = [Block() for _ in seven]
    whole[4].out = nn.Linear(2 * WIDTH, WIDTH, bias=False)
    yield "no bias", whole, 4
    strided = [Block() for _ in seven]
    strided[4].out.weight = nn.Parameter(torch.randn(2 * WIDTH, WIDTH).t())
    yield "other strides", strided, 4
    patched = [Block() for _ in seven]
    patched[4].forward = patched[4].norm.forward
    yield "a forward of its own", patched, 4


@pytest.mark.parametrize(("blocks", "stamped"), [
    pytest.param(blocks, stamped, id=name) for name, blocks, stamped in near_equal()
])  # fmt: skip
def test_a_block_that_differs_is_traced(monkeypatch, blocks, stamped):
    check(Stack(blocks), monkeypatch, stamped)


@pytest.mark.parametrize("way", ["inline", "subgraph"])
def test_memory_that_is_read_as_another_dtype_keeps_its_dtype(way):
    def reads_bits(self, x):
        return x + self.out(self.inner(x)).view(torch.int32).view(torch.float32)

    model, x = Stack([kind(reads_bits)() for _ in range(5)]).eval(), torch.randn(5, 3, WIDTH)
    t, other = (symfx.trace(model, x, dynamic=[("n", "m", None)], repeated=r) for r in (way, "off"))
    dtypes = [
        Counter(
            val.dtype
            for n in g.graph_module.graph.nodes
            if isinstance(val := n.meta.get("val"), torch.Tensor)
        )
        for g in (t, other)
    ]
    assert dtypes[0][torch.int32] == dtypes[1][torch.int32] > 0
    torch.testing.assert_close(t(x), model(x))


def test_calls_are_counted_in_each_thread():
    module = Block()

    def watched_elsewhere():
        with watching([module]):
            nothing()

    thread = threading.Thread(target=watched_elsewhere)
    half = _MOST_CALLS // 2 + 100
    with watching([module]) as reads:
        for _ in range(half):
            nothing()
        thread.start()
        thread.join()
        for _ in range(half):
            nothing()
    assert not reads.complete


def nothing():
    pass


class OfUser(logging.Handler):
    """A handler that runs code of its own, and logs again."""

    count = 0

    def emit(self, record):
        OfUser.count += 1
        logging.getLogger("tests.repeated").info("a message about a message")


class Unneeded:
    """Garbage that only a collection finds, and that runs a function of the user's then."""

    count = 0

    def __init__(self):
        self.me = self

    def __del__(self):
        Unneeded.count += 1


def test_what_happens_at_any_time_is_no_part_of_a_call(monkeypatch):
    """torch logs when it meets a file for the first time, say; a collection begins anywhere."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "handlers", [OfUser()])
    Unneeded()
    block = Block()
    phases = []

    def measuring(phase, info):
        phases.append(phase)

    gc.callbacks.append(measuring)
    with watching(list(block.modules())) as reads:
        torch._logging._internal.trace_structured("artifact", metadata_fn=lambda: {"name": "test"})
        gc.collect()
        block(torch.ones(2, WIDTH))
    gc.callbacks.remove(measuring)
    assert OfUser.count and Unneeded.count and {*phases} == {"start", "stop"}
    ran = {code.co_qualname for code in reads.functions}
    assert "Block.forward" in ran
    assert not ran & {"OfUser.emit", "Logger.callHandlers", "Logger.debug", "Unneeded.__del__"}
    assert not any("measuring" in name for name in ran)


class Chain(nn.Module):
    """Blocks with what happens between them."""

    def __init__(self, blocks, between):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.between = between

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x)
            self.between(i)
        return x


def scaled(x, factor):
    return x * factor


def reads_global(self, x):
    return self.out(self.inner(self.norm(x))) * SETTINGS.scale


def test_a_global_that_changes_is_read_again():
    def between(i):
        if i == 3:
            SETTINGS.scale = 2.0

    model = Chain([kind(reads_global)() for _ in range(7)], between)
    graphs = []
    for repeated in ("inline", "off"):
        SETTINGS.scale = 1.0
        graphs.append(symfx.trace(model, torch.randn(2, 3, WIDTH), repeated=repeated))
    SETTINGS.scale = 1.0
    assert difference(*graphs) is None


def with_gelu(self, x):
    return functional.gelu(self.out(self.inner(self.norm(x))))


@pytest.mark.parametrize("name", ["gelu", "layer_norm", "linear"])
def test_a_function_of_torch_that_is_replaced_is_seen(name):
    before = getattr(functional, name)

    def between(i):
        if i == 3:
            setattr(functional, name, lambda x, *_, **__: x.relu())

    model = Chain([kind(with_gelu)() for _ in range(7)], between)
    graphs = []
    for repeated in ("inline", "off"):
        try:
            graphs.append(symfx.trace(model, torch.randn(2, 3, WIDTH), repeated=repeated))
        finally:
            setattr(functional, name, before)
    assert difference(*graphs) is None
    assert "aten.relu" in str([str(node.target) for node in graphs[1].graph_module.graph.nodes])


def reads_unseen(self, x):
    number = object.__getattribute__(self, "number")
    return self.out(self.inner(self.norm(x))) * number


def test_attributes_that_are_read_unseen_are_compared_nowhere():
    blocks = [kind(reads_unseen)() for _ in range(6)]
    for number, block in enumerate(blocks):
        block.number = number
    model = Chain(blocks, lambda i: None)
    graphs = [
        symfx.trace(model, torch.randn(2, 3, WIDTH), repeated=repeated)
        for repeated in ("inline", "off")
    ]
    assert difference(*graphs) is None


def closure_with(number):
    def advance():
        nonlocal number
        number += 1

    def forward(self, x):
        return self.out(self.inner(self.norm(x))) * number

    return forward, advance


def test_a_variable_of_a_closure_that_changes_is_read_again():
    graphs = []
    for repeated in ("inline", "off"):
        forward, advance = closure_with(1)
        other = kind(forward)
        model = Chain([other() for _ in range(7)], lambda i, a=advance: a() if i == 3 else None)
        torch.manual_seed(0)
        graphs.append(symfx.trace(model, torch.randn(2, 3, WIDTH), repeated=repeated))
    factors = [
        [n.args[1] for n in t.graph_module.graph.nodes if n.target is torch.ops.aten.mul.Tensor]
        for t in graphs
    ]
    assert factors[0] == factors[1]


def reads_index(self, x):
    return self.out(self.inner(self.norm(x))) * self.index


def reads_all(self, x):
    return self.out(self.inner(self.norm(x))) * vars(self)["index"]


def reads_by_name(self, x):
    return self.out(self.inner(self.norm(x))) * getattr(self, "in" + "dex")


def counts(self, x):
    self.index += 1
    return self.out(self.inner(self.norm(x))) * self.index


def counts_in_class(self, x):
    type(self).calls = getattr(type(self), "calls", 0) + 1
    return self.out(self.inner(self.norm(x))) * type(self).calls


def counts_in_list(self, x):
    self.seen.append(0)
    return self.out(self.inner(self.norm(x))) * len(self.seen)


def counts_in_c(self, x):
    return self.out(self.inner(self.norm(x))) * (next(COUNTER) % 1000)


def counts_in_attribute_of_c(self, x):
    return self.out(self.inner(self.norm(x))) * next(self.seen)


def draws_of_python(self, x):
    return self.out(self.inner(self.norm(x))) * random.randrange(2, 1000)


def reads_clock(self, x):
    return self.out(self.inner(self.norm(x))) * (time.perf_counter_ns() % 1000 + 2)


def reads_stack(self, x):
    return self.out(self.inner(self.norm(x))) * (sys._getframe().f_back.f_lineno % 7 + 2)


def writes_buffer(self, x):
    self.seen.add_(1)
    return self.out(self.inner(self.norm(x))) + self.seen


def writes_input(self, x):
    x.mul_(2)
    return self.out(self.inner(self.norm(x)))


def keeps_tensor(self, x):
    y = self.out(self.inner(self.norm(x)))
    self.last = y
    return y


def shared_cache(self, x):
    y = self.out(self.inner(self.norm(x)))
    for earlier in self.cache:
        y = y + earlier
    self.cache.append(y)
    return y


def several(make):
    return [make(i) for i in range(6)]


def states():
    yield "an index that is read", kind(reads_index), {}
    yield "an index in the whole of attributes", kind(reads_all), {}
    yield "an index by a computed name", kind(reads_by_name), {}
    yield "a counter", kind(counts), {}
    yield "a counter of the class", kind(counts_in_class), {}
    yield "an input that is written", kind(writes_input), {}
    yield "a tensor that is kept", kind(keeps_tensor), {}


@pytest.mark.parametrize(("block", "more"), [
    pytest.param(block, more, id=name) for name, block, more in states()
])  # fmt: skip
def test_what_a_block_reads_or_changes_in_python_is_traced(monkeypatch, block, more):
    made = stamped_calls(monkeypatch)
    graphs = []
    for repeated in ("inline", "off"):
        if hasattr(block, "calls"):
            del block.calls
        model = Stack(several(lambda i: block(index=i, p=0.0, **more)))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.5)
        graphs.append(
            symfx.trace(model, torch.randn(2, 3, WIDTH), repeated=repeated)
        )  # fmt: skip
    assert difference(*graphs) is None
    assert not made[0].stamped


@pytest.mark.parametrize("forward", [
    counts_in_c, draws_of_python, reads_clock, reads_stack, counts_in_attribute_of_c,
    counts_in_list, shared_cache,
])  # fmt: skip
def test_state_that_no_comparison_sees_is_never_stamped(monkeypatch, forward):
    made = stamped_calls(monkeypatch)
    shared = [] if forward in (shared_cache, counts_in_list) else itertools.count(2)
    block = kind(forward)
    model = Stack([block(seen=shared, cache=shared) for _ in range(6)])
    symfx.trace(model, torch.randn(2, 3, WIDTH))
    assert not made[0].stamped


def test_a_buffer_that_is_written_is_written_by_each(monkeypatch):
    blocks = [kind(writes_buffer)() for _ in range(5)]
    for block in blocks:
        block.register_buffer("seen", torch.zeros(()))
    made = stamped_calls(monkeypatch)
    mine, other = traces(Stack(blocks), torch.randn(3, 2, WIDTH))
    assert difference(mine, other) is None
    assert type(blocks[0]) not in made[0].stamped
    mine(torch.randn(3, 2, WIDTH))
    assert all(block.seen == 1 for block in blocks)


def test_batch_norm_in_training_is_traced(monkeypatch):
    def block():
        return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())

    model = Stack([block() for _ in range(5)])
    x = torch.randn(4, WIDTH)
    check(model, monkeypatch, stamped=0, args=(x,), dynamic=[("n", None)])
    # With torch 2.14 one more call runs before others are recorded from it.
    stamped = 3 if RELEASE < (2, 14) else 2
    check(model.eval(), monkeypatch, stamped=stamped, args=(x,), dynamic=[("n", None)])


class Passing(nn.Module):
    """A block with nested arguments and results, one of which is an argument itself."""

    def __init__(self, twice=False):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.twice = twice

    def forward(self, x, *, more):
        y = self.norm(self.linear(x)) + more["bias"][0]
        if self.twice:
            y = self.norm(self.linear(y))
        return {"x": y, "more": (more["bias"][0], y.shape[1])}


class Nested(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList(Passing(i % 2 == 1) for i in range(count))

    def forward(self, x, bias):
        for block in self.blocks:
            out = block(x, more={"bias": [bias, None]})
            x = out["x"] + out["more"][1]
            bias = out["more"][0]
        return x, bias


def test_arguments_and_results_are_trees(monkeypatch):
    args = (torch.randn(5, 3, WIDTH), torch.randn(5, 3, WIDTH))
    check(Nested(9), monkeypatch, 6, args, dynamic=[("n", "m", None), ("n", "m", None)])


class Residual(nn.Module):
    """Calls one block several times, with arguments that may be one tensor."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Two() for _ in range(5))

    def forward(self, x):
        y = x.sin()
        for i, block in enumerate(self.blocks):
            y = block(y, y if i % 2 else x)
        return self.blocks[0](y, y)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x, y):
        return self.act(self.linear(x)) + (y if x is not y else y * 2)


def test_arguments_that_are_one_tensor_count(monkeypatch):
    made = stamped_calls(monkeypatch)
    model, x = Residual(), torch.randn(5, WIDTH)
    mine, other = traces(model, x, dynamic=[("n", None)])
    assert difference(mine, other) is None
    torch.testing.assert_close(mine(x), model(x))
    assert sum(made[0].stamped.values())


def test_settings_of_torch_count(monkeypatch):
    class Switching(Stack):
        def forward(self, x):
            for i, block in enumerate(self.blocks):
                with (
                    torch.set_grad_enabled(i < 5),
                    torch.autocast("cpu", dtype=torch.bfloat16, enabled=i in (3, 7)),
                ):
                    x = block(x)
            return x

    check(Switching([Block(p=0.0) for _ in range(9)]), monkeypatch, stamped=3)


def test_gradients_of_the_program_are_computed():
    class Trained(Stack):
        def forward(self, x):
            y = super().forward(x).sum()
            (gradient,) = torch.autograd.grad(y, self.blocks[0].out.weight)
            return gradient

    model, x = Trained([Block(p=0.0) for _ in range(5)]), torch.randn(3, 2, WIDTH)
    mine, other = traces(model, x)
    assert difference(mine, other) is None
    torch.testing.assert_close(mine(x), model(x))


def test_random_stacks():
    draw = random.Random(5)
    choices = {"eps": (1e-5, 1e-3), "p": (0.0, 0.2), "index": (0, 1)}
    forwards = (Block.forward, reads_index, reads_global, functional_block)
    for _ in range(6):
        classes = [kind(draw.choice(forwards)) for _ in range(2)]
        blocks = [
            draw.choice(classes)(**{k: draw.choice(v) for k, v in choices.items()})
            for _ in range(14)
        ]
        if draw.random() < 0.5:
            blocks[7].norm = blocks[3].norm
        model = Stack(blocks)
        x = torch.randn(3, 2, WIDTH)
        mine, other = traces(model, x, dynamic=[("n", "m", None)])
        assert difference(mine, other) is None
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        torch.testing.assert_close(mine(x), expected)


def functional_block(self, x):
    h = functional.layer_norm(x, (WIDTH,), self.norm.weight, eps=self.norm.eps)
    return scaled(self.out(self.inner(h)), 2 if x.shape[0] > 2 else 3)


def models():
    yield "encoder", lambda: EncoderStack(4, 64, 4, 128), torch.randn(3, 17, 64), ("b", "s", None)
    yield "resnet", lambda: ResNet(8, 10), torch.randn(2, 3, 64, 96), ("b", None, "h", "w")
    yield "bert", bert, torch.randint(0, 100, (3, 17)), ("b", "s")
    yield "gpt2", gpt2, torch.randint(0, 100, (3, 17)), ("b", "s")
    yield "llama", llama, torch.randint(0, 100, (3, 17)), ("b", "s")


SIZES = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}


def bert():
    config = transformers.BertConfig(**SIZES, intermediate_size=64, return_dict=False)
    return transformers.BertModel(config)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=100, n_embd=32, n_layer=4, n_head=4, use_cache=False, return_dict=False
    )
    return transformers.GPT2Model(config)


def llama():
    config = transformers.LlamaConfig(
        **SIZES, intermediate_size=64, use_cache=False, return_dict=False
    )
    return transformers.LlamaModel(config)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("build", "x", "dims"), [
    pytest.param(build, x, dims, id=name) for name, build, x, dims in models()
])  # fmt: skip
def test_benchmark_models(monkeypatch, build, x, dims, train):
    made = stamped_calls(monkeypatch)
    model = build().train(train)
    with torch.set_grad_enabled(train):
        mine, other = traces(model, x, dynamic=[dims])
    assert difference(mine, other) is None
    assert made[0].stamped or isinstance(model, ResNet)


def calls_of_subgraphs(t):
    nodes = t.graph_module.graph.nodes
    return [n for n in nodes if n.target is torch.ops.higher_order.invoke_subgraph]


@pytest.mark.parametrize("train", [False, True])
def test_blocks_become_calls_of_one_subgraph(train):
    model = Stack([Block(i) for i in range(6)]).train(train)
    x, other = torch.randn(5, 3, WIDTH), torch.randn(4, 7, WIDTH)
    with torch.no_grad():
        t = symfx.trace(model, x, dynamic=[("n", "m", None)], repeated="subgraph")
        calls = calls_of_subgraphs(t)
        assert len(calls) == 6
        assert len({n.args[0].target for n in calls}) == len({n.args[1] for n in calls}) == 1
        torch.manual_seed(0)
        expected = model(other)
        torch.manual_seed(0)
        torch.testing.assert_close(t(other), expected)
        assert [*calls[3].meta["nn_module_stack"]] == ["", "blocks.3"]
        if not train:
            assert t.verify()


def test_a_subgraph_is_exported_and_saved(tmp_path):
    model, x = Stack([Block(i) for i in range(5)]).eval(), torch.randn(5, 3, WIDTH)
    other = torch.randn(4, 7, WIDTH)
    with torch.no_grad():
        t = symfx.trace(model, x, dynamic=[("n", "m", None)], repeated="subgraph")
        program = t.to_exported_program()
        torch.testing.assert_close(program.module()(other), model(other))
        targets = [n.target for n in program.graph.nodes]
        assert targets.count(torch.ops.higher_order.invoke_subgraph) == 5
        t.save(tmp_path / "t.symfx")
        loaded = symfx.load(tmp_path / "t.symfx")
        torch.testing.assert_close(loaded(other), model(other))
        assert len(calls_of_subgraphs(loaded)) == 5


@pytest.mark.parametrize(("blocks", "least"), [
    pytest.param(blocks, 4, id=name) for name, blocks, _ in near_equal()
])  # fmt: skip
def test_only_equal_blocks_call_the_subgraph(blocks, least):
    model, x = Stack(blocks), torch.randn(5, 3, WIDTH)
    with torch.no_grad():
        t = symfx.trace(model, x, dynamic=[("n", "m", None)], repeated="subgraph")
        assert len(calls_of_subgraphs(t)) >= least
        torch.manual_seed(0)
        expected = model(x)
        torch.manual_seed(0)
        torch.testing.assert_close(t(x), expected)


def test_an_unknown_way_to_repeat_is_refused():
    with pytest.raises(symfx.errors.SpecError, match="repeated is 'once'"):
        symfx.trace(nn.Linear(2, 2), torch.randn(3, 2), repeated="once")

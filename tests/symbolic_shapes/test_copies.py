"""copy.deepcopy of an environment: what is learned in one is not known in the other."""

import copy

import pytest
import torch

import symfx
from symfx import config
from symfx.errors import SymfxError
from symfx.recording import recording_shape_envs, replay_shape_env_events
from symfx.symbolic_shapes import ShapeEnv, statically_known_true


class Mixed(torch.nn.Module):
    """Has guards, replacements, asserts, and symbols of data."""

    def forward(self, x, y):
        if x.shape[0] * 2 > y.shape[1] + 1:
            y = y * 2
        rows = torch.nonzero(x)
        torch._check(rows.shape[0] > 2)
        count = y.flatten()[0].to(torch.int64).item()
        torch._check(count >= 0)
        torch._check(count < y.shape[0])
        return torch.cat([x.flatten()[:3], y.flatten()[:count]]), rows.sum(0), x + y.T[:1, :1]


def traced_env():
    args = (torch.ones(6, 4), torch.ones(5, 3))
    traced = symfx.trace(Mixed(), args, dynamic=[("a", "b"), ("c", "d")], strict=False)
    return traced.graph_module.shape_env


def stated_env():
    def f(x, y):
        return x.reshape(-1, 4) + y[: x.shape[0] // 2].sum()

    args = (torch.ones(16, 2), torch.ones(19))
    traced = symfx.trace(f, args, dynamic=[("8*n", "m"), ("k",)], where="k >= 4*n")
    return traced.graph_module.shape_env


def validated_env():
    with config.patch(translation_validation=True):
        return traced_env()


def known(env):
    """What an environment knows, as text."""
    return (
        [str(guard.term) for guard in env.guards],
        [str(asserted.term) for asserted in env.deferred_asserts()],
        [(str(info.term), info.hint, str(info.sources)) for info in env.symbol_table()],
        [str(condition) for condition in env.facts.reasons],
        [(str(s), str(by)) for s, by in env.facts.replacements.items()],
        [(fact.source, str(fact.term)) for fact in env.input_facts()],
        [(r.symbol_name, r.value) for r in env.specialization_records()],
    )


@pytest.mark.parametrize("make", [traced_env, stated_env, validated_env])
def test_each_learns_for_itself(make):
    env = make()
    copied = copy.deepcopy(env)
    before = known(env)
    assert copied is not env
    assert known(copied) == before

    name = next(s.name for s in env.symbols.hints if env.facts.resolve(s) is s)
    mine, theirs = (e.wrap(e.symbols.by_name[name]) for e in (env, copied))
    assert theirs.node.shape_env is copied
    assert bool(theirs * 3 < 1000)
    assert statically_known_true(theirs < 334)
    assert known(env) == before
    assert not statically_known_true(mine < 334)

    after = known(copied)
    assert bool(mine * 5 < 2000)
    assert known(copied) == after
    with pytest.raises(SymfxError, match="another ShapeEnv"):
        mine + theirs


def test_new_symbols_have_the_same_names_and_other_facts():
    env = traced_env()
    copied = copy.deepcopy(env)
    mine, theirs = env.create_unbacked_symint(), copied.create_unbacked_symint()
    assert str(mine) == str(theirs)
    torch._check(theirs > 7)
    assert statically_known_true(theirs > 6)
    assert not statically_known_true(mine > 6)


def test_long_chains_of_terms_are_copied():
    env = ShapeEnv()
    total = first = env.create_unbacked_symint()
    for _ in range(1500):  # a deep copy of the chain, part by part, would need as deep a stack
        total = total + env.create_unbacked_symint()
    torch._check(total > first)
    copied = copy.deepcopy(env)
    assert len(copied.symbols.records) == 1501
    assert statically_known_true(copied.wrap(next(iter(copied.facts.reasons))))
    assert known(copied) == known(env)


def test_a_copy_of_a_copy_and_a_copy_of_a_graph():
    env = traced_env()
    again = copy.deepcopy(copy.deepcopy(env))
    assert known(again) == known(env)
    graph = symfx.trace(torch.relu, torch.randn(3, 4), dynamic=[True]).graph_module
    # Numbers of a graph stay those of its environment, also in a copy of the graph.
    vals = [next(iter(g.graph.nodes)).meta["val"] for g in (graph, copy.deepcopy(graph))]
    assert all(val.shape[0].node.shape_env is graph.shape_env for val in vals)


def test_a_copy_records_its_own_events():
    with recording_shape_envs() as made:
        traced_env()
    (env,) = made
    copied = copy.deepcopy(env)
    count = len(env.events)
    copied.create_unbacked_symint()
    assert (len(env.events), len(copied.events)) == (count, count + 1)
    assert len(replay_shape_env_events(copied.events).symbols.records) == (
        len(env.symbols.records) + 1
    )

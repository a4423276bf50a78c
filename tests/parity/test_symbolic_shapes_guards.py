"""The checks that torch and symfx make from the same guards admit the same inputs."""

import itertools
import math

import pytest
import sympy
import torch
from both import BOTH, SYMFX, TORCH, symfloat, symint
from torch._dynamo.source import LocalSource, TensorProperty, TensorPropertySource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx as torch_make_fx
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.proxy_tensor import make_fx as symfx_make_fx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def fakes(m, env, *reals, contexts=None):
    mode = FakeTensorMode(shape_env=env)
    contexts = contexts or [None] * len(reals)
    return [
        mode.from_tensor(r, source=LocalSource(f"t{i}"), symbolic_context=c)
        for i, (r, c) in enumerate(zip(reals, contexts))
    ]


# -- admitted inputs -------------------------------------------------------------------------------

PROGRAMS = {
    "nothing": lambda x, y: None,
    "order": lambda x, y: bool(x.shape[0] < y.shape[0]),
    "equal": lambda x, y: bool(x.shape[1] == y.shape[1] + 1),
    "sum": lambda x, y: bool(x.shape[0] + x.shape[1] == y.shape[0]),
    "product": lambda x, y: bool(x.shape[0] * x.shape[1] > 20),
    "multiple": lambda x, y: bool(y.shape[0] % 3 == 0),
    "quotient": lambda x, y: bool(y.shape[0] // 2 == 4),
    "bounds": lambda x, y: (bool(x.shape[0] > 3), bool(x.shape[0] < 9), bool(y.shape[1] != 7)),
    "pinned": lambda x, y: int(x.shape[0]),
    "disjunction": lambda x, y: bool(torch.sym_not(x.shape[0] == 3) | (y.shape[0] > 5)),
    "float": lambda x, y: bool(x.shape[0] / 2 > 2.2),
    "minimum": lambda x, y: bool(torch.sym_max(x.shape[0], x.shape[1]) < 8),
    "contiguous": lambda x, y: x.t().is_contiguous(),
    "many": lambda x, y: [bool(x.shape[0] * i < y.shape[0] * 5) for i in range(1, 4)],
}
SHAPES = [
    ((5, 4), (9, 3)), ((4, 5), (9, 3)), ((5, 4), (10, 3)), ((6, 4), (9, 3)), ((2, 2), (4, 9)),
    ((5, 6), (11, 5)), ((9, 4), (13, 3)), ((5, 5), (5, 5)), ((5, 4), (8, 7)), ((3, 6), (9, 5)),
]  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("ignore_static", [True, False])
def test_the_same_inputs_pass(name, ignore_static):
    answers = {}
    for m in BOTH:
        env = m.ShapeEnv()
        real = torch.zeros(5, 4), torch.zeros(9, 3)
        made = fakes(m, env, *real)
        PROGRAMS[name](*made)
        answers[m.name] = [
            env.evaluate_guards_for_args(
                made, [torch.zeros(a), torch.zeros(b)], ignore_static=ignore_static
            )
            for a, b in SHAPES
        ]
        assert answers[m.name][0] is True
        code = env.produce_guards_expression(made, ignore_static=ignore_static)
        assert env.evaluate_guards_expression(code, real) is True
    assert answers["symfx"] == answers["torch"]


LAYOUTS = {
    "square": torch.zeros(4, 4),
    "transposed": torch.zeros(4, 4).t(),
    "cube": torch.zeros(3, 4, 5),
    "strided": torch.zeros(4, 6)[:, ::2],
    "offset": torch.zeros(8)[2:],
    "one": torch.zeros(1, 4),
    "channels last": torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_checked_alike(name):
    real = LAYOUTS[name]
    sizes = [1, 3, 4, 6] if real.dim() < 4 else [2, 3]
    others = [torch.zeros(s) for s in itertools.product(sizes, repeat=real.dim())]
    others += [o.transpose(0, -1) for o in others]
    answers = []
    for m in BOTH:
        env = m.ShapeEnv()
        (made,) = fakes(m, env, real)
        answers.append([env.evaluate_guards_for_args([made], [o]) for o in [real, *others]])
    assert answers[0] == answers[1] and answers[0][0]


def test_numbers_are_inputs_too(m):
    env = m.ShapeEnv()
    s = symint(m, env, 6)
    m.guard_int(torch.sym_int(s > 5))
    m.guard_int(torch.sym_int(s < 7))
    code = env.produce_guards_expression([s])
    assert [env.evaluate_guards_expression(code, [v]) for v in (5, 6, 7)] == [False, True, False]


def test_floats_in_guards(m):
    env = m.ShapeEnv()
    s = symint(m, env, 8)
    m.guard_int(torch.sym_int(s / 2.0))
    code = env.produce_guards_expression([s])
    assert "math.trunc(" in code and "float(" in code
    assert [env.evaluate_guards_expression(code, [v]) for v in (7, 8, 9)] == [False, True, True]
    env = m.ShapeEnv()
    f = symfloat(m, env, 2.5)
    assert f > 2.0
    code = env.produce_guards_expression([f])
    assert [env.evaluate_guards_expression(code, [v]) for v in (1.5, 3.0, math.nan)] == [
        False,
        True,
        False,
    ]


def test_the_text_of_produce_guards(m):
    env = m.ShapeEnv()
    x, y = fakes(m, env, torch.zeros(5, 4), torch.zeros(4, 5))
    assert x.shape[0] > 4
    plain = env.produce_guards([x, y], ["a", "b"])
    assert "L['b'].size()[0] == L['a'].size()[1]" in plain
    assert any(text.startswith("5 <= L['a'].size()[0]") for text in plain)
    simplified = env.produce_guards([x, y], ["a", "b"], _simplified=True)
    assert simplified == ["5 <= L['a'].size()[0]"]
    python, verbose, cpp = env.produce_guards_verbose(
        [x, y], ["a", "b"], langs=("python", "verbose_python", "cpp")
    )
    assert len(python.exprs) == len(verbose.exprs) == len(cpp.exprs)
    assert all("  # " in text for text in verbose.exprs)
    assert {s.name for s in cpp.source_to_symbol.values()} >= {"L_a_size_0_", "L_a_size_1_"}
    renamed = env.produce_guards(
        [x, y], ["a", "b"], lambda source: f"<{source.name}>", _simplified=True
    )
    assert renamed == ["5 <= <L['a'].size()[0]>"]
    with pytest.raises(Exception):
        env.produce_guards([x, y], ["a"])
    with pytest.raises(Exception):
        env.produce_guards_verbose([x, y], ["a", "b"], langs=("cobol",))


def test_guards_on_bounds_alone_are_bounds(m):
    env = m.ShapeEnv()
    (x,) = fakes(m, env, torch.zeros(15, 20))
    assert x.shape[0] > 5 and x.shape[0] > 12
    assert x.shape[1] > 5 and x.shape[1] > x.shape[0]
    assert set(env.produce_guards([x], ["a"], _simplified=True)) == {
        "L['a'].size()[1] > L['a'].size()[0]", "13 <= L['a'].size()[0]", "14 <= L['a'].size()[1]",
    }  # fmt: skip


def test_pruned_and_nontrivial_guards(m):
    env = m.ShapeEnv()
    x, y = fakes(m, env, torch.zeros(5, 4), torch.zeros(9, 3))
    assert x.shape[0] > x.shape[1] and y.shape[0] > y.shape[1] and x.shape[0] >= 2
    assert x.shape[1] > 2
    assert len(env.guards) == 3
    assert len(env.get_pruned_guards(list(x.shape))) == 2
    assert len(env.get_pruned_guards([y.shape[0]])) == 0
    assert len(env.get_nontrivial_guards()) == 2
    assert env.format_guards().count("\n") == 2 and env.format_guards().startswith(" - ")
    assert len(env.format_guards(verbose=True)) > len(env.format_guards())


def test_equalities_leave_no_guards(m):
    """Sizes that the program declares equal are one symbol from then on."""
    env = m.ShapeEnv()
    (x,) = fakes(m, env, torch.zeros(7, 4, 3))
    assert x.shape[0] == x.shape[1] + x.shape[2]
    assert env.get_nontrivial_guards() == []
    free = [s for s in env.backed_var_to_val if s not in env.replacements]
    assert len(free) == 2
    assert x.shape[0].node.expr == x.shape[1].node.expr + x.shape[2].node.expr


def test_bound_symbols(m):
    env = m.ShapeEnv()
    x, y = fakes(m, env, torch.zeros(5, 4), torch.zeros(4, 3))
    values = env.bind_symbols([x, y], [torch.zeros(8, 6), torch.zeros(6, 2)])
    assert values == {x.shape[0].node.expr: 8, x.shape[1].node.expr: 6, y.shape[1].node.expr: 2}
    with pytest.raises(Exception):
        env.bind_symbols([x, y], [torch.zeros(8, 6), torch.zeros(5, 2)])


def test_traced_graphs():
    results = []
    for make_fx, m in ((torch_make_fx, TORCH), (symfx_make_fx, SYMFX)):

        def f(a, b):
            return torch.cat([a, b]) if a.shape[0] > 3 else a

        g = make_fx(f, tracing_mode="symbolic")(torch.zeros(5, 4), torch.zeros(7, 4))
        assert m.fx_placeholder_targets(g) == ["a_1", "b_1"]
        assert [
            tuple(map(int, map(m.guarding_hint_or_throw, v.shape)))
            for v in m.fx_placeholder_vals(g)
        ] == [(5, 4), (7, 4)]
        inputs = [
            (torch.zeros(a, c), torch.zeros(b, d))
            for a, b, c, d in ((5, 7, 4, 4), (3, 7, 4, 4), (9, 9, 2, 2), (9, 3, 2, 3))
        ]
        results.append([m.eval_guards(g, *pair) for pair in inputs])
        assert sorted(m.bind_symbols(g, torch.zeros(6, 2), torch.zeros(9, 2)).values()) == [2, 6, 9]
        bound = m.find_symbol_binding_fx_nodes(g.graph)
        assert all(m.is_symbol_binding_fx_node(node) is symbol for symbol, node in bound.items())
    assert results[0] == results[1] == [True, False, True, False]


# -- promises --------------------------------------------------------------------------------------


def promised(m, real, constraints, work, equalities=None, names=("a",), names_of_dims=None):
    """Make one tensor symbolic under promises, run a program, and produce guards."""
    env = m.ShapeEnv()
    env.source_name_to_debug_name.update(names_of_dims or {})
    reals = real if isinstance(real, tuple) else (real,)
    contexts = [
        m.StatelessSymbolicContext([m.DimDynamic.DYNAMIC] * r.dim(), constraint_sizes=list(c))
        for r, c in zip(reals, constraints)
    ]
    mode = FakeTensorMode(shape_env=env)
    made = [
        mode.from_tensor(r, source=LocalSource(n), symbolic_context=c)
        for r, n, c in zip(reals, names, contexts)
    ]
    work(*made)
    return env, env.produce_guards(
        made, [LocalSource(n) for n in names], input_contexts=contexts, equalities_inputs=equalities
    )


def strict(m, low, high, warn_only=False):
    return m.StrictMinMaxConstraint(warn_only=warn_only, vr=ValueRanges(low, high))


def test_a_range_that_is_kept(m):
    _, texts = promised(
        m, torch.zeros(6, 4), [[strict(m, 2, 10), None]], lambda x: bool(x.shape[0] <= 10)
    )
    assert "2 <= L['a'].size()[0] and L['a'].size()[0] <= 10" in texts


@pytest.mark.parametrize("work, message", [
    (lambda x: bool(x.shape[0] > 3), "Not all values of"),
    (lambda x: bool(x.shape[0] % 2 == 0), "satisfy the generated guard"),
    (lambda x: int(x.shape[0]), "specialized it to be a constant"),
])  # fmt: skip
def test_a_range_that_is_broken(m, work, message):
    with pytest.raises(m.ConstraintViolationError, match=message) as caught:
        promised(m, torch.zeros(6, 4), [[strict(m, 2, 10), None]], work)
    assert "Constraints violated" in str(caught.value) and "L['a'].size()[0]" in str(caught.value)
    promised(m, torch.zeros(6, 4), [[strict(m, 2, 10, warn_only=True), None]], work)


def test_a_relaxed_promise(m):
    relaxed = m.RelaxedUnspecConstraint(warn_only=False)
    promised(m, torch.zeros(6, 4), [[relaxed, None]], lambda x: bool(x.shape[0] > 3))
    with pytest.raises(m.ConstraintViolationError, match=r"marked .* as dynamic"):
        promised(m, torch.zeros(6, 4), [[relaxed, None]], lambda x: int(x.shape[0]))


def test_a_range_without_the_example(m):
    with pytest.raises(m.ConstraintViolationError):
        promised(m, torch.zeros(6, 4), [[strict(m, 8, 10), None]], lambda x: None)
    with pytest.raises(m.ConstraintViolationError):
        promised(m, torch.zeros(6, 4), [[strict(m, 5, 5), None]], lambda x: None)
    env, _ = promised(m, torch.zeros(6, 4), [[strict(m, 6, 6), None]], lambda x: None)
    assert str(env.backed_var_to_val.values()) == "dict_values([4])"


def sizes(name, index):
    return TensorPropertySource(LocalSource(name), TensorProperty.SIZE, index)


def test_equality_constraints(m):
    a, b, c, d = (sizes(n, 0) for n in "abcd")
    e = m.EqualityConstraint(
        warn_only=False, source_pairs=[(a, b), (b, c)],
        derived_equalities=[(d, c, lambda n: n + 1)], phantom_symbols=[], relaxed_sources=set(),
    )  # fmt: skip
    assert e.is_equal(a, c) and e.is_equal(a, a) and not e.is_equal(a, d)
    assert e.is_derived(d, a, lambda n: n + 1) and not e.is_derived(d, a, lambda n: n + 2)
    relaxed = m.EqualityConstraint(False, [], [], [], {a})
    assert relaxed.is_equal(a, d) and not relaxed.is_equal(b, d)
    root = sympy.Symbol("root", integer=True)
    p = m.EqualityConstraint(
        False, [], [(a, root, lambda n: 2 * n), (b, root, lambda n: 2 * n)], [root], set()
    )
    assert p.is_equal(a, b)


def test_equalities_between_inputs(m):
    pair = m.EqualityConstraint(False, [(sizes("a", 0), sizes("b", 0))], [], [], set())
    some = [[strict(m, 2, 100)], [strict(m, 2, 100)]]
    reals, names = (torch.zeros(6), torch.zeros(6)), ("a", "b")
    promised(m, reals, some, lambda x, y: bool(x.shape[0] == y.shape[0]), pair, names)
    with pytest.raises(m.ConstraintViolationError, match="not equal"):
        promised(m, (torch.zeros(6), torch.zeros(7)), some, lambda x, y: None, pair, names)
    none = m.EqualityConstraint(False, [], [], [], set())
    with pytest.raises(m.ConstraintViolationError, match="must always be equal"):
        promised(m, reals, some, lambda x, y: bool(x.shape[0] == y.shape[0]), none, names)
    derived = m.EqualityConstraint(
        False, [], [(sizes("b", 0), sizes("a", 0), lambda n: 2 * n)], [], set()
    )
    twice = (torch.zeros(6), torch.zeros(12))
    some = [[strict(m, 2, 100)], [strict(m, 4, 200)]]
    promised(m, twice, some, lambda x, y: bool(2 * x.shape[0] == y.shape[0]), derived, names)
    with pytest.raises(m.ConstraintViolationError, match="related"):
        called = {"L['a'].size()[0]": "dx", "L['b'].size()[0]": "dy"}
        promised(
            m, twice, some, lambda x, y: bool(2 * x.shape[0] == y.shape[0]), none, names, called
        )
    with pytest.raises(m.ConstraintViolationError, match="to be equal to"):
        promised(m, (torch.zeros(6), torch.zeros(13)), some, lambda x, y: None, derived, names)


# -- solving ---------------------------------------------------------------------------------------


def solved(m, values, *constraints, equal=(), names=None, marked=()):
    symbols = {n: sympy.Symbol(n, positive=True, integer=True) for n in values}
    sources = {symbols[n]: [sizes(n, 0)] for n in values}
    dims = m.DimConstraints(
        sources, {symbols[n]: sympy.Integer(v) for n, v in values.items()},
        {symbols[n] for n in marked}, names or {},
    )  # fmt: skip
    for c in constraints:
        dims.add(c(*symbols.values()))
    for n, e in equal:
        dims.add_equality(sizes(n, 0), e(*symbols.values()))
    dims.solve()
    return dims


def admits(dims, values):
    """Whether the results, evaluated as Python, admit sizes."""

    class Size:
        def __init__(self, n):
            self.n = n

        def size(self):
            return [self.n]

    local = {"L": {n: Size(v) for n, v in values.items()}}
    plain = [r for r in dims._static_results | dims._dynamic_results if "*_" not in r]
    return all(eval(r, {}, local) for r in plain)


def test_ranges_are_solved(m):
    dims = solved(m, {"a": 8}, lambda a: 2 * a <= 40, lambda a: a >= 4, lambda a: a**2 < 300)
    for n in range(2, 25):
        assert admits(dims, {"a": n}) == (4 <= n <= 17), n


def test_values_are_solved(m):
    dims = solved(m, {"a": 8, "b": 3}, lambda a, b: sympy.Eq(a, 8), lambda a, b: b * a <= 40,
                  lambda a, b: b >= 2, equal=[("b", lambda a, b: a - 5)], marked=["a"])  # fmt: skip
    assert "L['a'].size()[0] == 8" in dims._static_results
    assert dims.forced_specializations() == {"L['a'].size()[0]": 8}
    assert "L['b'].size()[0] == 3" in dims._static_results


def test_congruences_are_reduced(m):
    s = sympy.Symbol("s", positive=True, integer=True)
    dims = m.DimConstraints({}, {}, set(), {})
    dims._congruences[s] = {(s / 2) % 2, (s / 2) % 8, (s / 2) % 4, s % 2, ((s / 16) + 2) % 4}
    assert dims._reduce_congruences()[s] == {(s + 32) % 64}


def test_rewriting_with_congruences(m):
    from torch.utils._sympy.functions import FloorDiv, Mod

    s = sympy.Symbol("s", positive=True, integer=True)
    dims = m.DimConstraints({}, {s: sympy.Integer(7)}, set(), {})
    assert dims.rewrite_with_congruences(s, sympy.Le(FloorDiv(s, 2), 5)) == sympy.Le(
        s / 2 - sympy.Rational(1, 2), 5
    )
    assert dims._congruences[s] == {(s - 1) % 2}
    assert dims.rewrite_with_congruences(s, Mod(s, 3)) == 1


def test_contradictions_are_errors(m):
    with pytest.raises(ValueError, match="inconsistenc"):
        solved(m, {"a": 8}, lambda a: a < 5)


def test_trivial_constraints(m):
    dims = m.DimConstraints({}, {}, set(), {})
    assert dims.add(sympy.true) is True


@pytest.mark.parametrize("constraints, expected", [
    ([lambda a: a <= 16], {"dx = Dim('dx', max=16)"}),
    ([lambda a: a >= 4, lambda a: a <= 16], {"dx = Dim('dx', min=4, max=16)"}),
    ([lambda a: sympy.Eq(a, 8)], {"dx = 8"}),
    ([lambda a: sympy.Eq(sympy.Mod(a, 4), 0)], {"dx = 4*_dx"}),
])  # fmt: skip
def test_suggestions(m, constraints, expected):
    from torch.export import Dim
    from torch.utils._sympy.functions import Mod

    constraints = [lambda a, c=c: c(a).replace(sympy.Mod, Mod) for c in constraints]
    dims = solved(m, {"a": 8}, *constraints, names={"L['a'].size()[0]": "dx"}, marked=["a"])
    text = dims.prettify_results(None, {"a": {0: Dim("dx")}}, None, dims.forced_specializations())
    suggested = {line.strip() for line in text.split("Suggested fixes:")[-1].splitlines()}
    assert expected <= suggested, text
    assert ("Specializations unexpectedly required" in text) == (expected == {"dx = 8"})

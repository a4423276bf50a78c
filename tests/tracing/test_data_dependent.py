"""What the error about a question that data decides says, and that its fixes work when pasted."""

import inspect
import re
import textwrap

import pytest
import torch
from torch import nn

import symfx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.explain.suggestions import fix_for_number

randn, T = torch.randn, torch.tensor


def total(x, pos):
    if x.sum() > 0:
        return x
    return -x


def maximum(x, pos):
    if pos.max() + 1 > 4:
        return x * 2
    return x


def any_positive(x, pos):
    if (x > 0).any():
        return x
    return -x


def negated(x, pos):
    if not (pos > 7).any():
        return x
    return -x


def loop(x, pos):
    while pos.max() > 7:
        pos = pos - 1
    return x + pos.sum()


def spread(x, pos):
    if pos.float().mean() > 9.5:
        return x
    return -x


def ternary(x, pos):
    return x if pos[0] > 9 else -x


def number(x, pos):
    if pos.max().item() + 1 > 4:
        return x * 2
    return x


def real(x, pos):
    if x.mean().item() > 0.5:
        return x
    return -x


def truth(x, pos):
    if pos.sum().item():
        return x
    return -x


def count(x, pos):
    if x.nonzero().shape[0] > 2:
        return x * 2
    return x


def length(x, pos):
    if len(x[x > 0]) == 2:
        return x * 2
    return x


def named(x, pos):
    value = pos.max().item()
    if value > 3:
        return x * 2
    return x


def flag(x, pos):
    ok = (pos.max() > 3).item()
    return x * 2 if ok else x


def taken(x, pos):
    n = x.shape[0]
    if pos.max().item() > n:
        return x * 2
    return x


def integer(x, pos):
    return x * int(pos.max())


def floating(x, pos):
    return x * float(x.max())


def even(x, pos):
    k = int(x.max() * 10)
    return x if k % 2 == 0 else -x


def truth_of_all(x, pos):
    if bool((x > 3).any()):
        return x
    return -x


def two_tensors(x, pos):
    if (x > 3).any() and (pos < 9).all():
        return x
    return -x


def between(x, pos):
    if 0 < x.mean() < 1:
        return x
    return -x


def repeated_int(x, pos):
    for _ in range(int(pos.max())):
        x = x + 1
    return x


def repeated(x, pos):
    for _ in range(pos.max().item()):
        x = x + 1
    return x


def wrapped(x, pos):
    if bool(x.max() > 0):
        return x
    return -x


def wrapped_and_negated(x, pos):
    return x if not bool((pos > 7).any()) else -x


def counted(x, pos):
    n = int(x.sum() * 3)
    for _ in range(n):
        x = x + 1
    return x


def shifted(x, pos):
    for _ in range(pos.max() + 1):
        x = x + 1
    return x


#: The program, the condition or number as the error names it, and parts of the fix.
PROGRAMS = [
    (total, "x.sum() > 0", "torch.where(x.sum() > 0, ", "torch.cond(x.sum() > 0, "),
    (maximum, "pos.max() + 1 > 4", "torch.where(pos.max() + 1 > 4, ", "torch._check(ok)"),
    (any_positive, "(x > 0).any()", "ok = (x > 0).any().item()", "torch._check(ok)"),
    (negated, "not (pos > 7).any()", "ok = (pos > 7).any().item()", "torch._check(ok)"),
    (loop, "pos.max() > 7", "torch.cond(pos.max() > 7, ", "torch._check(ok)"),
    (spread, "pos.float().mean() > 9.5", "ok = (pos.float().mean() > 9.5).item()", "torch.cond"),
    (ternary, "pos[0] > 9", "torch.where(pos[0] > 9, ", "ok = (pos[0] > 9).item()"),
    (number, "pos.max().item() + 1 > 4", "n = pos.max().item()", "torch._check(n + 1 > 4)"),
    (real, "x.mean().item() > 0.5", "n = x.mean().item()", "torch._check(n <= 0.5)"),
    (truth, "pos.sum().item()", "n = pos.sum().item()", "torch._check(n != 0)"),
    (count, "x.nonzero().shape[0] > 2", "n = x.nonzero().shape[0]", "torch._check(n > 2)"),
    (length, "len(x[x > 0]) == 2", "n = len(x[x > 0])", "torch._check(n != 2)"),
    (named, "value >= 4", "torch._check(value >= 4)", "guard_or_false(value >= 4)"),
    (flag, "ok", "torch._check(ok)", "guard_or_false(ok)"),
    (taken, "pos.max().item() > n", "n_ = pos.max().item()", "torch._check(n_ > n)"),
    (repeated, "range(pos.max().item())", "n = pos.max().item()", "torch._check(n == 2)"),
    (wrapped, "bool(x.max() > 0)", "torch.where(x.max() > 0, ", "ok = (x.max() > 0).item()"),
    (wrapped_and_negated, "bool((pos > 7).any())", "ok = (pos > 7).any().item()", "torch.cond"),
    (counted, "range(n)", "before this line: torch._check(n == 2);", "tensors"),
    (shifted, "range(pos.max() + 1)", "n = (pos.max() + 1).item()", "torch._check(n == 2)"),
    (repeated_int, "range(int(pos.max()))", "n = pos.max().item()", "torch._check(n == 2)"),
    (even, "k % 2 == 0", "torch._check(k % 2 == 0)", "guard_or_false(k % 2 == 0)"),
    (
        truth_of_all,
        "bool((x > 3).any())",
        "torch.where((x > 3).any(), ",
        "ok = (x > 3).any().item()",
    ),
    (
        two_tensors,
        "(x > 3).any() and (pos < 9).all()",
        "torch.where(torch.logical_and((x > 3).any(), (pos < 9).all()), ",
        "torch._check(ok)",
    ),
    (
        between,
        "0 < x.mean() < 1",
        "torch.where(torch.logical_and(0 < x.mean(), x.mean() < 1), ",
        "torch._check(ok)",
    ),
]


def error_of(model, *args):
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        symfx.trace(model, args, dynamic=[("n",), None])
    return caught.value


@pytest.mark.parametrize(
    ("model", "asked", "fix", "more"), PROGRAMS, ids=lambda v: getattr(v, "__name__", None)
)
def test_the_condition_is_the_users_and_so_are_the_fixes(model, asked, fix, more):
    error = error_of(model, randn(5), T([1, 2]))
    assert error.what.startswith(f"Could not guard on data-dependent expression {asked};")
    assert fix in error.fix and more in error.fix
    assert not re.search(r"\bz?uf?\d", error.fix), "a symbol is no name of the program"
    assert "math.trunc" not in error.fix
    assert "test_data_dependent.py:" in error.where


def pasted(function, expression, *before):
    """The function with lines written before the one that the error names, and its expression."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    at = next(i for i, line in enumerate(lines) if expression[0] in line)
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines[at] = lines[at].replace(*expression)
    lines[at:at] = [indent + line for line in before]
    space = {"torch": torch}
    exec("\n".join(lines), space)
    return space[function.__name__]


PASTED = [
    (total, ("x.sum() > 0", "ok"), "ok = (x.sum() > 0).item()", "torch._check(ok)"),
    (any_positive, ("(x > 0).any()", "ok"), "ok = (x > 0).any().item()", "torch._check(ok)"),
    (number, ("pos.max().item()", "n"), "n = pos.max().item()", "torch._check(n + 1 > 4)"),
    (number, ("pos.max().item()", "n"), "n = pos.max().item()", "torch._check(n + 1 <= 4)"),
    (real, ("x.mean().item()", "n"), "n = x.mean().item()", "torch._check(n > 0.5)"),
    (truth, ("pos.sum().item()", "n"), "n = pos.sum().item()", "torch._check(n == 0)"),
    (count, ("x.nonzero().shape[0]", "n"), "n = x.nonzero().shape[0]", "torch._check(n > 2)"),
    (named, ("value > 3", "value > 3"), "torch._check(value >= 4)"),
    (flag, ("return x * 2 if ok", "return x * 2 if ok"), "torch._check(ok)"),
    (taken, ("pos.max().item()", "n_"), "n_ = pos.max().item()", "torch._check(n_ > n)"),
    (repeated, ("pos.max().item()", "n"), "n = pos.max().item()", "torch._check(n == 2)"),
    (wrapped, ("bool(x.max() > 0)", "ok"), "ok = (x.max() > 0).item()", "torch._check(ok)"),
    (counted, ("range(n)", "range(n)"), "torch._check(n == 2)"),
    (shifted, ("pos.max() + 1", "n"), "n = (pos.max() + 1).item()", "torch._check(n == 2)"),
    (repeated_int, ("int(pos.max())", "n"), "n = pos.max().item()", "torch._check(n == 2)"),
    (even, ("return x if k", "return x if k"), "torch._check(k % 2 == 0)"),
    (even, ("return x if k", "return x if k"), "torch._check(k % 2 != 0)"),
    (
        between,
        ("0 < x.mean() < 1", "ok"),
        "ok = torch.logical_and(0 < x.mean(), x.mean() < 1).item()",
        "torch._check(ok)",
    ),
]


@pytest.mark.parametrize(("model", "expression", "before"), [(m, e, b) for m, e, *b in PASTED])
def test_pasted_fixes_work(model, expression, before):
    fix = error_of(model, randn(5), T([1, 2])).fix
    for line in before:
        assert (line.partition(" = ")[2] or line) in fix or "write it before this line" in fix, line
    fixed = pasted(model, expression, *before)
    assert symfx.trace(fixed, (randn(5), T([1, 2])), dynamic=[("n",), None])


ASKED_INSIDE = {
    "str(x.max().item())": lambda x: x * len(str(x.max().item())),
    "{0: x}[int(x.argmax())]": lambda x: {0: x}[int(x.argmax())],
    "[x, x * 2][x.argmax()]": lambda x: [x, x * 2][x.argmax()],
    "sorted([x.max(), x.min()])": lambda x: sorted([x.max(), x.min()])[0],
    "max(x.max(), x.mean())": lambda x: max(x.max(), x.mean()),
}


@pytest.mark.parametrize("asked", ASKED_INSIDE)
def test_a_question_inside_of_a_call_is_shown_as_the_call(asked):
    with pytest.raises(symfx.SymfxError) as caught:
        symfx.trace(ASKED_INSIDE[asked], randn(5), dynamic=[("n",)])
    assert caught.value.what.startswith(f"Could not guard on data-dependent expression {asked};")


@pytest.mark.parametrize("model", [integer, floating])
def test_numbers_stay_symbolic(model):
    assert symfx.trace(model, (randn(5), T([1, 2])), dynamic=[("n",), None]).verify()


@pytest.mark.parametrize(
    ("expression", "fix"),
    [
        ("int(p.max())", "write p.max().item() instead of int(p.max())"),
        ("float(p.max().item())", "write p.max().item() instead of float(p.max().item())"),
        ("int(x.mean().item() * 4)", "write torch.sym_int(x.mean().item() * 4) instead of"),
        ("len(x[x > 0])", "write x[x > 0].shape[0] instead of len(x[x > 0])"),
        ("range(1, n)", "compute with tensors"),
        ("model(x)", "compute with tensors"),
        ("not python", "compute with tensors"),
        (None, "compute with tensors"),
    ],
)
def test_fixes_for_numbers(expression, fix):
    assert fix_for_number(expression, 2, None).startswith(fix)


def test_a_helper_and_a_module_are_the_users_code_too():
    class Gate(nn.Module):
        def forward(self, x):
            return x if self.open(x) else -x

        def open(self, x):
            return bool(x.norm() < 2)

    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        symfx.trace(Gate(), randn(5), dynamic=[("n",)])
    assert "data-dependent expression bool(x.norm() < 2);" in caught.value.what


def test_source_that_is_not_at_hand():
    space = {}
    exec("def model(x):\n    return x if x.sum() > 0 else -x", space)
    with pytest.raises(GuardOnDataDependentSymNode) as caught:
        symfx.trace(space["model"], randn(5), dynamic=[("n",)])
    assert caught.value.fix.startswith("compute with tensors (torch.where, or torch.cond")
    assert "u0" not in caught.value.fix


def test_a_call_that_asks_inside_of_torch_is_no_condition():
    class Sampler(nn.Module):
        def forward(self, x):
            # Dynamo, once used, turns the checks of distributions off where they are not asked for.
            drawn = torch.distributions.Normal(x.mean(0), x.std(0), validate_args=True).rsample()
            return x + drawn

    with pytest.raises(symfx.SymfxError) as caught:
        symfx.trace(Sampler(), randn(3, 5))
    assert "torch.where(torch.distributions" not in str(caught.value)
    assert "torch.distributions.Normal" in str(caught.value)


def test_a_number_of_data_that_is_asserted_is_no_specialization():
    def f(x):
        ok = (x.sum() > 0).item()
        torch._check(ok)
        n = x.long().max().item()
        torch._check(n == 3)
        return x * n

    t = symfx.trace(f, torch.tensor([1.0, 2.0, 3.0]), dynamic=[("n",)])
    assert t.specializations == ()
    assert [info.name for info in t.symbols] == ["n"]
    assert "fixed" not in str(t)
    torch.testing.assert_close(t(torch.tensor([3.0, 1.0])), torch.tensor([9.0, 3.0]))
    with pytest.raises(RuntimeError):
        t(torch.tensor([2.0, 1.0]))


@pytest.mark.parametrize("squeeze", ["squeeze", "squeeze_"])
def test_the_graph_asserts_that_squeeze_keeps_a_dimension_whose_size_is_data(squeeze):
    def program(x):
        y = getattr(x[x > 0], squeeze)()
        return y, y.dim()

    t = symfx.trace(program, T([1.0, -2, 3]), dynamic=[("n",)])
    for x in (T([1.0, 2, 3, 4]), T([-1.0, -2])):
        torch.testing.assert_close(t(x), program(x))
    with pytest.raises(RuntimeError, match=r"u0 != 1 does not hold"):
        t(T([1.0, -2]))


def test_squeeze_drops_a_dimension_whose_size_is_data_and_known_to_be_1():
    def model(x):
        chosen = x[x > 0]
        torch._check(chosen.shape[0] > 0)
        torch._check(chosen.shape[0] < 4)
        return chosen[:1].squeeze(0) * 2

    t = symfx.trace(model, (T([1.0, -1, 2, -2]),), dynamic=[("n",)])
    for x in (T([1.0, -1, 2, -2]), T([-5.0, 3.0])):
        assert torch.equal(t.graph_module(x), model(x))


def test_squeeze_of_a_dimension_of_size_1_asserts_nothing():
    t = symfx.trace(lambda x: x.nonzero().squeeze(1), T([1.0, 0, 3]), dynamic=[("n",)])
    assert t(T([0.0, 1])).tolist() == [1]


ELEMENTWISE = {
    "add": lambda x, z: x + z,
    "mul_": lambda x, z: x.clone().mul_(z),
    "atan2": torch.atan2,
    "where": lambda x, z: torch.where(x > 0, x, z),
    "lerp": lambda x, z: torch.lerp(x, z, 0.5),
    "masked_fill": lambda x, z: x.masked_fill(z > 0, 2.0),
    "copy_": lambda x, z: x.clone().copy_(z),
    "expand": lambda x, z: z.expand(x.shape[0]),
    "expand_as": lambda x, z: z.expand_as(x),
    "addmm": lambda x, z: torch.addmm(z, x[None].T, x[None]),
    "foreach": lambda x, z: torch._foreach_add([x], [z])[0],
    "polar": torch.polar,
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_graph_asserts_that_a_size_that_is_data_is_not_broadcast(name):
    def program(x, y):
        z = y.nonzero().squeeze(1).float()
        return ELEMENTWISE[name](x, z), torch.ones(z.shape[0])

    t = symfx.trace(program, (T([1.0, 2, 3]), T([1, 1, 1, 0])), dynamic=[("n",), ("m",)])
    other = T([4.0, 5]), T([0, 1, 1])
    torch.testing.assert_close(t(*other), program(*other))
    with pytest.raises(RuntimeError, match=r"n == u0 does not hold"):
        t(T([1.0, 2, 3]), T([0, 1]))  # eager mode broadcasts one element


def rows(x, y):
    """A copy of the input, and a number of its rows and columns that is data."""
    count = (y + y).sum().item() // 2
    torch._check(count >= 0)
    torch._check(count <= x.shape[0])
    return x.clone(), count


def flattened(x, y):
    a, count = rows(x, y)
    a[:count].mT.flatten().add_(1)
    return a


def packed(x, y):
    a, count = rows(x, y)
    a[:, :count].contiguous().mul_(2)
    return a


def written_before(x, y):
    a, count = rows(x, y)
    b = a[:, :count].reshape(-1)
    a.add_(1)
    return b


@pytest.mark.parametrize(
    ("model", "shared"), [(flattened, {1}), (packed, {1, 4}), (written_before, {1, 4})]
)
def test_the_graph_asserts_that_a_copy_which_data_decides_is_no_view(model, shared):
    example = randn(4, 4)
    t = symfx.trace(model, (example, T([2])), dynamic=[("a", "b"), None])
    for x in (example, randn(4, 4)):
        for count in range(5):
            expected = model(x, T([count]))
            if count in shared:
                with pytest.raises(RuntimeError, match=r"u\d+.* does not hold; asserted at"):
                    t.graph_module(x, T([count]))
            else:
                assert torch.equal(t.graph_module(x, T([count])), expected)


def test_a_copy_which_data_decides_asserts_nothing_where_nothing_is_written():
    def model(x, y):
        a, count = rows(x, y)
        return a[:count].mT.flatten() + a[:, :count].contiguous().sum()

    t = symfx.trace(model, (randn(4, 4), T([2])), dynamic=[("a", "b"), None])
    x = randn(5, 5)
    for count in range(6):
        torch.testing.assert_close(t.graph_module(x, T([count])), model(x, T([count])))


@pytest.mark.parametrize("n", [0, 1, 4])
@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.repeat_interleave((x > 0).long() * 2),
        lambda x: x.repeat_interleave((x > 0).long()),
        lambda x: x[:, None].repeat_interleave((x > 0).long() + 1, 0),
    ],
)
def test_repeats_that_are_data(model, n):
    example = randn(n)
    t = symfx.trace(model, (example,), dynamic=[(symfx.Dim("n", min=0),)], strict=False)
    for x in (example, randn(n), -example):
        assert torch.equal(t.graph_module(x), model(x))


@pytest.mark.parametrize(
    "select", [lambda y: y[y > 0], lambda y: y.nonzero(), lambda y: y.unique()]
)
def test_elements_of_a_tensor_that_guards_show_to_be_empty(select):
    def model(x):
        return select(x[:1].diff(dim=0))

    t = symfx.trace(model, (randn(3),), dynamic=[("n",)])
    for x in (randn(3), randn(1), randn(7)):
        assert torch.equal(t.graph_module(x), model(x))


def of_no_elements(y):
    """An index of two dimensions, whose number of elements is data."""
    return torch.zeros_like(y[y > 0][None, 3:]).long()


@pytest.mark.parametrize(
    "model",
    [
        lambda y, v: v.scatter(0, of_no_elements(y), y),
        lambda y, v: v.scatter(0, of_no_elements(y), 1.0),
        lambda y, v: v.scatter_add(0, of_no_elements(y), y),
        lambda y, v: v.scatter_reduce(0, of_no_elements(y), y, "sum"),
        lambda y, v: v.clone().scatter_(0, of_no_elements(y), 1.0),
        lambda y, v: v.gather(0, of_no_elements(y)),
    ],
)
def test_an_index_of_another_rank_has_to_be_empty(model):
    v = randn(6)
    t = symfx.trace(model, (T([1.0, 1, 1, -1, 2]) - 1.5, v), dynamic=[("n",), ("m",)])
    for count in range(4):
        y = torch.cat([torch.ones(count), -torch.ones(3)])
        assert torch.equal(t.graph_module(y, v), model(y, v))
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        t.graph_module(torch.ones(5), v)

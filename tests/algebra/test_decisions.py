"""The answers of the decision procedure, case by case; the numbers are upstream reports of
programs that torch's own reasoning leaves open."""

from __future__ import annotations

import itertools

import pytest

from symfx.algebra import Table, Term
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover


class World:
    """A table, its facts and a prover, with symbols by name."""

    def __init__(self) -> None:
        self.table = Table()
        self.facts = Facts(self.table)
        self.prover = Prover(self.facts)

    def __call__(self, names: str) -> list[Term]:
        return [self.table.symbol(n) for n in names.split()]

    def know(self, *conditions: Term) -> None:
        for condition in conditions:
            self.facts.assume(condition)

    def decide(self, condition: Term) -> bool | None:
        answer = self.prover.decide(condition)
        opposite = self.prover.decide(self.table.not_(condition))
        assert opposite == (None if answer is None else not answer)
        return answer

    def proves(self, *conditions: Term) -> bool:
        return all(self.decide(c) is True for c in conditions)


@pytest.fixture
def w() -> World:
    return World()


class TestOrders:
    def test_transitivity_193092(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a < b, b < c)
        assert w.proves(a < c, a + 1 < c, a.ne(c), a <= c)
        assert w.decide(c <= a) is False
        assert w.decide(a + 2 < c) is None

    def test_at_most_gives_less_than_next_154240(self, w: World) -> None:
        a, b = w("a b")
        w.know(a <= b)
        assert w.proves(a < b + 1, a - 1 < b, a <= b + 3)
        assert w.decide(a < b) is None

    def test_differences_with_constants_119969(self, w: World) -> None:
        a, b, c, d = w("a b c d")
        w.know(a + 3 <= b, b <= c - 4, c <= d + 2)
        assert w.proves(a + 5 <= d, a < d)
        assert w.decide(a + 6 <= d) is None

    @pytest.mark.parametrize("backwards", [False, True])
    def test_chain_of_200(self, w: World, backwards: bool) -> None:
        x = w(" ".join(f"x{i}" for i in range(201)))
        links = [(x[i], x[i + 1]) for i in range(200)]
        w.know(*(a < b for a, b in (reversed(links) if backwards else links)))
        assert w.proves(x[0] < x[200], x[0] + 199 < x[200], x[3] + 190 < x[194])
        assert w.decide(x[0] + 200 < x[200]) is None

    def test_through_a_sum(self, w: World) -> None:
        a, b, c, d = w("a b c d")
        w.know(a <= b, c <= d)
        assert w.proves(a + c <= b + d, a + 2 * c <= b + 2 * d)

    @pytest.mark.parametrize("k", [-3, 0, 2])
    def test_offsets_of_any_sign_154240(self, w: World, k: int) -> None:
        a, b, c = w("a b c")
        w.know(a + k <= b, b < c)
        assert w.proves(a + k < c, 2 * a + 2 * k <= 2 * b, w.table.min(a + k, b).eq(a + k))
        assert w.proves(w.table.abs(a + k - b).eq(b - a - k))
        assert w.decide(a + k + 1 < c) is None

    def test_orders_of_multiples_and_products(self, w: World) -> None:
        a, b, c, d = w("a b c d")
        w.know(2 * a < 3 * b, 3 * b < 5 * c, a * b < c, c < d)
        assert w.proves(2 * a + 1 < 5 * c, a * b + 1 < d, (2 * a).ne(5 * c))


class TestSymbolicBounds:
    def test_bound_by_a_size_120288(self, w: World) -> None:
        u0, s0 = w("u0 s0")
        w.know(u0 >= 0, s0 >= 2, u0 <= s0)
        assert w.proves(u0 < s0 + 1, u0 - s0 <= 0, s0 - u0 >= 0, u0 // 2 <= s0, u0 <= 2 * s0)

    def test_maximum_that_is_settled_119468(self, w: World) -> None:
        (u0,) = w("u0")
        w.know(u0 >= 1)
        assert w.proves(w.table.max(w.table.one, u0).eq(u0))

    def test_ordered_offsets_193693(self, w: World) -> None:
        o = w("o0 o1 o2 o3 n")
        w.know(o[0] >= 0, *(a <= b for a, b in itertools.pairwise(o)))
        assert w.proves(o[2] - o[1] >= 0, o[3] - o[0] <= o[4], o[2] - o[1] <= o[4])
        assert w.proves((o[1] - o[0]) + (o[2] - o[1]) + (o[3] - o[2]) <= o[4])

    def test_interval_through_another_symbol(self, w: World) -> None:
        a, b = w("a b")
        w.know(b >= 1, a >= b + 8)
        assert w.proves(a >= 9)
        assert w.decide(a >= 10) is None


class TestPinned:
    def test_two_orders_and_a_sum_191833(self, w: World) -> None:
        a, b = w("a b")
        w.know(a <= b, a >= b, (a + b).eq(10))
        assert w.proves(a.eq(5), b.eq(5), a.eq(b))
        assert w.prover.range(a) == (5, 5)
        assert w.prover.range(b) == (5, 5)

    def test_a_longer_cycle_and_a_sum(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a <= b, b <= c, c <= a, (a + b + c).eq(12))
        assert w.proves(a.eq(4), b.eq(4), c.eq(4))

    def test_bounds_that_meet(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a >= 5, b >= 5, a + b <= 10, c >= 3, c <= 4, (c % 2).eq(0))
        assert w.proves(a.eq(5), b.eq(5), c.eq(4))

    def test_shifted_by_one(self, w: World) -> None:
        a, b = w("a b")
        w.know(a <= b, (a + b).eq(11), a >= b - 1)
        assert w.proves(a.eq(5), b.eq(6))

    def test_cycle_of_orders_is_equality_122307(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a <= b, b <= c, c <= a)
        assert w.proves(a.eq(b), b.eq(c), a.eq(c), (a + b + c).eq(3 * a))

    def test_two_equations(self, w: World) -> None:
        a, b = w("a b")
        w.know((a + b).eq(10), (a - b).eq(2))
        assert w.proves(a.eq(6), b.eq(4))

    def test_three_equations(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know((a + b).eq(7), (b + c).eq(9), (a + c).eq(8))
        assert w.proves(a.eq(3), b.eq(4), c.eq(5))

    def test_equation_without_solution_is_no_licence(self, w: World) -> None:
        a, b = w("a b")
        w.know((a + b).eq(7), (a - b).eq(2))
        assert w.facts.contradiction is not None


class TestProducts:
    def test_factors_that_are_not_zero(self, w: World) -> None:
        s0, s1 = w("s0 s1")
        w.know(s0 >= 1, s1 >= 2)
        assert w.proves((s0 * (s1 - 1)).ne(0), s0 * s1 - s0 >= 1, s0 * s1 > s0, (s0 * s1).ne(0))

    def test_signs(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a >= 0, b >= 0, c <= -1)
        assert w.proves(a * b >= 0, a * c <= 0, b * c <= 0, c * c >= 1, a * b * c <= 0)
        assert w.decide(a * b >= 1) is None

    def test_square(self, w: World) -> None:
        a, b = w("a b")
        assert w.proves(a * a >= 0)
        w.know(b.ne(0))
        assert w.proves((b * b).ne(0), b * b >= 1)

    def test_bounds(self, w: World) -> None:
        a, b = w("a b")
        w.know(a >= 2, a <= 5, b >= 3, b <= 4)
        assert w.proves(a * b >= 6, a * b <= 20)
        assert w.decide(a * b <= 19) is None

    def test_larger_factor(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(c >= 1, a <= b, a >= 0)
        assert w.proves(a * c <= b * c, a <= b * c)

    def test_more_factors(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a >= 2, b >= 3, c >= 4)
        assert w.proves(a * (b - 2) * (c - 3) >= 2, (a * (1 - b) * c).ne(0), a * b - a - b >= 1)

    def test_turning_points_of_parabolas(self, w: World) -> None:
        a, b = w("a b")
        assert w.proves(a * a >= a, a * a + a >= 0, a * a - 5 * a >= -6, a * a + b * b >= 0)
        w.know(b >= 7)
        assert w.proves(b * b >= 7 * b, b * b - 2 * b >= 35)
        assert w.decide(a * a >= 2 * a) is None

    def test_squares_of_sums(self, w: World) -> None:
        a, b = w("a b")
        assert w.proves((a + b) * (a + b) >= 0, (a - b) ** 2 + 1 > 0)

    def test_shared_factor_of_an_equation(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(a >= 1, (a * b).eq(a * c))
        assert w.proves(b.eq(c))

    def test_eight_apart(self, w: World) -> None:
        a, b = w("a b")
        w.know(b >= 1, a >= b + 8)
        assert w.proves(a >= 9, a * b >= 9, a * a >= 81, a // 9 >= 1, a.ne(b))


def test_a_long_row_of_facts_that_follow_from_one_another(w: World) -> None:
    xs = w(" ".join(f"x{i}" for i in range(200)))
    for a, b in itertools.pairwise(xs):
        w.know(b - a >= 1, a * b >= 1)
    w.know(xs[-1] <= 204, xs[0] >= 5)
    assert w.proves(xs[-1].eq(204), xs[100].eq(105))


class TestPowers:
    @pytest.mark.parametrize("sign_first", [True, False])
    def test_a_square_that_is_known(self, w: World, sign_first: bool) -> None:
        (a,) = w("a")
        facts = [a >= 1, (a * a).eq(25)]
        w.know(*(facts if sign_first else reversed(facts)))
        assert w.proves(a.eq(5))

    def test_either_root(self, w: World) -> None:
        (a,) = w("a")
        w.know((a * a).eq(25))
        assert w.proves(a <= 5, a >= -5, a.ne(3))
        assert w.decide(a.eq(5)) is None

    def test_no_root(self, w: World) -> None:
        (a,) = w("a")
        w.know((a * a).eq(24))
        assert w.facts.contradiction is not None

    def test_a_square_written_out(self, w: World) -> None:
        a, b = w("a b")
        assert w.proves(a * a - 2 * (a * b) + b * b >= 0, 4 * (a * a) - 4 * a + 1 >= 0)
        assert w.proves(a * a + a * b + b * b >= 0)
        assert w.decide(a * a - 3 * (a * b) + b * b >= 0) is None

    def test_powers_outgrow_their_exponent(self, w: World) -> None:
        (a,) = w("a")
        w.know(a >= 0)
        assert w.proves(w.table.pow(w.table.const(2), a) > a)
        assert w.decide(w.table.pow(w.table.const(2), a) > 2 * a) is None

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_equal_products(self, w: World, order: tuple[int, ...]) -> None:
        a, b, c, d = w("a b c d")
        facts = [(a * b).eq(c * d), a.eq(c), a >= 1]
        w.know(*(facts[i] for i in order))
        assert w.proves(b.eq(d))

    def test_one_factor_is_zero(self, w: World) -> None:
        a, b = w("a b")
        w.know((a * b).eq(0))
        assert w.decide(b.eq(0)) is None
        w.know(a >= 1)
        assert w.proves(b.eq(0))


class TestRemainders:
    def test_at_least_its_remainder(self, w: World) -> None:
        (b,) = w("b")
        w.know(b >= 0)
        assert w.proves(b >= b % 3, b % 3 <= 2, b % 3 >= 0)

    def test_quotient_and_remainder_make_the_whole(self, w: World) -> None:
        a, b = w("a b")
        assert w.proves((a // 3 * 3 + a % 3).eq(a), (a - a // 7 * 7).eq(a % 7))
        assert w.proves((a // b * b + a % b).eq(a))

    def test_consecutive_numbers(self, w: World) -> None:
        (a,) = w("a")
        assert w.proves((a * (a + 1) % 2).eq(0), (a * a % 4).ne(2), ((a * a * a - a) % 3).eq(0))
        assert w.proves((a * (a + 1) // 2 * 2).eq(a * (a + 1)))
        assert w.decide((a * a % 4).eq(0)) is None

    def test_what_a_quotient_says_of_its_dividend(self, w: World) -> None:
        a, b = w("a b")
        w.know(a // 4 >= 3, b // 4 <= 3)
        assert w.proves(a >= 12, b <= 15)
        assert w.decide(a >= 13) is None and w.decide(b <= 14) is None

    def test_maximum_less_something(self, w: World) -> None:
        a, c = w("a c")
        w.know(a >= 0, c >= 0)
        assert w.proves(w.table.max(a, c) >= a - c, w.table.max(a, c) >= a, w.table.max(a, c) >= c)

    def test_multiple_of_16_144852(self, w: World) -> None:
        (s,) = w("s")
        w.know((s % 16).eq(0))
        assert w.proves((16 * (s // 16)).eq(s), (s % 8).eq(0), s.ne(17), (s % 2).eq(0))
        assert w.proves((s // 2 * 2).eq(s), ((s + 3) % 16).eq(3), ((s + 8) % 8).eq(0))
        assert w.decide((s % 32).eq(0)) is None

    def test_sums_and_products_of_multiples_137748(self, w: World) -> None:
        s, t, k = w("s t k")
        w.know((s % 6).eq(0), (t % 4).eq(0))
        assert w.proves(((s + t) % 2).eq(0), ((s * t) % 24).eq(0), ((s * k) % 3).eq(0))
        assert w.proves((s + t).ne(5))

    def test_half_twice_136216(self, w: World) -> None:
        (s,) = w("s")
        assert w.proves(2 * (s // 2) <= s, s - 2 * (s // 2) <= 1, (s // 2) * 2 + 1 >= s)

    def test_halves_of_a_multiple(self, w: World) -> None:
        (s,) = w("s")
        w.know((s % 4).eq(0), s >= 4)
        assert w.proves((s // 4 * 2).eq(s // 2), s // 4 >= 1, (s // 2 + s // 2).eq(s))

    def test_remainder_of_a_shifted_symbol(self, w: World) -> None:
        (s,) = w("s")
        w.know((s % 4).eq(3))
        assert w.proves(((s + 1) % 4).eq(0), (s % 2).eq(1), (4 * ((s + 1) // 4)).eq(s + 1))

    def test_symbolic_divisor(self, w: World) -> None:
        a, b = w("a b")
        w.know(b >= 1, a >= 0)
        assert w.proves(a % b >= 0, a % b < b, a % b <= a, a // b >= 0, a // b <= a)
        assert w.proves(a // b * b <= a)

    def test_divisible_by_a_symbol(self, w: World) -> None:
        a, b = w("a b")
        w.know(b >= 1, (a % b).eq(0))
        assert w.proves((a // b * b).eq(a))


class TestChoices:
    def test_extremes(self, w: World) -> None:
        a, b = w("a b")
        most, least = w.table.max(a, b), w.table.min(a, b)
        assert w.proves(2 * most >= a + b, 2 * least <= a + b, (most + least).eq(a + b))
        assert w.decide(most >= 2 * a) is None

    def test_absolute_values(self, w: World) -> None:
        a, b = w("a b")
        t = w.table
        assert w.proves((t.abs(a) * t.abs(a)).eq(a * a), t.abs(a) <= a * a, t.abs(a) >= -a)
        w.know(a.ne(0), t.abs(b) <= 3)
        assert w.proves(t.abs(a) >= 1, b <= 3, b >= -3, b * b <= 9)
        assert w.decide(b <= 2) is None

    def test_conditionals(self, w: World) -> None:
        a, b = w("a b")
        t = w.table
        five = t.const(5)
        assert w.proves(t.where(a > 5, a, five) >= 5, t.where(a < b, a, b).eq(t.min(a, b)))
        w.know(a >= 1)
        assert w.proves(t.where(a > 0, a, t.zero).eq(a), t.where(a.eq(0), t.one, a).eq(a))
        assert w.decide(t.where(a > 5, a, five) >= 6) is None

    def test_bounded_extremes_bound_their_operands(self, w: World) -> None:
        a, b, c, d = w("a b c d")
        w.know(w.table.max(a, b) <= 7, w.table.min(c, d) >= 2)
        assert w.proves(a <= 7, b <= 7, c >= 2, c * d >= 4)

    def test_one_of_two_parts(self, w: World) -> None:
        (a,) = w("a")
        assert w.proves(w.table.or_(a // 4 <= a // 2, a < 0), w.table.or_(a > 2, a <= 4))


class TestFiniteSets:
    def test_powers_of_two_139307(self, w: World) -> None:
        (s,) = w("s")
        w.know(w.table.or_(s.eq(1), s.eq(2), s.eq(4), s.eq(8)))
        assert w.proves(s >= 1, s <= 8, s.ne(3), s.ne(7), (w.table.const(8) % s).eq(0))
        assert w.proves(s * s <= 64, (s * s).ne(9))
        assert w.decide(s.eq(4)) is None

    def test_a_value_that_is_ruled_out(self, w: World) -> None:
        (s,) = w("s")
        w.know(w.table.or_(s.eq(1), s.eq(2)), s.ne(1))
        assert w.proves(s.eq(2))

    def test_two_sets(self, w: World) -> None:
        s, t = w("s t")
        w.know(w.table.or_(s.eq(2), s.eq(4)), w.table.or_(t.eq(3), t.eq(5)))
        assert w.proves((s + t).ne(6), s.ne(t), ((s + t) % 2).eq(1), (s * t).ne(15))

    def test_negative_members(self, w: World) -> None:
        (s,) = w("s")
        w.know(w.table.or_(s.eq(-1), s.eq(1)))
        assert w.proves((s * s).eq(1), w.table.abs(s).eq(1), s.ne(0))

    def test_small_range_by_cases(self, w: World) -> None:
        (s,) = w("s")
        w.know(s >= 1, s <= 3)
        assert w.proves((s * (s - 1) * (s - 2) * (s - 3)).eq(0), ((s * s + s) % 2).eq(0))

    def test_alternatives(self, w: World) -> None:
        a, b = w("a b")
        w.know(w.table.or_(a >= b + 1, a <= b - 1))
        assert w.proves(a.ne(b))
        w.know(a >= b)
        assert w.proves(a > b)


class TestNegativeDivisors:
    def test_a_remainder_is_above_its_divisor(self, w: World) -> None:
        a, b = w("a b")
        w.know(b < 0)
        assert w.proves(a % b > b, a % b <= 0)

    def test_a_quotient_is_no_further_from_zero(self, w: World) -> None:
        a, b, c = w("a b c")
        w.know(b < 0, a >= 0, c <= 0)
        assert w.proves(a // b >= -a, c // b <= -c)
        w.know(w.table.le(w.table.one, b + 9))
        assert w.decide(a // b >= 1 - a) is None


class TestDivisions:
    """Negative operands: 113878, 104968, 134268; ranges: 105097, 136797, 188422."""

    def test_no_rewrite_for_one_sign_only(self, w: World) -> None:
        (a,) = w("a")
        assert w.decide(((0 - a) // 2).eq(0 - (a // 2))) is None
        assert w.decide((a % 2).eq(0)) is None
        assert w.proves(a % 2 >= 0, a % -3 <= 0, (a % -3) >= -2)

    def test_ranges_of_quotients(self, w: World) -> None:
        a, b = w("a b")
        w.know(a >= -7, a <= 9, b >= 2, b <= 4)
        assert w.prover.range(a // b) == (-4, 4)
        assert w.prover.range(a // 2) == (-4, 4)
        assert w.prover.range(a % b) == (0, 3)

    def test_range_of_a_slice_to_the_last_but_one(self, w: World) -> None:
        (s,) = w("s")
        w.know(s >= 1)
        end = w.table.max(w.table.zero, s - 1)
        assert w.proves(end.eq(s - 1), end <= s, end >= 0, end < s)

    def test_range_of_a_reciprocal(self, w: World) -> None:
        (b,) = w("b")
        w.know(b >= 1)
        inverse = w.table.truediv(w.table.one, b)
        zero, one = w.table.const(0.0), w.table.const(1.0)
        assert w.proves(inverse <= one, zero <= inverse)
        assert w.decide(inverse < one) is None
        assert w.prover.real_range(inverse) == (0.0, 1.0)
        assert w.proves(w.table.floor(inverse) <= 1, w.table.ceil(inverse) >= 0)

    def test_convolution_output(self, w: World) -> None:
        (h,) = w("h")
        w.know(h >= 7)
        out = (h + 2 * 1 - 3) // 2 + 1
        assert w.proves(out >= 4, out <= h, 2 * out <= h + 1)


def test_an_exact_quotient_of_a_product_times_its_divisor_is_the_product(w: World) -> None:
    b, c, m = w("b c m")
    w.know(b >= 2, c >= 2, m >= 2, (b * c % 3).eq(0))
    third = b * c // 3
    assert w.proves(
        (3 * third % b).eq(0),
        (6 * third // b).eq(2 * c),
        ((6 * third + m) % b).eq(m % b),
        (3 * ((b * c + 3) // 3) % b).eq(3 % b),
    )
    for open_ in (2 * third % b, third % b, 3 * (b * m // 3) % b):
        assert w.decide(open_.eq(0)) is None


def test_exact_quotients_are_right_at_all_small_values() -> None:
    """Each answer that a known divisibility gives, against all values that have it."""
    sizes = range(1, 9)
    for k, times, shift in itertools.product((2, 3, -2), (1, 2, 3, 6), (0, 1, 3)):
        w = World()
        b, c, m = w("b c m")
        w.know(*(s >= 1 for s in (b, c, m)), *(s <= 8 for s in (b, c, m)), (b * c % k).eq(0))
        places = [p for p in itertools.product(sizes, repeat=3) if p[0] * p[1] % k == 0]
        asked = {
            (times * ((b * c + shift) // k) % b).eq(0): lambda x, y, z: (
                times * ((x * y + shift) // k) % x == 0
            ),
            (times * (b * c // k) + shift).eq(m): lambda x, y, z: times * (x * y // k) + shift == z,
            times * (b * c // k) >= b: lambda x, y, z: times * (x * y // k) >= x,
        }
        for condition, value in asked.items():
            found = {value(*p) for p in places}
            for asked_of, values in (
                (condition, found),
                (w.table.not_(condition), {not v for v in found}),
            ):
                answer = w.prover.decide(asked_of)
                assert answer is None or values == {answer}, (str(asked_of), k, times, shift)


def test_an_equation_that_makes_no_sense_where_facts_hold_is_no_crash(w: World) -> None:
    x, y, z = w("x y z")
    w.know(z.eq(0), y.eq(x % z))
    assert w.proves(z.eq(0))


def test_alternatives_whose_symbols_were_replaced_are_settled_once() -> None:
    t = Table()
    a, b, c = map(t.symbol, "abc")
    facts = Facts(t)
    facts.assume(t.or_(a >= 5, b >= 3))
    facts.replace(b, c)
    facts.assume(a <= 4)
    prover = Prover(facts)
    assert prover.decide(c >= 5) is None
    assert prover.decide((b * c).eq(7)) is False  # c * c is 9 or more

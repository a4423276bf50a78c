"""Hash-consed terms over integers, reals and booleans, in normal form.

Words used here and everywhere above this floor:

atom
    an integer that the algebra looks no deeper into: a symbol, or an opaque operation such as
    ``x // 3`` or ``min(a, b)`` on terms that are themselves in normal form.
monomial
    an atom, or a *product* of atoms (``a*b*b``).
sum
    an integer constant plus integer coefficients times monomials. Every integer term that is
    neither a constant nor a monomial is a sum, so integer terms have one form each.
condition
    a boolean term. Integer comparisons read ``p == 0`` or ``p >= 0`` with the common divisor
    divided out; negation is pushed down to them, so equal guards are one object.

A `Table` owns its terms: within one table, two terms of equal form are one object, ``is`` is
equality, and every operation is memoised by identity. Terms of two tables never mix.

Long sums are built as *ropes*: ``a + b`` of a long ``a`` remembers its two parts and a
fingerprint (a random linear combination of the coefficients, so that the fingerprint of a sum
is the sum of the fingerprints). Its coefficients are merged when somebody reads them, once.
Fingerprints find a candidate for "the same sum"; the coefficients decide.

Reals are IEEE doubles with Python's semantics. They are not reordered and not simplified
beyond what is exact for every value, NaN included.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

__all__ = ["Scalar", "Sort", "Table", "Term"]

Sort: TypeAlias = Literal["int", "real", "bool"]
Scalar: TypeAlias = int | float | bool

# A sum with more monomials than this is built as a rope.
_EAGER = 12
# A product of sums is multiplied out up to this many monomials; beyond, its factors stay whole.
_EXPAND_LIMIT = 256
# Powers with a constant exponent are multiplied out up to this exponent.
_EXPAND_POWER = 8
_MASK = (1 << 62) - 1


class Term:
    """An interned term. Made by a `Table` only; compared and hashed by identity.

    Attributes:
        table: the table that owns the term.
        op: what the term is: ``"const"``, ``"symbol"``, ``"sum"``, ``"product"`` or the name
            of an operation (``"floordiv"``, ``"eq"``, …).
        sort: ``"int"``, ``"real"`` or ``"bool"``.
        args: the operands: terms, or for a constant its value, for a symbol its name.
        uid: the order of creation in the table, which normal forms sort by.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_coeffs",
        "_free",
        "_rope",
        "_text",
        "args",
        "const",
        "fingerprint",
        "op",
        "sort",
        "sympy",
        "table",
        "uid",
    )

    table: Table
    op: str
    sort: Sort
    args: tuple[Any, ...]
    uid: int
    const: int
    """The constant part of an integer term."""
    fingerprint: int
    """The fingerprint of the part that is not constant."""
    sympy: Any
    """The term as sympy, once somebody asked (`symfx.algebra.sympy_view`)."""

    def __init__(self, table: Table, op: str, sort: Sort, args: tuple[Any, ...]) -> None:
        self.table = table
        self.op = op
        self.sort = sort
        self.args = args
        table._uids = self.uid = table._uids + 1
        self._free: frozenset[Term] | None = None
        self._base: Term | None = None
        self._text: str | None = None
        self._rope: tuple[Term, int, Term, int] | None = None
        self._coeffs: dict[Term, int] | None = None
        self.sympy = None

    # -- reading -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of a symbol or of an uninterpreted function."""
        if self.op not in ("symbol", "call"):
            raise AttributeError(f"a {self.op!r} term has no name")
        name: str = self.args[0]
        return name

    @property
    def value(self) -> Scalar | None:
        """The value of a constant, None for every other term."""
        if self.op == "const":
            value: Scalar = self.args[0]
            return value
        return None

    @property
    def coeffs(self) -> dict[Term, int]:
        """An integer term's monomials with their coefficients. To be read, never changed."""
        if self._coeffs is None:
            self._coeffs = _merge_rope(self)
            self._rope = None
        return self._coeffs

    @property
    def is_monomial(self) -> bool:
        """Whether this is an atom or a product of atoms."""
        return self.sort == "int" and self.op not in ("const", "sum")

    @property
    def factors(self) -> tuple[Term, ...]:
        """The atoms of a monomial, repeated as often as they occur."""
        return self.args if self.op == "product" else (self,)

    @property
    def operands(self) -> tuple[Term, ...]:
        """The terms one level below, whatever the kind of this term."""
        if self.op in ("const", "symbol"):
            return ()
        if self.op == "sum":
            return tuple(self.coeffs)
        if self.op == "call":
            return self.args[1:]
        return self.args

    @property
    def base(self) -> Term:
        """An integer term without its constant."""
        if not self.const:
            return self
        if self._base is None:
            self._base = self.table.linear(self.coeffs)
        return self._base

    @property
    def free_symbols(self) -> frozenset[Term]:
        """The symbols that the term depends on."""
        if self._free is None:
            parts = self.operands
            for part in parts:  # most terms are shallow
                if part._free is None and all(p._free is not None for p in part.operands):
                    part._free = part._union_of_free(part.operands)
            if any(p._free is None for p in parts):
                for term in _postorder(self, lambda t: t._free is None):
                    term._free = term._union_of_free(term.operands)
            else:
                self._free = self._union_of_free(parts)
        assert self._free is not None
        return self._free

    def _union_of_free(self, parts: tuple[Term, ...]) -> frozenset[Term]:
        if len(parts) == 1:  # shared: most conditions have one operand
            return parts[0]._free or frozenset()
        return frozenset().union(*[p._free for p in parts if p._free])

    def __str__(self) -> str:
        if self._text is None:
            from symfx.algebra.printing import to_python

            self._text = to_python(self)
        return self._text

    def __repr__(self) -> str:
        return f"<{self.sort} {self}>"

    def __copy__(self) -> Term:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Term:
        # A copy would break "identity is equality" within the table.
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "a term belongs to its table and cannot be pickled; "
            "save its text or its sympy view instead"
        )

    # -- writing: operators for people, tests and rules; the engine calls the table ---------

    def _lift(self, other: Term | Scalar) -> Term:
        if not isinstance(other, Term):
            return self.table.const(other)
        if other.table is not self.table:
            raise ValueError(f"{self} and {other} belong to different tables, which do not mix")
        return other

    def __add__(self, other: Term | Scalar) -> Term:
        return self.table.add(self, self._lift(other))

    def __radd__(self, other: Scalar) -> Term:
        return self.table.add(self._lift(other), self)

    def __sub__(self, other: Term | Scalar) -> Term:
        return self.table.sub(self, self._lift(other))

    def __rsub__(self, other: Scalar) -> Term:
        return self.table.sub(self._lift(other), self)

    def __mul__(self, other: Term | Scalar) -> Term:
        return self.table.mul(self, self._lift(other))

    def __rmul__(self, other: Scalar) -> Term:
        return self.table.mul(self._lift(other), self)

    def __floordiv__(self, other: Term | Scalar) -> Term:
        return self.table.floordiv(self, self._lift(other))

    def __rfloordiv__(self, other: Scalar) -> Term:
        return self.table.floordiv(self._lift(other), self)

    def __mod__(self, other: Term | Scalar) -> Term:
        return self.table.mod(self, self._lift(other))

    def __rmod__(self, other: Scalar) -> Term:
        return self.table.mod(self._lift(other), self)

    def __truediv__(self, other: Term | Scalar) -> Term:
        return self.table.truediv(self, self._lift(other))

    def __rtruediv__(self, other: Scalar) -> Term:
        return self.table.truediv(self._lift(other), self)

    def __pow__(self, other: Term | Scalar) -> Term:
        return self.table.pow(self, self._lift(other))

    def __neg__(self) -> Term:
        return self.table.neg(self)

    def __pos__(self) -> Term:
        return self

    def __abs__(self) -> Term:
        return self.table.abs(self)

    def __lt__(self, other: Term | Scalar) -> Term:
        return self.table.lt(self, self._lift(other))

    def __le__(self, other: Term | Scalar) -> Term:
        return self.table.le(self, self._lift(other))

    def __gt__(self, other: Term | Scalar) -> Term:
        return self.table.lt(self._lift(other), self)

    def __ge__(self, other: Term | Scalar) -> Term:
        return self.table.le(self._lift(other), self)

    # ``==`` stays identity, which dictionaries need; `eq` and `ne` make the conditions.
    def eq(self, other: Term | Scalar) -> Term:
        """The condition that both are equal."""
        return self.table.eq(self, self._lift(other))

    def ne(self, other: Term | Scalar) -> Term:
        """The condition that both differ."""
        return self.table.ne(self, self._lift(other))

    def __and__(self, other: Term | Scalar) -> Term:
        return self.table.bit_and(self, self._lift(other))

    def __or__(self, other: Term | Scalar) -> Term:
        return self.table.bit_or(self, self._lift(other))

    def __xor__(self, other: Term | Scalar) -> Term:
        return self.table.bit_xor(self, self._lift(other))

    def __lshift__(self, other: Term | Scalar) -> Term:
        return self.table.lshift(self, self._lift(other))

    def __rshift__(self, other: Term | Scalar) -> Term:
        return self.table.rshift(self, self._lift(other))

    def __invert__(self) -> Term:
        return self.table.not_(self)

    def __bool__(self) -> bool:
        if self.op == "const":
            return bool(self.args[0])
        raise TypeError(f"the truth of {self} depends on its symbols; ask a prover")


def _postorder(root: Term, wanted: Callable[[Term], bool]) -> Iterator[Term]:
    """Terms below and including `root` that are `wanted`, operands first; no recursion."""
    stack = [root]
    seen: set[Term] = set()
    while stack:
        term = stack[-1]
        if term in seen or not wanted(term):
            stack.pop()
            continue
        below = [t for t in term.operands if t not in seen and wanted(t)]
        if below:
            stack.extend(below)
        else:
            seen.add(term)
            stack.pop()
            yield term


def _merge_rope(term: Term) -> dict[Term, int]:
    """The coefficients of a sum that is still a rope, or of a term that is not a sum."""
    if term.op == "const":
        return {}
    if term._rope is None:
        return {term: 1}
    spine: list[tuple[Term, int]] = []
    part, scale = term, 1
    while part._coeffs is None and part._rope is not None:
        left, by_left, right, by_right = part._rope
        if right._coeffs is None and right._rope is not None:
            return _merge_shared(term)
        spine.append((right, scale * by_right))
        part, scale = left, scale * by_left
    # The usual case, one term added after the other.
    merged = {m: scale * c for m, c in part.coeffs.items()}
    for right, scale in reversed(spine):
        for monomial, coeff in right.coeffs.items():
            merged[monomial] = merged.get(monomial, 0) + scale * coeff
    return {m: c for m, c in merged.items() if c}


def _merge_shared(term: Term) -> dict[Term, int]:
    """The coefficients of a rope of ropes."""
    # Ropes share parts (v + v is a rope of v twice): each part is looked at once, after all
    # that it is a part of, when the scale of all its occurrences together is known.
    order: list[Term] = []
    seen: set[Term] = set()
    stack: list[tuple[Term, bool]] = [(term, False)]
    while stack:
        part, parts_done = stack.pop()
        if parts_done:
            order.append(part)
        elif part not in seen:
            seen.add(part)
            if part._coeffs is None and part._rope is not None:
                stack.append((part, True))
                # Left is pushed last, so that monomials come in the order they were added.
                stack.append((part._rope[2], False))
                stack.append((part._rope[0], False))
            else:
                order.append(part)
    scales = dict.fromkeys(order, 0)
    scales[term] = 1
    for part in reversed(order):
        if part._coeffs is None and part._rope is not None:
            left, by_left, right, by_right = part._rope
            scales[left] += scales[part] * by_left
            scales[right] += scales[part] * by_right
    total: dict[Term, int] = {}
    for part in order:
        if part._coeffs is not None or part._rope is None:
            scale = scales[part]
            for monomial, coeff in part.coeffs.items():
                total[monomial] = total.get(monomial, 0) + scale * coeff
    return {m: c for m, c in total.items() if c}


def _multiset_divide(whole: tuple[Term, ...], part: tuple[Term, ...]) -> tuple[Term, ...] | None:
    """`whole` without the factors of `part`, or None where one is missing."""
    rest = list(whole)
    for factor in part:
        try:
            rest.remove(factor)
        except ValueError:
            return None
    return tuple(rest)


class Table:
    """The home of interned terms, and the operations that make them.

    Every operation takes terms of this table and gives one of this table in normal form.
    Operations on constants compute with Python's own semantics, and raise what Python raises
    (`ZeroDivisionError`). A rewrite may assume that what it rewrites is defined: ``x // x`` is
    1, although it raises for ``x == 0``.

    Example:
        >>> t = Table()
        >>> s = t.symbol("s")
        >>> (2 * s + 4) // 2 is s + 2
        True
        >>> str((s + 1) * (s - 1))
        's**2 - 1'
    """

    def __init__(self) -> None:
        self._uids = 0
        self._random = random.Random(20260711)
        self._consts: dict[tuple[type, str], Term] = {}
        self._ints: dict[int, Term] = {}
        self._sums: dict[tuple[int, int], Term] = {}
        # Sums whose fingerprint an older sum has too.
        self._collisions: dict[tuple[int, int], list[Term]] = {}
        self._interned: dict[tuple[Any, ...], Term] = {}
        self._monomial_prints: set[int] = set()
        # How a sum came about as a product, by the sum without its constant: the normal form
        # multiplies out, and what the factors knew (that none is 0, say) would be lost.
        self.products: dict[Term, tuple[Term, Term, Term]] = {}
        self._symbols: dict[str, Term] = {}
        self._add_memo: dict[tuple[Term, Term], Term] = {}
        self._mul_memo: dict[tuple[Term, Term], Term] = {}
        self._op_memo: dict[tuple[str, Term, Term], Term] = {}
        self._not_memo: dict[Term, Term] = {}
        self.zero = self.const(0)
        self.one = self.const(1)
        self.minus_one = self.const(-1)
        self.true = self.const(True)
        self.false = self.const(False)

    def __len__(self) -> int:
        """How many terms the table has made."""
        return self._uids

    # -- leaves --------------------------------------------------------------------------

    def const(self, value: Scalar) -> Term:
        """The constant `value`; its sort is that of its Python type."""
        if type(value) is int:
            term = self._ints.get(value)
            if term is None:
                term = Term(self, "const", "int", (value,))
                term.const = value
                term.fingerprint = 0
                self._ints[value] = term
            return term
        if isinstance(value, bool):
            sort: Sort = "bool"
        elif isinstance(value, float):
            # repr tells 0.0 from -0.0 and finds nan again.
            sort, value = "real", float(value)
        elif isinstance(value, int):
            return self.const(int(value))
        else:
            raise TypeError(
                f"a constant is an int, float or bool, not {type(value).__name__}: {value!r}"
            )
        key = (type(value), repr(value))
        term = self._consts.get(key)
        if term is None:
            term = self._consts[key] = Term(self, "const", sort, (value,))
        return term

    def symbol(self, name: str, sort: Sort = "int") -> Term:
        """The symbol of that name, made at the first call.

        Raises:
            ValueError: the table has a symbol of that name and another sort.
        """
        term = self._symbols.get(name)
        if term is None:
            term = self._symbols[name] = self._atom("symbol", sort, (name,))
            term._free = frozenset((term,))
        elif term.sort != sort:
            raise ValueError(f"symbol {name!r} is {term.sort}, it cannot be {sort} too")
        return term

    def call(self, name: str, sort: Sort, *args: Term) -> Term:
        """An uninterpreted function: equal arguments give equal results, no more is known."""
        return self._intern("call", sort, (name, *args))

    def _atom(self, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
        term = Term(self, op, sort, args)
        if sort == "int":
            term.const = 0
            term.fingerprint = self._random.getrandbits(62) | 1
            self._monomial_prints.add(term.fingerprint)
        return term

    def _intern(self, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
        key = (op, sort, *args)
        term = self._interned.get(key)
        if term is None:
            term = self._interned[key] = self._atom(op, sort, args)
        return term

    # -- sums ----------------------------------------------------------------------------

    def linear(self, coeffs: Mapping[Term, int], const: int = 0) -> Term:
        """The sum of `const` and coefficient times monomial."""
        kept = {m: c for m, c in coeffs.items() if c}
        if not kept:
            return self.const(const)
        if len(kept) == 1 and not const:
            ((only, coeff),) = kept.items()
            if coeff == 1:
                return only
        print_ = 0
        for monomial, coeff in kept.items():
            print_ += coeff * monomial.fingerprint
        return self._sum(const, print_ & _MASK, kept, None)

    def _sum(
        self,
        const: int,
        fingerprint: int,
        coeffs: dict[Term, int] | None,
        rope: tuple[Term, int, Term, int] | None,
    ) -> Term:
        key = (const, fingerprint)
        candidate = self._sums.get(key)
        other: Term
        if candidate is not None:
            if coeffs is None:
                assert rope is not None
                probe = Term.__new__(Term)
                probe.op, probe._rope, probe._coeffs = "sum", rope, None
                coeffs, rope = _merge_rope(probe), None
            for other in (candidate, *self._collisions.get(key, ())):
                if other.coeffs == coeffs:
                    return other
        term = Term(self, "sum", "int", ())
        term.const = const
        term.fingerprint = fingerprint
        term._coeffs = coeffs
        term._rope = rope
        if candidate is None:
            self._sums[key] = term
        else:
            self._collisions.setdefault(key, []).append(term)
        return term

    def _combine(self, a: Term, by_a: int, b: Term, by_b: int) -> Term:
        """``by_a * a + by_b * b`` of two integer terms."""
        left, right = a._coeffs, b._coeffs
        if left is None and a.op != "sum":
            left = a.coeffs
        if right is None and b.op != "sum":
            right = b.coeffs
        const = by_a * a.const + by_b * b.const
        if left is not None and right is not None and len(left) + len(right) <= _EAGER:
            merged = {m: by_a * c for m, c in left.items()} if by_a != 1 else dict(left)
            for monomial, coeff in right.items():
                new = merged.get(monomial, 0) + by_b * coeff
                if new:
                    merged[monomial] = new
                else:
                    merged.pop(monomial, None)
            return self.linear(merged, const)
        fingerprint = (by_a * a.fingerprint + by_b * b.fingerprint) & _MASK
        rope = (a, by_a, b, by_b)
        if not fingerprint or (not const and fingerprint in self._monomial_prints):
            # What has cancelled down to a constant or a monomial must become that term.
            probe = Term.__new__(Term)
            probe.op, probe._rope, probe._coeffs = "sum", rope, None
            return self.linear(_merge_rope(probe), const)
        return self._sum(const, fingerprint, None, rope)

    def add(self, a: Term, b: Term) -> Term:
        """a + b"""
        key = (a, b)
        found = self._add_memo.get(key)
        if found is None:
            if a.sort == "int" and b.sort == "int":
                if b.op == "const" and not b.const:
                    found = a
                elif a.op == "const" and not a.const:
                    found = b
                else:
                    found = self._combine(a, 1, b, 1)
            else:
                ints = self._as_ints(a, b)
                found = self.add(*ints) if ints else self._real_add(a, b)
            self._add_memo[key] = found
        return found

    def sum(self, terms: Iterable[Term]) -> Term:
        """The sum of integer terms, in time linear in their number."""
        total: dict[Term, int] = {}
        const = 0
        for term in terms:
            const += term.const
            for monomial, coeff in term.coeffs.items():
                total[monomial] = total.get(monomial, 0) + coeff
        return self.linear(total, const)

    def neg(self, a: Term) -> Term:
        """-a"""
        if a.sort == "int":
            return self.mul(self.minus_one, a)
        if a.sort == "bool":
            return self.neg(self.to_int(a))
        if a.op == "const":
            return self.const(-a.args[0])
        if a.op == "fneg":
            inner: Term = a.args[0]
            return inner
        return self._intern("fneg", "real", (a,))

    def sub(self, a: Term, b: Term) -> Term:
        """a - b"""
        if a.sort == "int" and b.sort == "int":
            key = ("sub", a, b)
            found = self._op_memo.get(key)
            if found is None:
                found = self._op_memo[key] = self.zero if a is b else self._combine(a, 1, b, -1)
            return found
        ints = self._as_ints(a, b)
        if ints:
            return self.sub(*ints)
        # IEEE subtraction is the addition of the negated double, exactly: -0.0 for an integer 0.
        return self._real_add(a, self.neg(self.to_real(b)))

    def mul(self, a: Term, b: Term) -> Term:
        """a * b"""
        key = (a, b)
        found = self._mul_memo.get(key)
        if found is None:
            if a.sort == "int" and b.sort == "int":
                found = self._int_mul(a, b)
            else:
                ints = self._as_ints(a, b)
                found = self.mul(*ints) if ints else self._real_mul(a, b)
            self._mul_memo[key] = found
        return found

    def _int_mul(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            a, b = b, a
        if a.op == "const":
            scale = a.const
            if scale == 0:
                return self.zero
            if scale == 1:
                return b
            if b.op == "const":
                return self.const(scale * b.const)
            return self._combine(b, scale, self.zero, 0)
        if a.is_monomial and b.is_monomial:
            return self._product(a.factors + b.factors)
        left, right = a.coeffs, b.coeffs
        size = (len(left) + bool(a.const)) * (len(right) + bool(b.const))
        if size > _EXPAND_LIMIT:
            return self._product((*_whole_factors(a), *_whole_factors(b)))
        total: dict[Term, int] = {}
        for m, c in left.items():
            for n, d in right.items():
                product = self._product(m.factors + n.factors)
                total[product] = total.get(product, 0) + c * d
            if b.const:
                total[m] = total.get(m, 0) + c * b.const
        if a.const:
            for n, d in right.items():
                total[n] = total.get(n, 0) + d * a.const
        result = self.linear(total, a.const * b.const)
        if result.op == "sum" and result.coeffs:
            self.products.setdefault(result.base, (result, a, b))
        return result

    def _product(self, factors: tuple[Term, ...]) -> Term:
        if len(factors) == 1:
            return factors[0]
        return self._intern("product", "int", tuple(sorted(factors, key=_by_uid)))

    # -- division ------------------------------------------------------------------------

    def floordiv(self, a: Term, b: Term) -> Term:
        """a // b, rounded down for every sign, as in Python."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return (
                self.floordiv(*ints)
                if ints
                else self._real_op("ffloordiv", a, b, lambda x, y: x // y)
            )
        key = ("floordiv", a, b)
        found = self._op_memo.get(key)
        if found is None:
            found = self._op_memo[key] = self._int_floordiv(a, b)
        return found

    def _int_floordiv(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            divisor = b.const
            if divisor == 0:
                raise ZeroDivisionError(f"({a}) // 0")
            if divisor < 0:  # a // -c = (-a) // c
                return self._floordiv_const(self.neg(a), -divisor)
            return self._floordiv_const(a, divisor)
        if a.op == "const" and not a.const:
            return self.zero
        # (b*q + r) // b = q + r // b for any b that is not zero.
        quotient, rest = self._split_multiple(a, b)
        if rest is not a:
            return self.add(quotient, self.floordiv(rest, b))
        a, b = self._cancel_common(a, b)
        if b.op == "const":
            return self.floordiv(a, b)
        exact = self._divide_exactly(a, b)
        if exact is not None:
            return exact
        if _leads_negative(b):  # a // -b = (-a) // b
            return self.floordiv(self.neg(a), self.neg(b))
        return self._intern("floordiv", "int", (a, b))

    def _floordiv_const(self, a: Term, c: int) -> Term:
        """a // c for c > 0."""
        if c == 1:
            return a
        divisor = c
        # (c*q + r) // c = q + r // c: each coefficient leaves its remainder, in 0..c-1.
        whole: dict[Term, int] = {}
        rest: dict[Term, int] = {}
        for monomial, coeff in a.coeffs.items():
            q, r = divmod(coeff, c)
            if q:
                whole[monomial] = q
            if r:
                rest[monomial] = r
        q, k = divmod(a.const, c)
        outer = self.linear(whole, q)
        if not rest:
            return outer
        # (g*x + k) // (g*d) = (x + k//g) // d for g, d > 0.
        g = math.gcd(c, *rest.values())
        if g > 1:
            rest = {m: r // g for m, r in rest.items()}
            k //= g
            c //= g
            if c == 1:
                return self.add(outer, self.linear(rest, k))
        if len(rest) == 1:
            ((only, coeff),) = rest.items()
            if coeff == 1 and only.op == "floordiv" and only.args[1].op == "const":
                # (x//d + k) // c = (x + k*d) // (c*d) for c > 0.
                inner, d = only.args[0], only.args[1].const
                merged = self._floordiv_const(self.add(inner, self.const(k * d)), c * d)
                return self.add(outer, merged)
        changed = whole or k != a.const or c != divisor
        inner = self.linear(rest, k) if changed else a
        atom = self._intern("floordiv", "int", (inner, self.const(c)))
        return self.add(outer, atom)

    def mod(self, a: Term, b: Term) -> Term:
        """a % b, with the sign of b, as in Python."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return self.mod(*ints) if ints else self._real_op("fmod", a, b, lambda x, y: x % y)
        key = ("mod", a, b)
        found = self._op_memo.get(key)
        if found is None:
            found = self._op_memo[key] = self._int_mod(a, b)
        return found

    def _int_mod(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            divisor = b.const
            if divisor == 0:
                raise ZeroDivisionError(f"({a}) % 0")
            if divisor < 0:  # a % -c = -((-a) % c)
                return self.neg(self._mod_const(self.neg(a), -divisor))
            return self._mod_const(a, divisor)
        if a.op == "const" and not a.const:
            return self.zero
        _, rest = self._split_multiple(a, b)
        if rest is not a:
            return self.mod(rest, b)
        if self._divide_exactly(a, b) is not None:
            return self.zero
        # (m*x) % (m*y) = m * (x % y) for any m that is not zero.
        x, y = self._cancel_common(a, b)
        if y is not b:
            # Both were divided by the same m, which long division finds again.
            common = b if y is self.one else self._divide_exactly(b, y)
            if y.op == "const" and y is not self.one:
                common = self.linear({m: c // y.const for m, c in b.coeffs.items()})
            if common is not None:
                return self.mul(common, self.mod(x, y))
        if _leads_negative(b):  # a % -b = -((-a) % b)
            return self.neg(self.mod(self.neg(a), self.neg(b)))
        return self._intern("mod", "int", (a, b))

    def _mod_const(self, a: Term, c: int) -> Term:
        """a % c for c > 0."""
        rest: dict[Term, int] = {}
        extra: list[Term] = []
        for monomial, coeff in a.coeffs.items():
            if not coeff % c:
                continue
            if _mod_constant(monomial) and not _mod_constant(monomial) % c:
                # x % (c*d) is x plus a multiple of c.
                extra.append(self.mul(self.const(coeff), monomial.args[0]))
            else:
                rest[monomial] = coeff % c
        k = a.const % c
        if extra:
            return self.mod(self.add(self.sum(extra), self.linear(rest, k)), self.const(c))
        if not rest:
            return self.const(k)
        # (g*x + k) % (g*d) = g*((x + k//g) % d) + k % g for g, d > 0.
        g = math.gcd(c, *rest.values())
        if g > 1:
            reduced = self.linear({m: r // g for m, r in rest.items()}, k // g)
            inner = self._mod_const(reduced, c // g)
            return self.add(self.mul(self.const(g), inner), self.const(k % g))
        inner_sum = self.linear(rest, k)
        if 0 < _mod_constant(inner_sum) <= c:  # x % d is already in 0..d-1
            return inner_sum
        return self._intern("mod", "int", (inner_sum, self.const(c)))

    def _split_multiple(self, a: Term, b: Term) -> tuple[Term, Term]:
        """(q, r) with a = b*q + r, taking into q every part of `a` that `b` divides by form."""
        if b.op == "sum" and (b.const or len(b.coeffs) != 1):
            # Whole multiples of a sum: k*b + r, with k read off the first monomial of b.
            head, head_coeff = next(iter(b.coeffs.items()))
            k, left_over = divmod(a.coeffs.get(head, 0), head_coeff)
            if not k or left_over:
                return self.zero, a
            rest = self._combine(a, 1, b, -k)
            if rest.op == "const" or len(rest.coeffs) < len(a.coeffs):
                return self.const(k), rest
            return self.zero, a
        ((monomial, scale),) = b.coeffs.items()
        quotient: dict[Term, int] = {}
        kept: dict[Term, int] = {}
        q_const = 0
        for m, c in a.coeffs.items():
            below = _multiset_divide(m.factors, monomial.factors) if not c % scale else None
            if below is None:
                kept[m] = c
            elif below:
                part = self._product(below)
                quotient[part] = quotient.get(part, 0) + c // scale
            else:
                q_const += c // scale
        if not quotient and not q_const:
            return self.zero, a
        return self.linear(quotient, q_const), self.linear(kept, a.const)

    def _cancel_common(self, a: Term, b: Term) -> tuple[Term, Term]:
        """a and b without the factors that all their monomials share."""
        if a.op == "const" or a.const or b.const:
            shared: list[Term] = []
        else:
            monomials = [*a.coeffs, *b.coeffs]
            shared = list(monomials[0].factors)
            for m in monomials[1:]:
                left = list(m.factors)
                still = []
                for factor in shared:
                    if factor in left:
                        left.remove(factor)
                        still.append(factor)
                shared = still
        g = math.gcd(a.const, b.const, *a.coeffs.values(), *b.coeffs.values())
        if not shared and g <= 1:
            return a, b
        return self._strip(a, shared, g), self._strip(b, shared, g)

    def _strip(self, a: Term, shared: list[Term], g: int) -> Term:
        coeffs: dict[Term, int] = {}
        const = a.const // g
        for m, c in a.coeffs.items():
            rest = _multiset_divide(m.factors, tuple(shared))
            assert rest is not None
            if rest:
                coeffs[self._product(rest)] = c // g
            else:
                const += c // g
        return self.linear(coeffs, const)

    def _divide_exactly(self, a: Term, b: Term) -> Term | None:
        """The q with a = b*q as polynomials, or None. Long division by the leading monomial."""
        if b.op == "const" or len(a.coeffs) > 64 or len(b.coeffs) > 16:
            return None
        lead = max(b.coeffs, key=_grade)
        lead_coeff = b.coeffs[lead]
        quotient: Term = self.zero
        rest = a
        for _ in range(64):
            if rest.op == "const":
                return quotient if not rest.const else None
            top = max(rest.coeffs, key=_grade)
            below = _multiset_divide(top.factors, lead.factors)
            if below is None or rest.coeffs[top] % lead_coeff:
                return None
            coeff = rest.coeffs[top] // lead_coeff
            step = self.linear({self._product(below): coeff}) if below else self.const(coeff)
            quotient = self.add(quotient, step)
            rest = self.sub(rest, self.mul(step, b))
        return None

    # -- other integer operations ----------------------------------------------------------

    def pow(self, a: Term, b: Term) -> Term:
        """a ** b. Of integers: an integer for b >= 0; a negative exponent is not an integer."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return self.pow(*ints) if ints else self._real_op("fpow", a, b, lambda x, y: x**y)
        if b.op == "const":
            if b.const < 0:
                return self._real_op("fpow", a, b, lambda x, y: x**y)
            if a.op == "const":
                return self.const(a.const**b.const)
            if b.const == 0:
                return self.one
            if b.const <= _EXPAND_POWER:
                result = a
                for _ in range(b.const - 1):
                    result = self.mul(result, a)
                return result
        if a is self.one:
            return a
        return self._intern("pow", "int", (a, b))

    def abs(self, a: Term) -> Term:
        """The absolute value."""
        if a.sort == "bool":
            return self.to_int(a)
        if a.op == "const":
            return self.const(abs(a.args[0]))
        if a.sort == "real":
            return a if a.op == "fabs" else self._intern("fabs", "real", (a,))
        if a.op == "abs":
            return a
        if a.op == "sum" and _leads_negative(a):
            return self.abs(self.neg(a))
        g = math.gcd(a.const, *a.coeffs.values())
        if g > 1:
            inner = self.linear({m: c // g for m, c in a.coeffs.items()}, a.const // g)
            return self.mul(self.const(g), self.abs(inner))
        return self._intern("abs", "int", (a,))

    def min(self, a: Term, b: Term) -> Term:
        """The smaller of two."""
        return self._extremum("min", a, b)

    def max(self, a: Term, b: Term) -> Term:
        """The larger of two."""
        return self._extremum("max", a, b)

    def _extremum(self, op: str, a: Term, b: Term) -> Term:
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return (
                self._extremum(op, *ints)
                if ints
                else self._real_op("f" + op, a, b, min if op == "min" else max)
            )
        key = (op, a, b)
        found = self._op_memo.get(key)
        if found is not None:
            return found
        other = "max" if op == "min" else "min"
        parts: dict[Term, Term] = {}
        for operand in (a, b):
            for part in operand.args if operand.op == op else (operand,):
                # Terms that differ by a constant compare without knowing their symbols.
                base = part.base if part.op != "const" else self.zero
                best = parts.get(base)
                if best is None or (part.const < best.const) == (op == "min"):
                    parts[base] = part
        # min(a, max(a, b)) is a, and the other way round: absorption.
        kept = [
            p
            for p in parts.values()
            if not (p.op == other and any(q in p.args for q in parts.values()))
        ]
        if len(kept) == 1:
            result = kept[0]
        else:
            result = self._intern(op, "int", tuple(sorted(kept, key=_by_uid)))
        self._op_memo[key] = result
        return result

    def where(self, cond: Term, a: Term, b: Term) -> Term:
        """`a` where `cond` holds, else `b`; of the wider sort of both."""
        if a.sort != b.sort:
            cast = self.to_real if "real" in (a.sort, b.sort) else self.to_int
            a, b = cast(a), cast(b)
        if cond.op == "const":
            return a if cond.args[0] else b
        if a is b:
            return a
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(self.and_(cond, a), self.and_(self.not_(cond), b))
        if cond.op == "not":
            cond, a, b = cond.args[0], b, a
        return self._intern("where", a.sort, (cond, a, b))

    def bit_and(self, a: Term, b: Term) -> Term:
        """a & b, bitwise on integers, logical on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.and_(a, b)
        return self._bits("bit_and", a, b, lambda x, y: x & y, unit=-1, absorbing=0)

    def bit_or(self, a: Term, b: Term) -> Term:
        """a | b, bitwise on integers, logical on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(a, b)
        return self._bits("bit_or", a, b, lambda x, y: x | y, unit=0, absorbing=-1)

    def bit_xor(self, a: Term, b: Term) -> Term:
        """a ^ b, bitwise on integers, "exactly one" on booleans."""
        if a.sort == "bool" and b.sort == "bool":
            return self.or_(self.and_(a, self.not_(b)), self.and_(self.not_(a), b))
        if a is b:
            return self.zero
        return self._bits("bit_xor", a, b, lambda x, y: x ^ y, unit=0, absorbing=None)

    def _bits(
        self,
        op: str,
        a: Term,
        b: Term,
        compute: Callable[[int, int], int],
        *,
        unit: int,
        absorbing: int | None,
    ) -> Term:
        a, b = self.to_int(a), self.to_int(b)
        if a.op == "const" and b.op == "const":
            return self.const(compute(a.const, b.const))
        if b.op == "const":
            a, b = b, a
        if a.op == "const":
            if a.const == unit:
                return b
            if a.const == absorbing:
                return a
        elif a is b:
            return a
        return self._intern(op, "int", tuple(sorted((a, b), key=_by_uid)))

    def lshift(self, a: Term, b: Term) -> Term:
        """a << b for b >= 0."""
        a, b = self.to_int(a), self.to_int(b)
        if b.op == "const":
            if b.const < 0:
                raise ValueError("negative shift count")
            return self.mul(self.const(1 << b.const), a)
        if a is self.zero:
            return a
        return self._intern("lshift", "int", (a, b))

    def rshift(self, a: Term, b: Term) -> Term:
        """a >> b for b >= 0: the floor of a divided by 2**b."""
        a, b = self.to_int(a), self.to_int(b)
        if b.op == "const":
            if b.const < 0:
                raise ValueError("negative shift count")
            return self.floordiv(a, self.const(1 << b.const))
        if a is self.zero or a is self.minus_one:
            return a
        return self._intern("rshift", "int", (a, b))

    # -- casts -----------------------------------------------------------------------------

    def to_int(self, a: Term) -> Term:
        """A boolean as 0 or 1; an integer as it is."""
        if a.sort == "bool":
            return self.where(a, self.one, self.zero)
        if a.sort == "real":
            raise TypeError(f"{a} is real; floor, ceil, trunc or round it first")
        return a

    def _as_ints(self, a: Term, b: Term) -> tuple[Term, Term] | None:
        """Both operands as integers, booleans counting as 0 and 1; None where one is real."""
        if a.sort == "real" or b.sort == "real":
            return None
        return self.to_int(a), self.to_int(b)

    def to_real(self, a: Term) -> Term:
        """float(a): the nearest double."""
        if a.sort == "real":
            return a
        a = self.to_int(a)
        if a.op == "const":
            return self.const(float(a.const))
        return self._intern("to_real", "real", (a,))

    def to_bool(self, a: Term) -> Term:
        """bool(a): whether `a` is not zero."""
        if a.sort == "bool":
            return a
        return self.ne(a, self.zero if a.sort == "int" else self.const(0.0))

    # -- reals -----------------------------------------------------------------------------

    def _real_op(self, op: str, a: Term, b: Term, compute: Callable[[float, float], Any]) -> Term:
        a, b = self.to_real(a), self.to_real(b)
        if a.op == "const" and b.op == "const":
            value = compute(a.args[0], b.args[0])
            if isinstance(value, complex):
                raise ValueError(f"{a} ** {b} is not real")
            return self.const(float(value))
        return self._intern(op, "real", (a, b))

    def _real_add(self, a: Term, b: Term) -> Term:
        # Addition and multiplication of doubles commute; they do not associate.
        a, b = sorted((self.to_real(a), self.to_real(b)), key=_by_uid)
        return self._real_op("fadd", a, b, lambda x, y: x + y)

    def _real_mul(self, a: Term, b: Term) -> Term:
        a, b = sorted((self.to_real(a), self.to_real(b)), key=_by_uid)
        return self._real_op("fmul", a, b, lambda x, y: x * y)

    def truediv(self, a: Term, b: Term) -> Term:
        """a / b as Python divides: of integers, the double nearest to the exact quotient."""
        if b.op == "const" and not b.args[0]:
            raise ZeroDivisionError(f"({a}) / 0")
        if a.sort == "int" and b.sort == "int":
            if a.op == "const" and b.op == "const":
                return self.const(a.const / b.const)
            if b is self.one:
                return self.to_real(a)
            return self._intern("truediv", "real", (a, b))
        ints = self._as_ints(a, b)
        if ints:
            return self.truediv(*ints)
        return self._real_op("fdiv", a, b, lambda x, y: x / y)

    def floor(self, a: Term) -> Term:
        """The largest integer at most `a`."""
        return self._to_integer("floor", a, math.floor)

    def ceil(self, a: Term) -> Term:
        """The smallest integer at least `a`."""
        return self._to_integer("ceil", a, math.ceil)

    def trunc(self, a: Term) -> Term:
        """`a` rounded towards zero, as an integer."""
        return self._to_integer("trunc", a, math.trunc)

    def round(self, a: Term, ndigits: int | None = None) -> Term:
        """`a` rounded half to even; with `ndigits`, a real (of an integer, an integer)."""
        if ndigits is None:
            return self._to_integer("round", a, round)
        if a.sort == "int":
            if ndigits >= 0:
                return a
            if a.op == "const":
                return self.const(round(a.const, ndigits))
            return self._intern("round_int", "int", (a, self.const(ndigits)))
        if a.op == "const":
            return self.const(round(a.args[0], ndigits))
        return self._intern("round_digits", "real", (a, self.const(ndigits)))

    def _to_integer(self, op: str, a: Term, compute: Callable[[float], int]) -> Term:
        if a.sort != "real":
            return self.to_int(a)
        if a.op == "const":
            return self.const(compute(a.args[0]))
        return self._intern(op, "int", (a,))

    def is_integer(self, a: Term) -> Term:
        """Whether a real has no fractional part."""
        if a.sort != "real":
            return self.true
        if a.op == "const":
            return self.const(a.args[0].is_integer())
        if a.op == "to_real":
            return self.true
        return self._intern("is_integer", "bool", (a,))

    def function(self, name: str, a: Term) -> Term:
        """A function of `math` by its name (``"sqrt"``, ``"sin"``, …) applied to a real."""
        compute = getattr(math, name, None)
        if name not in MATH_FUNCTIONS or compute is None:
            raise ValueError(f"no real function named {name!r}; known: {', '.join(MATH_FUNCTIONS)}")
        a = self.to_real(a)
        if a.op == "const":
            return self.const(float(compute(a.args[0])))
        return self._intern(name, "real", (a,))

    # -- conditions --------------------------------------------------------------------------

    def eq(self, a: Term, b: Term) -> Term:
        """a == b"""
        if a.sort == "int" and b.sort == "int":
            return self._eq_zero(self.sub(a, b))
        if a.sort == "bool" and b.sort == "bool":
            return self.not_(self.bit_xor(a, b))
        ints = self._as_ints(a, b)
        if ints:
            return self.eq(*ints)
        a, b = sorted((self.to_real(a), self.to_real(b)), key=_by_uid)
        return self._real_compare("feq", a, b, lambda x, y: x == y)

    def _eq_zero(self, p: Term) -> Term:
        if p.op == "const":
            return self.const(p.const == 0)
        decided = self._split_where(p, self._eq_zero)
        if decided is not None:
            return decided
        coeffs = p.coeffs
        g = math.gcd(*coeffs.values())
        if p.const % g:
            return self.false
        # The monomial made first has a positive coefficient.
        if coeffs[min(coeffs, key=_by_uid)] < 0:
            g = -g
        if g != 1:
            p = self.linear({m: c // g for m, c in coeffs.items()}, p.const // g)
        return self._intern("eq", "bool", (p,))

    def ge_zero(self, p: Term) -> Term:
        """p >= 0 of an integer term."""
        if p.op == "const":
            return self.const(p.const >= 0)
        decided = self._split_where(p, self.ge_zero)
        if decided is not None:
            return decided
        g = math.gcd(*p.coeffs.values())
        if g > 1:  # g*x + k >= 0 just when x >= ceil(-k / g)
            p = self.linear({m: c // g for m, c in p.coeffs.items()}, p.const // g)
        return self._intern("ge", "bool", (p,))

    def _split_where(self, p: Term, test: Callable[[Term], Term]) -> Term | None:
        """`test(p)` by cases, where p is a choice between two constants; else None.

        So a condition that was cast to an integer and is asked about comes back as itself.
        """
        if len(p.coeffs) != 1:
            return None
        ((atom, coeff),) = p.coeffs.items()
        if atom.op != "where" or atom.args[1].op != "const" or atom.args[2].op != "const":
            return None
        cond, a, b = atom.args
        scale, const = self.const(coeff), self.const(p.const)
        when_true = test(self.add(self.mul(scale, a), const))
        when_false = test(self.add(self.mul(scale, b), const))
        return self.where(cond, when_true, when_false)

    def ne(self, a: Term, b: Term) -> Term:
        """a != b"""
        return self.not_(self.eq(a, b))

    def le(self, a: Term, b: Term) -> Term:
        """a <= b"""
        if a.sort == "real" or b.sort == "real":
            a, b = self.to_real(a), self.to_real(b)
            return self._real_compare("fle", a, b, lambda x, y: x <= y)
        return self.ge_zero(self.sub(self.to_int(b), self.to_int(a)))

    def lt(self, a: Term, b: Term) -> Term:
        """a < b"""
        if a.sort == "real" or b.sort == "real":
            a, b = self.to_real(a), self.to_real(b)
            return self._real_compare("flt", a, b, lambda x, y: x < y)
        gap = self.sub(self.to_int(b), self.to_int(a))
        return self.ge_zero(self.add(gap, self.minus_one))

    def _real_compare(
        self, op: str, a: Term, b: Term, compute: Callable[[float, float], bool]
    ) -> Term:
        if a.op == "const" and b.op == "const":
            return self.const(compute(a.args[0], b.args[0]))
        return self._intern(op, "bool", (a, b))

    def not_(self, a: Term) -> Term:
        """The negation of a condition."""
        if a.sort != "bool":
            raise TypeError(f"{a} is {a.sort}; only a condition can be negated")
        found = self._not_memo.get(a)
        if found is None:
            # De Morgan's rules, operands first: conditions nest deeply and share their parts.
            memo = self._not_memo
            for part in _postorder(a, lambda t: t.sort == "bool" and t not in memo):
                memo[part] = self._negated(part)
            found = memo[a]
        return found

    def _negated(self, a: Term) -> Term:
        """The negation of a condition whose operands' negations are known."""
        if a.op == "const":
            return self.const(not a.args[0])
        if a.op == "not":
            inner: Term = a.args[0]
            return inner
        if a.op == "ge":  # not p >= 0 is -p - 1 >= 0
            return self.ge_zero(self._combine(a.args[0], -1, self.minus_one, 1))
        if a.op == "and":
            return self.or_(*(self._not_memo[x] for x in a.args))
        if a.op == "or":
            return self.and_(*(self._not_memo[x] for x in a.args))
        # Real comparisons keep their negation: with NaN, not a < b is not b <= a.
        return self._intern("not", "bool", (a,))

    def and_(self, *conditions: Term) -> Term:
        """All of the conditions hold."""
        return self._junction("and", conditions, self.true, self.false)

    def or_(self, *conditions: Term) -> Term:
        """At least one of the conditions holds."""
        return self._junction("or", conditions, self.false, self.true)

    def _junction(self, op: str, conditions: tuple[Term, ...], unit: Term, absorbing: Term) -> Term:
        parts: dict[Term, None] = {}
        for condition in conditions:
            if condition.sort != "bool":
                raise TypeError(f"{condition} is {condition.sort}, not a condition")
            members: tuple[Term, ...] = condition.args if condition.op == op else (condition,)
            for part in members:
                if part is absorbing:
                    return absorbing
                if part is not unit:
                    parts[part] = None
        if any(self.not_(part) in parts for part in parts if part.op not in ("and", "or")):
            return absorbing
        if not parts:
            return unit
        if len(parts) == 1:
            (only,) = parts
            return only
        return self._intern(op, "bool", tuple(sorted(parts, key=_by_uid)))


MATH_FUNCTIONS = (
    "sqrt",
    "cos",
    "cosh",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "asin",
    "acos",
    "atan",
    "exp",
    "log",
    "log2",
)
"""The functions of `math` that `Table.function` knows."""


def _mod_constant(term: Term) -> int:
    """The d of a term ``x % d`` with constant d, 0 for every other term."""
    if term.op == "mod" and term.args[1].op == "const":
        divisor: int = term.args[1].const
        return divisor
    return 0


def _by_uid(term: Term) -> int:
    return term.uid


def _grade(monomial: Term) -> tuple[int, tuple[int, ...]]:
    """A monomial order (degree first), under which long division ends."""
    return len(monomial.factors), tuple(sorted((f.uid for f in monomial.factors), reverse=True))


def _leads_negative(a: Term) -> bool:
    return a.coeffs[min(a.coeffs, key=_by_uid)] < 0


def _whole_factors(a: Term) -> tuple[Term, ...]:
    """The factors of `a` where a sum is not to be multiplied out."""
    return a.factors if a.is_monomial else (a,)

"""The limits of the prover's searches. A search that meets one is weaker, never wrong."""

from __future__ import annotations

# Sums of more monomials are bounded by intervals and by assumed bounds of themselves alone, and
# equations of them are not solved: every fact would grow by their terms.
LONG = 24

# Conditions of more parts than this are decided by bounds alone, and not case by case.
LARGE = 100

# The nesting of terms up to which intervals are found by recursion, and the bits of their ends.
DEEP = 40
BITS = 4096

# The deepest nesting of searches for a bound, and the number of terms that one may look at.
DEPTH = 4
FUEL = 120
# Longer sums have no squares completed in them: that makes them longer still.
SHORT = 8
# The facts that may be added to a sum at one step of a search.
ADDED = 32

# The bounds that one new bound may move along the known orders. (Orders that contradict each
# other would move them for ever.)
PROPAGATED = 512
# The symbols that a search for a cycle of orders may look at.
CYCLE = 32
# The facts that may follow from one another in a row.
FOLLOWING = 40

# The cases of a case distinction: values of symbols with small ranges, known disjunctions, the
# parts of a condition that is decided by its opposite, the parts of a disjunction, and the facts
# that each case may carry over.
VALUES = 24
DISJUNCTIONS = 3
PARTS = 8
BRANCHES = 16
CARRIED = 100
# The values of a quotient that are supposed one by one.
QUOTIENTS = 4
# The remainders of one symbol that are supposed one by one.
REMAINDERS = 8
# The symbols that are supposed to be above, at and below zero.
SIGNS = 2
# The choices of a condition that are tried, and the branches of each.
CHOSEN = 3
# The questions that may lead from one to the next, and the questions that one may lead to in all.
NESTED = 40
STEPS = 600
# The terms that the searches for bounds may look at in all of these (more than four times what a
# question of the test suites that has an answer takes); after that, each may look at one.
LOOKED = 4000
# The largest known product whose divisors are tried.
DIVIDEND = 10_000
# The depth up to which the parts of a condition are reduced.
REDUCED = 8
# The divisions by remainders and replacements of products from one question to the next.
DIVIDED = 2

# The assignments that the search for an example may try, and the symbols that it takes on.
TRIES = 20_000
SYMBOLS = 12

# Of a refutation: the facts and the operations that it takes, the products of inequalities, the
# summands of an inequality that is multiplied, and the factors of a product that is split in all
# ways.
NEAR = 24
ATOMS = 16
PRODUCTS = 120
SUMMANDS = 6
FACTORS = 6
# The second tries that one question may have, its sub-questions included, and those of one way to
# decide it.
TRIES_AGAIN = 24
TRIES_OF_A_WAY = 12
# The powers of constants in a condition that are taken apart, and the coefficients in exponents.
FEW_POWERS = 8
EXPONENT = 8
# The digits that a known sum is split into.
DIGITS = 4

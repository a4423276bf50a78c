"""Translation validation: z3 checks that the produced checks imply all that tracing relied on.

z3 gives a second opinion, apart from symfx's prover. For all inputs that pass the checks, each
guard must hold, each question must have the answer that tracing took, and each replaced symbol
must equal its replacement. Idea and name: Pnueli, Siegel, Singerman, "Translation Validation"
(1998).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from symfx import config
from symfx.algebra import Scalar, Term, evaluate
from symfx.algebra.reasoning.facts import UNDEFINED
from symfx.algebra.reasoning.z3_prover import Z3Terms, needs_z3
from symfx.errors import SymfxError

if TYPE_CHECKING:
    from symfx.algebra import Table
    from symfx.symbolic_shapes.explain.provenance import Provenance

__all__ = ["TranslationValidator", "ValidationError"]

log = logging.getLogger("symfx.symbolic_shapes")


_REPORT = (
    "this is an error in symfx; please report it with the event log of the ShapeEnv "
    "(ShapeEnv(should_record_events=True), symfx.recording.EventLog)"
)


class ValidationError(SymfxError):
    """Inputs pass the produced checks although the trace is wrong for them.

    Attributes:
        model: such inputs: the value of each size or number, by its source or symbol.
        failed: the claims of the trace that do not hold for them.
    """

    def __init__(
        self, model: Mapping[str, Scalar | str], failed: list[str], fix: str = _REPORT
    ) -> None:
        self.model = dict(model)
        self.failed = failed
        values = ", ".join(f"{name} = {value}" for name, value in sorted(self.model.items()))
        super().__init__(
            "translation validation failed: inputs pass the checks for which the trace is wrong"
            f"\n  such inputs: {values}" + "".join(f"\n  relied on: {text}" for text in failed),
            fix=fix,
        )


class TranslationValidator:
    """Collects the claims that a trace relies on, and checks that the produced checks imply them.

    Args:
        table: the table of the environment's terms.
        here: returns the current provenance: the user's line and the operator that run now.

    Attributes:
        claims: each condition that tracing relied on, with the line that did.
        stated: the conditions that the program itself states, such as by `torch._check`.
    """

    def __init__(self, table: Table, here: Callable[[], Provenance]) -> None:
        needs_z3()
        self.table = table
        self._here = here
        self.claims: dict[Term, Provenance] = {}
        self.stated: dict[Term, None] = {}

    def rely(self, term: Term, value: Scalar) -> None:
        """Note that tracing relied on the value of a term."""
        if term.sort == "bool":
            condition = term if value else self.table.not_(term)
        else:
            condition = self.table.eq(term, self.table.const(value))
        if condition.op != "const" and condition not in self.claims:
            self.claims[condition] = self._here()

    def state(self, condition: Term) -> None:
        """Note that the program states a condition."""
        self.stated[condition] = None

    def validate(self, checks: Iterable[Term], relied: Iterable[Term] = ()) -> bool:
        """Check that the claims follow from the checks.

        Args:
            checks: the conditions that inputs must satisfy.
            relied: claims beside those that were noted.

        Returns:
            Whether all claims follow; False where z3 finds no answer in the time that
            ``config.translation_validation_timeout`` gives it, which is logged.

        Raises:
            ValidationError: inputs pass the checks and break a claim.
        """
        z3 = needs_z3()
        terms = Z3Terms(z3)
        given = [*self.stated, *checks]
        claims = [*self.claims, *relied]
        solver = z3.Solver()
        solver.set("timeout", config.translation_validation_timeout)
        solver.add(*map(terms.formula, given), *terms.meaning(*given, *claims))
        for condition in (*given, *claims):
            solver.add(*terms.has_value(condition))
        solver.add(z3.Or(*(z3.Not(terms.formula(claim)) for claim in claims)))
        answer = solver.check()
        if answer == z3.unsat:
            return True
        if answer == z3.sat:
            values = terms.values(solver.model(), [*given, *claims])
            if all(_holds(condition, values) for condition in given):
                broken = [c for c in claims if _holds(c, values) is False]
                if broken:
                    raise ValidationError(
                        {symbol.name: value for symbol, value in values.items()},
                        [self._text(c) for c in broken],
                    )
        # z3 models some operations (powers, floats) only roughly: its model is no real input.
        log.warning("translation validation came to no answer on %d claims", len(claims))
        return False

    def _text(self, claim: Term) -> str:
        if config.translation_validation_no_bisect or claim not in self.claims:
            return str(claim)
        return f"{claim} ({self.claims[claim]})"


def _holds(condition: Term, values: Mapping[Term, Any]) -> bool | None:
    """Whether a condition holds for values; None where it has no value for them."""
    try:
        return bool(evaluate(condition, values))
    except UNDEFINED:
        return None

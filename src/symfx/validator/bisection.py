"""The first thing that a trace relied on and that its checks do not imply."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from symfx.errors import SymfxError
from symfx.symbolic_shapes import ValidationError

if TYPE_CHECKING:
    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["BisectValidationException", "bisect"]

log = logging.getLogger("symfx.validator")


class BisectValidationException(ValidationError):
    """Inputs pass the checks of a trace although it is wrong for them; with the first cause.

    Attributes:
        claim: the first condition that the trace relied on and the checks do not imply.
    """

    def __init__(self, cause: ValidationError) -> None:
        super().__init__(cause.model, cause.failed[:1])
        self.claim = cause.failed[0]


def bisect(shape_env: ShapeEnv) -> None:
    """Check the guards of an environment again, and name the first claim that they miss.

    torch's function replays the event log up to each guard. The claims of our environments
    remember the line that made them, so nothing is replayed, and no log is needed.

    Args:
        shape_env: an environment with a list of its inputs (``ShapeEnv(tracked_fakes=[...])``),
            made while ``config.translation_validation`` was on.

    Raises:
        BisectValidationException: inputs pass the checks although the trace is wrong for them.
        SymfxError: the environment does not validate, or keeps no list of its inputs.
    """
    if shape_env.validator is None:
        raise SymfxError(
            "this ShapeEnv does not validate",
            fix="make it while symfx.config.translation_validation is True",
        )
    inputs = shape_env.tracked_fakes
    if inputs is None:
        raise SymfxError(
            "this ShapeEnv keeps no list of its inputs, from which the checks are made",
            fix="make it as ShapeEnv(tracked_fakes=[]), and add a TrackedFake for each input",
        )
    try:
        shape_env.produce_guards(
            [tracked.fake for tracked in inputs],
            [tracked.source for tracked in inputs],
            input_contexts=[tracked.symbolic_context for tracked in inputs],
        )
    except ValidationError as error:
        raise BisectValidationException(error) from error
    log.info("translation validation: the checks imply all that the trace relied on")

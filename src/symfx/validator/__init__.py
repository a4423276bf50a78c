"""Translation validation by z3, under the names of torch.fx.experimental.validator."""

from symfx.symbolic_shapes import ValidationError as ValidationException
from symfx.validator.bisection import BisectValidationException, bisect
from symfx.validator.operations import z3op
from symfx.validator.text import z3str
from symfx.validator.translation import (
    PopulateValidator,
    SympyToZ3,
    TranslationValidator,
    translation_validation_enabled,
    translation_validation_timeout,
)

__all__ = [
    "BisectValidationException",
    "PopulateValidator",
    "SympyToZ3",
    "TranslationValidator",
    "ValidationException",
    "bisect",
    "translation_validation_enabled",
    "translation_validation_timeout",
    "z3op",
    "z3str",
]

"""Why inputs do not fit a trace: one cause for each reason, and the nearest inputs that fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.text import Text

from symfx.dtypes import short_name
from symfx.errors import InputMismatchError, describe
from symfx.explanation.answers import line_as_data
from symfx.explanation.causes import RejectionCause, causes_of
from symfx.explanation.nearest import nearest_values
from symfx.explanation.written_inputs import read_call
from symfx.symbolic_shapes.checks.measures import Measure
from symfx.tracing.admission import Admission
from symfx.tracing.example_values import inputs_at
from symfx.tracing.markup import element
from symfx.tracing.mismatches import LeafMeasure, Mismatch
from symfx.tracing.traced_model import TracedModel

__all__ = ["Rejection", "RejectionCause", "rejection_of", "why_not"]


@dataclass(frozen=True, repr=False)
class Rejection:
    """Why a trace does not hold for inputs; empty, and false, where it does.

    ``print`` shows a sentence for each cause, and the nearest inputs that fit. The causes are those
    of iteration: ``for cause in rejection``.

    Attributes:
        causes: the causes. Several conditions out of one line of the program are one cause.
        nearest: the nearest inputs that the trace admits, as text: the path of each input with its
            dtype and shape, or its value. Fewest sizes differ from those of the inputs, and of
            such inputs those whose sizes differ least, as far as the search finds them.
        sizes: the values of the dimensions by name in the nearest inputs.
    """

    causes: tuple[RejectionCause, ...] = ()
    nearest: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    _made: tuple[TracedModel, Mapping[Any, int]] | None = field(
        default=None, repr=False, compare=False
    )

    def __bool__(self) -> bool:
        return bool(self.causes)

    def __len__(self) -> int:
        return len(self.causes)

    def __iter__(self) -> Iterator[RejectionCause]:
        return iter(self.causes)

    def nearest_call(self, seed: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments of a call with the nearest inputs.

        Their values are drawn in the manner of the example's.

        Args:
            seed: the seed of the values.

        Raises:
            InputMismatchError: the inputs fit already.
        """
        if self._made is None:
            raise InputMismatchError(
                "these inputs fit", where="nearest_call()", fix="call the trace with them"
            )
        trace, values = self._made
        admission = trace.admission
        generator = torch.Generator().manual_seed(seed)
        return admission.layout.unflatten(_leaves_at(admission, values, generator))

    def as_data(self) -> dict[str, Any]:
        """The causes and the nearest inputs as plain data for JSON."""
        return {
            "fits": not self.causes,
            "causes": [
                {
                    "kind": cause.kind,
                    "sentence": cause.sentence,
                    "inputs": list(cause.inputs),
                    "conditions": list(cause.conditions),
                    "operator": cause.operator,
                    "line": line_as_data(cause.line),
                }
                for cause in self.causes
            ],
            "nearest": dict(self.nearest),
            "sizes": dict(self.sizes),
        }

    def describe(self) -> list[Text]:
        """The causes and the nearest inputs as lines with styles."""
        if not self.causes:
            return [Text("these inputs fit", style="green")]
        lines = [Text("these inputs do not fit:", style="bold")]
        for cause in self.causes:
            lines.append(Text(f"  {cause.sentence}"))
            if cause.line is not None:
                lines.append(Text.assemble("    at ", (cause.line.with_text, "cyan")))
        lines.append(Text("the nearest inputs that fit:", style="bold"))
        lines += [Text(f"  {path}: {text}", style="green") for path, text in self.nearest.items()]
        return lines

    def __repr__(self) -> str:
        causes = "; ".join(cause.sentence for cause in self.causes)
        return f"<symfx.Rejection: {causes or 'these inputs fit'}>"

    def __str__(self) -> str:
        return "\n".join(line.plain for line in self.describe())

    def __rich__(self) -> Text:
        return Text("\n").join(self.describe())

    def _repr_html_(self) -> str:
        if not self.causes:
            return element("p", "these inputs fit")
        causes = [
            element(
                "li",
                cause.sentence,
                *([" at ", element("code", cause.line.with_text)] if cause.line else []),
            )
            for cause in self.causes
        ]
        nearest = [
            element("li", element("code", f"{path}: {text}")) for path, text in self.nearest.items()
        ]
        return element(
            "div",
            element("strong", "these inputs do not fit"),
            element("ul", *causes),
            element("strong", "the nearest inputs that fit"),
            element("ul", *nearest),
        )


def why_not(trace: TracedModel, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Rejection:
    """Why a trace does not hold for the arguments of a call; see `symfx.Trace.why_not`."""
    admission = trace.admission
    try:
        leaves = read_call(trace, args, kwargs)
    except InputMismatchError as error:
        # Nothing says which argument is which input: the example is the nearest call.
        found = [Mismatch("arguments", error.what)]
        leaves = [leaf.example for leaf in admission.layout.leaves]
    else:
        return rejection_of(trace, leaves)
    return _rejection(trace, leaves, found)


def rejection_of(trace: TracedModel, leaves: Sequence[Any]) -> Rejection:
    """Why a trace does not hold for flat inputs; see `why_not`."""
    found = trace.admission.mismatches(leaves)
    return _rejection(trace, leaves, found) if found else Rejection()


def _rejection(trace: TracedModel, leaves: Sequence[Any], found: Sequence[Mismatch]) -> Rejection:
    admission = trace.admission
    values = nearest_values(admission, leaves)
    return Rejection(
        causes_of(admission, found),
        _in_words(admission, values),
        {symbol.name: value for symbol, value in values.items()},
        (trace, values),
    )


def _leaves_at(
    admission: Admission, values: Mapping[Any, int], generator: torch.Generator
) -> list[Any]:
    """Flat inputs at these values of the symbols, items of tensors among them."""
    leaves = inputs_at(admission, values, generator)
    for symbol, leaf in admission.items.items():
        if symbol in values:
            at = admission.layout.leaves.index(leaf)
            leaves[at] = torch.full_like(leaf.example, values[symbol])
    return leaves


def _in_words(admission: Admission, values: Mapping[Any, int]) -> dict[str, str]:
    """The inputs at these values of the symbols, as text."""
    items = {leaf: values[symbol] for symbol, leaf in admission.items.items() if symbol in values}
    texts = {}
    for leaf in admission.layout.leaves:
        example = leaf.example
        if isinstance(example, torch.Tensor):
            sizes = [
                admission.value_at(LeafMeasure(leaf, Measure("size", i)), values)
                for i in range(example.dim())
            ]
            text = f"{short_name(example.dtype)}[{', '.join(map(str, sizes))}]"
            texts[leaf.path] = f"{text} = {items[leaf]}" if leaf in items else text
        else:
            number = LeafMeasure(leaf, Measure("value"))
            known = number in admission.facts
            value = admission.value_at(number, values) if known else example
            texts[leaf.path] = str(value) if known else describe(value)
    return texts

"""Results of operators, in the form in which the operation cache makes them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.fake_operators.descriptions import Description, Descriptions, TensorState, state_of
from symfx.fake_operators.environment import Environment
from symfx.fake_operators.operators import OperatorFacts
from symfx.fake_operators.rules import Arg, New, Number, Result, View
from symfx.torch_bridge.fake_tensors import (
    attributes_at_birth,
    copy_metadata,
    fake_from_meta,
    plain_alias,
    storage_id,
    storage_marker,
    view_metadata,
)
from symfx.torch_bridge.modes import BelowTorch

__all__ = ["Entry", "Output", "Results", "as_rule_results", "tensors_in"]


class Output:
    """One tensor that an operator returned, as a recipe.

    Attributes:
        argument: the position of the argument that was returned itself, else -1.
        base: for a view, the position of the argument that it views, else -1.
        layout: for a view, its sizes, strides and offset.
        template: for a tensor with a storage of its own, a meta tensor like it.
        description: the tensor's description.
        device: the tensor's device.
        attributes: the contents of its ``__dict__`` at birth.
    """

    __slots__ = (
        "argument",
        "attributes",
        "base",
        "description",
        "device",
        "layout",
        "template",
    )

    def __init__(
        self, description: Description, device: torch.device, attributes: dict[str, Any]
    ) -> None:
        self.description = description
        self.device = device
        self.attributes = attributes
        self.argument = -1
        self.base = -1
        self.layout: tuple[Any, Any, Any] = ((), (), 0)
        self.template: Any = None


class Entry:
    """The results of an operator for one key.

    Attributes:
        outputs: one for each result; None for a result that was None.
        sequence: ``list`` or ``tuple`` where the operator returns several, else None.
    """

    __slots__ = ("outputs", "sequence")

    def __init__(self, outputs: tuple[Output | None, ...], sequence: type | None = None) -> None:
        self.outputs = outputs
        self.sequence: Any = sequence


class Results:
    """The maker of results, and of the entries that results are made from.

    Args:
        mode: the fake mode that the results belong to.
        env: its environment, or None where that is not symfx's.
        descriptions: the descriptions of the mode's tensors.
    """

    def __init__(
        self, mode: FakeTensorMode, env: Environment | None, descriptions: Descriptions
    ) -> None:
        self._mode = mode
        self._env = env
        self._descriptions = descriptions
        self._describe = descriptions.describe
        self._fake_of = descriptions.fake_of
        self._mark = storage_marker(mode)
        self._attributes: dict[torch.device, dict[str, Any]] = {}

    def build(
        self, entry: Entry, args: Sequence[Any], snapshots: bool = False
    ) -> list[tuple[Any, Any]]:
        """The results of a call that the cache knows.

        Args:
            entry: the entry of the call.
            args: the positional arguments of the call.
            snapshots: whether to make snapshots of the results for a graph's metadata, too.

        Returns:
            For each output the result and its snapshot; None for an output that was None.
        """
        # Looked up before the guard: an argument met for the first time is asked by torch.
        elems = [
            None
            if output is None or output.template is not None
            else self._elem(args[output.argument if output.base < 0 else output.base])
            for output in entry.outputs
        ]
        made: list[tuple[Any, Any]] = []
        with BelowTorch():
            for output, elem in zip(entry.outputs, elems, strict=True):
                if output is None:
                    made.append((None, None))
                    continue
                result = None
                if output.argument >= 0:
                    result = self._fake_of(args[output.argument])
                elif output.base >= 0:
                    elem = view_metadata(elem, *output.layout)  # noqa: PLW2901
                else:
                    elem = copy_metadata(output.template)  # noqa: PLW2901
                    self._mark(elem)
                device, attributes = output.device, output.attributes
                if result is None:
                    result = fake_from_meta(elem, device, attributes)  # type: ignore[arg-type]
                    state = TensorState()
                    state.description = output.description
                    state.elem = elem
                    result._symfx = state  # type: ignore[attr-defined]
                snapshot = None
                if snapshots:
                    snapshot = fake_from_meta(elem, device, attributes)  # type: ignore[arg-type]
                made.append((result, snapshot))
        return made

    def _elem(self, tensor: Any) -> torch.Tensor:
        """A plain meta tensor on the storage of a tensor argument."""
        fake = self._fake_of(tensor)
        state = state_of(fake)
        if state.elem is None:
            state.elem = plain_alias(fake)
        return state.elem

    def copies(self, values: Iterable[Any], own_storage: bool = False) -> tuple[Any, ...]:
        """Arguments with a copy of each tensor, on which torch may note what it likes.

        Args:
            values: the arguments, with fake tensors that have a description.
            own_storage: whether a copy has a storage of its own, rather than that of the tensor.
        """
        return tuple([self._copy(value, own_storage) for value in values])

    def _copy(self, value: Any, own_storage: bool) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self.copies(value, own_storage))
        if type(value) is not FakeTensor:
            return value
        elem = self._elem(value)
        attributes = self._attributes_for(value.fake_device)
        with BelowTorch():
            if own_storage:
                elem = copy_metadata(elem)
                self._mark(elem)
            copy = fake_from_meta(elem, value.fake_device, attributes)
            return copy.requires_grad_(value.requires_grad)

    # -- entries -----------------------------------------------------------------------------------

    def of_rule(self, result: Any, shapes: Sequence[Any], device: torch.device | None) -> Entry:
        """The entry for the answer of a rule.

        Args:
            result: the answer.
            shapes: the arguments as the rule saw them.
            device: the device of new tensors for which the rule names none.
        """
        several = isinstance(result, (list, tuple))
        return Entry(
            tuple(self._output(r, shapes, device) for r in (result if several else (result,))),
            type(result) if several else None,
        )

    def _output(
        self, result: Any, shapes: Sequence[Any], device: torch.device | None
    ) -> Output | None:
        if type(result) is New:
            made_on = result.device or device or torch.device("cpu")
            description = self._descriptions.with_key(
                (result.dtype, made_on, result.sizes, result.strides, 0, False)
            )
            output = Output(description, made_on, self._attributes_for(made_on))
            sizes, strides, _ = self._layout(description)
            with BelowTorch():
                output.template = torch.empty_strided(
                    sizes, strides, dtype=result.dtype, device="meta"
                )
            return output
        if type(result) is View:
            base = shapes[result.of]
            description = self._descriptions.with_key(
                (base.dtype, base.device, result.sizes, result.strides, result.offset, False)
            )
            output = Output(description, base.device, self._attributes_for(base.device))
            output.base = result.of
            output.layout = self._layout(description)
            return output
        if result is None:
            return None
        description = shapes[result.position]
        output = Output(description, description.device, self._attributes_for(description.device))
        output.argument = result.position
        return output

    def of_run(
        self, facts: OperatorFacts, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> Entry | None:
        """The entry for the results of a run; None where they must not be made again.

        Args:
            facts: the operator.
            args, kwargs: its arguments, as fake tensors.
            out: its results.
        """
        sequence = list if isinstance(out, list) else tuple if isinstance(out, tuple) else None
        positions = {id(a): i for i, a in enumerate(args)}
        storages: dict[int, list[int]] = {}
        for t in tensors_in((*args, *kwargs.values())):
            position = positions.setdefault(id(t), -1)
            storages.setdefault(storage_id(t), []).append(position)
        outputs: list[Output | None] = []
        own: set[int] = set()
        for result in out if sequence is not None else (out,):
            if result is None:
                outputs.append(None)
                continue
            description = None if type(result) is not FakeTensor else self._describe(result)
            if description is None:
                return None
            output = Output(
                description, result.fake_device, self._attributes_for(result.fake_device)
            )
            shared = storage_id(result)
            if id(result) in positions:
                output.argument = positions[id(result)]
                if output.argument < 0:
                    return None
            elif shared in storages:
                if not self._as_view(output, facts, args, storages[shared]):
                    return None
            elif shared in own:
                return None
            else:
                own.add(shared)
                template = self._elem(result)
                with BelowTorch():
                    output.template = copy_metadata(template)
            if not self._keys_agree(output, result, args):
                return None
            outputs.append(output)
        return Entry(tuple(outputs), sequence)

    def _as_view(
        self,
        output: Output,
        facts: OperatorFacts,
        args: Sequence[Any],
        candidates: list[int],
    ) -> bool:
        """Make `output` a view of an argument; False unless exactly one argument is possible."""
        if facts.func.is_view:
            aliased = [
                i for i, a in enumerate(facts.func._schema.arguments) if a.alias_info is not None
            ]
            candidates = [i for i in candidates if i in aliased]
        if len(candidates) != 1 or candidates[0] < 0:
            return False
        output.base = candidates[0]
        base = self._describe(args[output.base])
        # A view of another dtype counts its strides in other units.
        if base is None or base.dtype is not output.description.dtype:
            return False
        output.layout = self._layout(output.description)
        return True

    def _layout(self, description: Description) -> tuple[list[Any], list[Any], Any]:
        """Sizes, strides and offset as torch takes them."""
        wrap = self._wrap
        return (
            [wrap(n) for n in description.sizes],
            [wrap(n) for n in description.strides],
            wrap(description.offset),
        )

    def _wrap(self, n: Number) -> Any:
        return n if isinstance(n, int) else self._env.wrap(n)  # type: ignore[union-attr]

    def _keys_agree(self, output: Output, result: FakeTensor, args: Sequence[Any]) -> bool:
        """Whether torch dispatches a tensor from the cache as it dispatches torch's own result."""
        ((twin, _),) = self.build(Entry((output,)), args)
        same: bool = torch._C._dispatch_keys(twin) == torch._C._dispatch_keys(result)
        return same

    def _attributes_for(self, device: torch.device) -> dict[str, Any]:
        attributes = self._attributes.get(device)
        if attributes is None:
            attributes = self._attributes[device] = attributes_at_birth(self._mode, device)
        return attributes


def as_rule_results(entry: Entry) -> tuple[Result | None, ...] | None:
    """The results of an entry as a rule would describe them; None where a rule could not."""
    results: list[Result | None] = []
    for output in entry.outputs:
        if output is None:
            results.append(None)
            continue
        found = output.description
        if output.argument >= 0:
            results.append(Arg(output.argument))
        elif output.base >= 0:
            results.append(View(found.sizes, found.strides, found.offset, output.base))
        elif found.inference or found.offset != 0:
            return None
        else:
            results.append(New(found.dtype, found.sizes, found.strides, output.device))
    return tuple(results)


def tensors_in(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    """The tensors among arguments, in lists and tuples too."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)

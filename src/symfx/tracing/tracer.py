"""Trace a model to a graph with symbolic shapes."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast

import torch
from torch.utils import _pytree as pytree

from symfx.dynamic_spec import spec_of_call
from symfx.errors import SpecError, SymfxError, TracingError, describe
from symfx.fake_operators.operators import FROM_START
from symfx.proxy_tensor import make_fx
from symfx.proxy_tensor.branches import recording_branches
from symfx.proxy_tensor.cleanup import remove_unused_operators
from symfx.proxy_tensor.inputs import DynamicShapes, StatedShapes
from symfx.proxy_tensor.modules import ModuleStack
from symfx.proxy_tensor.origins import Origins
from symfx.proxy_tensor.parts import parts_made_singly, with_whole_tuples
from symfx.proxy_tensor.repeated import BackwardOfStampedError, Repeated, RepeatedBlocks
from symfx.proxy_tensor.rewritten_functions import symbolic_numbers
from symfx.proxy_tensor.shape_specs import BoundSpec
from symfx.torch_bridge.modules import (
    call_with_state,
    modules_of,
    named_state,
    state_count,
    walking_once,
)
from symfx.torch_bridge.nested_tensors import with_parts
from symfx.tracing.admission import Admission
from symfx.tracing.arguments import Layout
from symfx.tracing.autocast import Autocast
from symfx.tracing.compiled import running_eagerly, uncompiled
from symfx.tracing.compiling import compiling
from symfx.tracing.dynamic import Entry, entries_of_spec, read_dynamic, read_spec
from symfx.tracing.model_state import (
    Effects,
    MethodModule,
    detach_written_buffers,
    gradients_of,
    module_of,
    untouched,
)
from symfx.tracing.narrowing import refuse_narrowing
from symfx.tracing.packed_sequences import traceable_packing
from symfx.tracing.placeholders import attach_state, name_inputs
from symfx.tracing.refusals import (
    refuse_fake_constants,
    refuse_nested,
    refuse_pins,
    refuse_unknown,
    refuse_unready,
    unfit_output,
    untraceable,
)
from symfx.tracing.stated import Stated, read_where
from symfx.tracing.torch_logs import without_torch_logs
from symfx.tracing.traced_model import name_of
from symfx.tracing.traces import Trace
from symfx.tracing.transformer_masks import transformers_without_a_look
from symfx.user_code import boundary, where

if TYPE_CHECKING:
    from types import MethodType

    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["trace"]

#: The types of constants that fx can write into the output of a graph.
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout)
#: How many names a note lists.
_SHOWN = 4
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def trace(
    model: Callable[..., Any],
    args: Sequence[Any] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Any = None,
    where: str | Sequence[str | Stated] | None = None,
    strict: bool = True,
    pre_dispatch: bool = False,
    repeated: Repeated = "inline",
    cache: bool | str | Path = False,
    **unknown: Never,
) -> Trace:
    """Trace a model on example inputs.

    The nodes of the graph are ATen operators, as they run below autograd and autocast. The graph
    holds for all inputs that `Trace.check` admits. `Trace.verify` compares it with the model.

    Args:
        model: a module, a method of a module, or any function of tensors. A module is traced in
            its current mode (train or eval), with its current parameters.
        args: the positional arguments of an example call; a single tensor means ``(tensor,)``.
        kwargs: its keyword arguments.
        dynamic: the dimensions that may change. None: those that the model's jaxtyping
            annotations name and those of tensors marked by ``mark_dynamic``, otherwise no
            dimension. True: every dimension of every tensor. Otherwise a dict by parameter name
            or position, or a sequence with an entry for each input. The entry of a tensor is a
            tuple with a part for each dimension, a dict ``{dimension: part}``, or text such as
            ``"[batch, 64]"``. A part is a name, an expression of names (``"8*batch"``), a name
            with a range (``"2 <= seq <= 512"``, or a `symfx.Dim`), True (dynamic, unnamed) or
            None (static); ``"*dims"`` stands for leading dimensions. Dimensions of one name are
            equal; unnamed ones are equal if the example's are. An int argument may be dynamic
            too: its entry is a part. A list, tuple or dict of tensors takes a list, tuple or dict
            of entries, one for each member that holds tensors. The dimensions of `torch.export`
            (``Dim``, derived ones, hints, ``ShapesCollection``, ``AdditionalInputs``) are taken
            as they are. Or a spec of `symfx.dynamic_spec`, whose sizes are unbacked: the graph
            asserts the spec. A model whose function has a spec attached needs no `dynamic`.
        where: conditions on the named dimensions that inputs satisfy, such as
            ``"seq % 8 == 0"``, ``"h in {224, 256}"`` or ``"w == h"``. The trace relies on them,
            and `Trace.check` checks them.
        strict: whether it is an error if the program pins a dimension or an int that has an entry
            of its own in ``dynamic``, or needs more of the dimensions in ``where`` than it
            states. Otherwise `Trace.specializations` has it, and the graph holds for its one
            value. No entry of its own have the dimensions of a tensor, or of a container, whose
            entry is True.
        pre_dispatch: whether the nodes are the operators above autograd and autocast, which
            passes of torch decompose further; see `symfx.export`.
        repeated: what to do with submodules of equal calls, such as the layers of a transformer.
            ``"inline"`` runs the first ones alone and records the nodes of the others from them;
            the graph is the same as with ``"off"``, which runs each. ``"subgraph"`` makes one
            subgraph of the block, which the graph calls for each (``invoke_subgraph``). Calls
            are equal if all that their operators depend on can be shown equal.
        cache: True, or a directory: a trace of an equal model and call is read from there, and
            a new one is written there; see `symfx.cache`. `Trace.cache_use` tells which.

    Raises:
        SpecError: ``dynamic`` does not fit the inputs, or an argument is unknown.
        InputMismatchError: the model does not take these arguments.
        TracingError: the model failed, has an effect that a graph cannot hold, or pins a
            dimension that is to be dynamic.
        GuardOnDataDependentSymNode: the model branches on data.

    Example:
        >>> import symfx, torch
        >>> linear, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
        >>> t = symfx.trace(linear, x, dynamic={"input": ("n", None)})
        >>> t(torch.randn(17, 8)).shape
        torch.Size([17, 4])
        >>> bool(t.check(torch.randn(17, 9)))
        False
    """
    refuse_unknown(unknown)
    if repeated not in ("inline", "subgraph", "off"):
        raise SpecError(
            f"repeated is {repeated!r}",
            where="symfx.trace(repeated=...)",
            fix='use "inline", "subgraph" or "off"',
        )
    model = uncompiled(model)
    refuse_unready(model)
    if isinstance(args, torch.Tensor):
        args = (args,)
    if not isinstance(args, (tuple, list)):
        raise SpecError(f"args is {describe(args)}", fix="give the positional arguments as a tuple")
    if not isinstance(kwargs, (Mapping, type(None))):
        raise SpecError(
            f"kwargs is {describe(kwargs)}",
            fix="give all positional arguments as one tuple, as in symfx.trace(model, (x, y))",
        )
    layout = Layout(model, args, kwargs or {})
    refuse_nested(layout)
    stated = read_where(where)
    spec = spec_of_call(model, dynamic)
    if spec is not None:
        if stated:
            raise SpecError(
                "where= names dimensions, and those of a spec of dynamic shapes have no names",
                where="symfx.trace(where=...)",
                fix="give the conditions to the spec: ShapesSpec(..., assumptions=[...])",
            )
        bound = read_spec(layout, spec)
        entries = entries_of_spec(bound)
        traced = _traced(model, layout, entries, repeated, spec=bound, pre_dispatch=pre_dispatch)
        if cache is not False:
            from symfx.tracing.cached import not_cached  # few programs use a cache

            return not_cached(traced, "dynamic= is a spec of symfx.dynamic_spec")
        return traced
    called = model.forward if isinstance(model, torch.nn.Module) else model
    wanted = read_dynamic(layout, dynamic, stated, called)

    def traced_under(conditions: Sequence[Stated]) -> Trace:
        return _traced(
            model, layout, wanted.entries, repeated, stated=conditions, pre_dispatch=pre_dispatch
        )

    def checked() -> Trace:
        traced = traced_under(wanted.stated)
        if strict:
            refuse_pins(traced, wanted.promised)
            refuse_narrowing(traced, wanted.stated)
        return traced

    if cache is False:
        traced = checked()
    else:
        from symfx.tracing.cached import Call, cached_trace

        options = [pre_dispatch, strict, str(repeated), sorted(wanted.promised)]
        options += [str(condition) for condition in wanted.stated]
        traced = cached_trace(cache, Call(model, layout, wanted.entries, options), checked)
    traced.stated = wanted.stated
    traced.traced_under = traced_under
    return traced


def _traced(
    model: Callable[..., Any],
    layout: Layout,
    entries: list[Entry],
    repeated: Repeated,
    **options: Any,
) -> Trace:
    """One run of the tracer; a second one where a program needs gradients of a repeated block."""
    try:
        with walking_once():
            return _Tracing(model, layout, entries, repeated=repeated, **options).run()
    except BackwardOfStampedError:
        return _Tracing(model, layout, entries, repeated="off", **options).run()


class _Tracing:
    """One run of the tracer, from the arguments to a `Trace`."""

    def __init__(
        self,
        model: Callable[..., Any],
        layout: Layout,
        entries: list[Entry],
        spec: BoundSpec | None = None,
        *,
        stated: Sequence[Stated] = (),
        pre_dispatch: bool = False,
        repeated: Repeated = "inline",
    ) -> None:
        self.stated = stated
        self.repeated = repeated
        self.pre_dispatch = pre_dispatch
        self.model = model
        self.layout = layout
        self.entries = entries
        self.spec = spec
        #: The module whose parameters and buffers the graph uses; `caller` is called with
        #: tracing stand-ins for them.
        self.module = module_of(model)
        self._prefix = ""
        if self.module is not None:
            self.caller = self.module
            if self.module is not model:
                self.caller = MethodModule(self.module, cast("MethodType", model).__func__)
                self._prefix = "owner."
        #: Every parameter and buffer once; tied ones go by the first of their names.
        self.state: dict[str, torch.Tensor] = {}
        if self.module is not None:
            parameters, buffers = named_state(self.module)
            self.state = {**parameters, **buffers}
        #: Whether the module holds one of them in several places.
        self._tied = self.module is not None and len(self.state) < state_count(self.module)
        #: Whether the tracer sees a leaf; the other leaves are constants of the graph.
        self.through = [
            isinstance(leaf.example, torch.Tensor) or entry is not None
            for leaf, entry in zip(layout.leaves, entries, strict=True)
        ]
        self.out_spec: pytree.TreeSpec | None = None
        #: The effects of the model beside its result; `run` fills them in.
        self.effects = Effects()
        self.gradients: list[str] = []
        self.argument_changes: list[str] = []

    def run(self) -> Trace:
        """Trace the model."""
        seen = {id(tensor) for tensor in self.state.values()}
        inputs, dynamic = [], []
        for leaf, entry, through in zip(
            self.layout.leaves, self.entries, self.through, strict=True
        ):
            example = leaf.example
            if not through:
                continue
            # A tensor that is passed twice, or is a parameter too, becomes two inputs.
            if id(example) in seen and isinstance(example, torch.Tensor):
                example = example.detach().clone().requires_grad_(example.requires_grad)
            seen.add(id(example))
            inputs.append(example)
            dynamic.append(entry)
        function = self._flat_function()
        entered = [None] * len(self.state) + dynamic
        shapes: DynamicShapes = entered
        if self.stated:
            shapes = StatedShapes(entered, [(s.tree, s.text) for s in self.stated])
        if self.spec is not None:
            described = zip(self.spec.leaves, self.through, strict=True)
            leaves = tuple(entry for entry, through in described if through)
            shapes = BoundSpec((None,) * len(self.state) + leaves, self.spec.assumptions)
        tracer = make_fx(
            function,
            tracing_mode="symbolic",
            pre_dispatch=self.pre_dispatch,
            _allow_non_fake_inputs=True,
            _origins=self._origins(),
            dynamic_shapes=shapes,
        )
        try:
            with (
                untouched(self.model) as self.effects,
                symbolic_numbers(self.model),
                compiling(),
                parts_made_singly(),
                transformers_without_a_look(self.model, self.effects.modules),
                running_eagerly(),
                recording_branches(),
                traceable_packing(),
                without_torch_logs(),
            ):
                graph_module = tracer(*self.state.values(), *inputs)
        except SymfxError as error:
            if type(error) is not TracingError or error.where:
                raise
            raise TracingError(error.what, where=where(error), fix=error.fix) from error
        except Exception as error:
            raise untraceable(name_of(self.model), error) from error
        return self._finish(graph_module)

    def _origins(self) -> Origins:
        if self.module is None:
            return Origins()
        stack = ModuleStack(self.module, keeps_calls=True)
        if self.repeated == "off":
            return Origins(stack)
        blocks = RepeatedBlocks(self.module, subgraphs=self.repeated == "subgraph")
        return Origins(stack, blocks.active)

    def _flat_function(self) -> Callable[..., tuple[Any, ...]]:
        """The model as a function of its parameters, its buffers and the leaves of its call."""
        names = list(self.state)
        leaves = self.layout.leaves

        @boundary
        def flat(*values: Any) -> tuple[Any, ...]:
            state = dict(zip(names, values, strict=False))
            given = iter(values[len(names) :])
            filled = [
                next(given) if is_input else leaf.example
                for leaf, is_input in zip(leaves, self.through, strict=True)
            ]
            args, kwargs = self.layout.unflatten(filled)
            tensors = {
                **dict(zip(names, values, strict=False)),
                **{leaf.path: v for leaf, v in zip(leaves, filled, strict=True)},
            }
            gradients = gradients_of(tensors)
            if self.module is None:
                result = self.model(*args, **kwargs)
            else:
                result = self._call_module(state, args, kwargs)
            after = gradients_of(tensors)
            self.gradients = [name for name, grad in after.items() if grad != gradients.get(name)]
            members = pytree.tree_leaves(with_parts((args, kwargs)))
            expected = pytree.tree_leaves(with_parts(self.layout.unflatten(filled)))
            if len(members) != len(expected) or any(map(operator.is_not, members, expected)):
                self.argument_changes = [
                    "changes the members of a list or dict among its arguments"
                ]
            outputs, self.out_spec = pytree.tree_flatten(with_whole_tuples(result))
            for output in outputs:
                if not isinstance(output, (torch.Tensor, *_SYMBOLIC, *_PLAIN)):
                    raise unfit_output(self.model, output)
            return tuple(outputs)

        # make_fx takes the names of symbols' sources from the signature.
        stateful = [f"state_{i}" for i in range(len(names))]
        plain = [leaf.name for leaf, is_input in zip(leaves, self.through, strict=True) if is_input]
        kind = inspect.Parameter.POSITIONAL_ONLY
        flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in _distinct(stateful, plain) + plain]
        )
        flat.__name__ = name_of(self.model)
        return flat

    def _call_module(
        self, state: dict[str, torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the module with these parameters and buffers."""
        given: dict[str, Any] = {self._prefix + name: tensor for name, tensor in state.items()}
        state = dict(given)
        result = call_with_state(self.caller, given, args, kwargs, tied=self._tied)
        # The dict has now what the module held at last. A buffer that was assigned anew is
        # written back, so that the graph updates it.
        for key, before in state.items():
            after = given[key]
            if after is before:
                continue
            name = key.removeprefix(self._prefix)
            if after is None or after.shape != before.shape or after.dtype != before.dtype:
                raise TracingError(
                    f"{name_of(self.model)} replaces its buffer {name}, {describe(before)}, "
                    f"by {describe(after)}",
                    fix="a graph can update a buffer but not change its shape or dtype: "
                    "pass it as an input and return it",
                )
            with torch.no_grad():
                before.copy_(after)
        return result

    def _finish(self, traced: torch.fx.GraphModule) -> Trace:
        """Put the module's own tensors and all inputs into the graph, and make the `Trace`."""
        graph = traced.graph
        refuse_fake_constants(name_of(self.model), traced)
        env = cast("ShapeEnv", traced.shape_env)  # torch types it as its own
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        stateful, plain = placeholders[: len(self.state)], placeholders[len(self.state) :]
        state_names = attach_state(traced, stateful, self.state)
        name_inputs(graph, plain, self.layout.leaves, self.through)
        assert self.out_spec is not None  # `flat` has set it
        output = graph.output_node()
        results: list[Any] = list(cast("tuple[Any, ...]", output.args[0]))
        structure = _fx_structure(self.out_spec, results)
        if structure is not None:
            output.args = structure
        # Operators keep results for a backward pass, which the graph does not have.
        remove_unused_operators(traced)
        detach_written_buffers(traced)
        traced.recompile()
        autocast = Autocast.now(
            [*self.state.values(), *(leaf.example for leaf in self.layout.leaves)]
        )
        traced.training = self.module.training if self.module is not None else False
        return Trace(
            graph_module=traced,
            model=self.model,
            admission=Admission(self.layout, self.entries, env, _offsets_matter(env, traced)),
            out_spec=self.out_spec,
            flat_output=structure is None,
            grad_enabled=torch.is_grad_enabled(),
            autocast=autocast,
            notes=self._notes(autocast),
            steps=bool(self.gradients or self.effects.gradients),
            state_names=state_names,
        )

    def _notes(self, autocast: Autocast) -> tuple[str, ...]:
        """The effects of the model that the graph leaves out, a sentence each."""
        notes = [
            f"the model {change} when it runs; the graph does not"
            for change in dict.fromkeys([*self.effects.changes, *self.argument_changes])
        ]
        gradients = list(dict.fromkeys([*self.gradients, *self.effects.gradients]))
        if gradients:
            shown = ", ".join(gradients[:_SHOWN]) + (", ..." if len(gradients) > _SHOWN else "")
            notes.append(
                f"the model calls backward() when it runs, which changes the gradients of {shown}; "
                "the graph changes no gradients, and an optimizer's step is not in it"
            )
        if autocast.is_on:
            notes.append(f"the model was traced under {autocast}: the graph holds its casts")
        return tuple(notes)


def _distinct(names: list[str], others: list[str]) -> list[str]:
    """The names, with underscores after those that are among the others."""
    taken = set(others)
    result = []
    for name in names:
        own = name
        while own in taken:
            own += "_"
        result.append(own)
    return result


def _offsets_matter(env: ShapeEnv, traced: torch.fx.GraphModule) -> bool:
    """Whether a graph depends on the storage offsets of its inputs."""
    return env.inputs.offsets_asked or any(
        node.target in FROM_START
        for module in modules_of(traced)
        if isinstance(module, torch.fx.GraphModule)
        for node in module.graph.nodes
    )


def _fx_structure(spec: pytree.TreeSpec, results: list[Any]) -> tuple[Any] | None:
    """The results in the model's structure; None if it has a class that fx cannot write."""
    pending = [spec]
    while pending:
        at = pending.pop()
        if not at.is_leaf() and at.type not in (tuple, list, dict):
            return None
        pending.extend(at.children() if not at.is_leaf() else ())
    return (pytree.tree_unflatten(results, spec),)

"""Trace a model to a graph with symbolic shapes, and ask the trace what it admits."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils import _pytree as pytree

from symfx.errors import InputMismatchError, SpecError, SymfxError, TracingError
from symfx.proxy_tensor import make_fx
from symfx.tracing.admission import Admission, CheckResult
from symfx.tracing.arguments import Layout, describe
from symfx.tracing.dynamic import Entry, read_dynamic
from symfx.tracing.model_state import Method, install, module_of, shield, untouched
from symfx.user_code import boundary, where

if TYPE_CHECKING:
    from types import MethodType

    from symfx.symbolic_shapes import GuardProgram, ShapeEnv, ShapeGuard, SymbolInfo
    from symfx.tracing.verification import Tolerance, Verification

__all__ = ["CheckResult", "Trace", "trace"]

#: What fx can write into the output of a graph, tensors and symbolic numbers aside.
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout)
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def trace(
    model: Callable[..., Any],
    args: Sequence[Any] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic: Any = None,
) -> Trace:
    """Trace a model on example inputs.

    The graph is of ATen operators, as they run below autograd and autocast. It holds for all
    inputs that `Trace.check` admits, and is checked against the model by `Trace.verify`.

    Args:
        model: a module, a method of a module, or any function of tensors. A module is traced as
            it stands: in train or eval mode, with the parameters it has.
        args: the positional arguments of an example call; a lone tensor stands for ``(tensor,)``.
        kwargs: its keyword arguments.
        dynamic: which dimensions may change. None: none. True: every dimension of every tensor.
            Otherwise a dict by parameter name or position, or a sequence with an entry for each
            input; an entry for a tensor is a tuple with a part for each dimension or a dict
            ``{dimension: part}``, a part being a name, a `symfx.Dim` (a name with a range), True
            (dynamic, unnamed) or None (static). Dimensions of one name are equal; unnamed ones
            are equal where the example's are. An int argument may be dynamic too: its entry is a
            part. A list, tuple or dict of tensors takes a list, tuple or dict of entries.

    Raises:
        SpecError: ``dynamic`` does not fit the inputs.
        InputMismatchError: the model does not take these arguments.
        TracingError: the model failed, or does what a graph cannot hold.
        GuardOnDataDependentSymNode: the model's course depends on data.

    Example:
        >>> import symfx, torch
        >>> linear, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
        >>> t = symfx.trace(linear, x, dynamic={"input": ("n", None)})
        >>> t(torch.randn(17, 8)).shape
        torch.Size([17, 4])
        >>> bool(t.check(torch.randn(17, 9)))
        False
    """
    if not callable(model):
        raise SpecError(f"{describe(model)} cannot be called", fix="pass a module or a function")
    _refuse_unready(model)
    if isinstance(args, torch.Tensor):
        args = (args,)
    if not isinstance(args, (tuple, list)):
        raise SpecError(f"args is {describe(args)}", fix="give the positional arguments as a tuple")
    layout = Layout(model, args, kwargs or {})
    entries = read_dynamic(layout, dynamic)
    return _Tracing(model, layout, entries).run()


class Trace:
    """A model as a graph with symbolic shapes, and what the graph relies on.

    ``t(*args, **kwargs)`` checks the inputs and runs the graph, in the manner of the model.
    `graph_module` runs without a check; it takes one positional argument for each leaf of the
    arguments that were traced, in the order of the model's parameters. For arguments that are
    not nested that is the model's own call.

    Attributes:
        graph_module: the graph. Parameters and buffers of a traced module stand in it under
            their own qualified names. They are the module's own tensors, not copies: training
            the module or loading a state into it changes them here too, and a graph of a module
            in train mode updates running statistics as the module does.
        model: what was traced.
        notes: what the model does beside computing its result that the graph leaves out.
        shape_env: the symbols and guards, a `symfx.symbolic_shapes.ShapeEnv`.
    """

    def __init__(
        self,
        *,
        graph_module: torch.fx.GraphModule,
        model: Callable[..., Any],
        admission: Admission,
        out_spec: pytree.TreeSpec,
        flat_output: bool,
        grad_enabled: bool,
        notes: tuple[str, ...],
    ) -> None:
        self.graph_module = graph_module
        self.model = model
        self.shape_env: ShapeEnv = admission.env
        self._admission = admission
        self._out_spec = out_spec
        self._flat_output = flat_output
        self._grad_enabled = grad_enabled
        self.notes = notes

    @property
    def name(self) -> str:
        """What was traced, in a word: the class of a module, the name of a function."""
        return _name(self.model)

    @property
    def inputs(self) -> dict[str, Any]:
        """The example inputs by the names of the graph's placeholders, in their order."""
        return {leaf.name: leaf.example for leaf in self._admission.layout.leaves}

    @property
    def guards(self) -> tuple[ShapeGuard, ...]:
        """The conditions on shapes that the graph relies on, each with the line that caused it."""
        return tuple(self.shape_env.guards)

    @property
    def symbols(self) -> tuple[SymbolInfo, ...]:
        """The symbols: their sources, their ranges, their values in the example."""
        return tuple(self.shape_env.symbol_table())

    def check(self, /, *args: Any, **kwargs: Any) -> CheckResult:
        """Whether the graph holds for these inputs; if not, a sentence for each reason.

        Args:
            args: positional arguments, as for the model.
            kwargs: keyword arguments, as for the model.

        Example:
            >>> t = trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> print(t.check(torch.randn(3, 5)))
            these inputs do not fit:
              dimension 1 of arg0 is 5; it is static: 4 when traced
        """
        return self._admission.check(args, kwargs)

    def guard_program(self) -> GuardProgram:
        """What the graph relies on, as a program: compiled Python, C, SMT-LIB.

        Its checker takes one argument for each input of the graph, as `graph_module` does, and
        asks about sizes, strides and numbers. `check` asks about dtypes, devices and static
        values too, and says what does not fit.

        Raises:
            SymfxError: a guard is about something that the inputs do not tell.

        Example:
            >>> t = trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
            >>> t.guard_program().check(torch.randn(3, 5))
            False
        """
        return self._admission.program()

    def verify(
        self, shapes: int = 5, seed: int = 0, tolerance: Tolerance | None = None
    ) -> Verification:
        """Run the graph against the model at the example's and at other admissible shapes.

        Args:
            shapes: how many shapes beside the example's.
            seed: where shapes, values and the models' own random numbers start from.
            tolerance: how far results may differ, both absolutely and relatively, or a pair
                (relative, absolute); by default what `torch.testing.assert_close` grants a dtype.
        """
        from symfx.tracing.verification import verify

        return verify(self, shapes=shapes, seed=seed, tolerance=tolerance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs, then run the graph.

        Raises:
            InputMismatchError: when the graph does not hold for them.
        """
        leaves = self._admission.layout.flatten(args, kwargs)
        result = self._admission.check_leaves(leaves)
        if not result:
            raise InputMismatchError(
                str(result), fix="trace again, with these inputs or more dynamic"
            )
        return self.run(leaves)

    def run(self, leaves: Sequence[Any]) -> Any:
        """Run the graph on flat inputs without a check, and give the model's own structure back."""
        result = self.graph_module(*leaves)
        if self._flat_output:
            return pytree.tree_unflatten(result, self._out_spec)
        return result

    def __repr__(self) -> str:
        from symfx.tracing.report import headline

        return f"<symfx.Trace of {headline(self)}>"

    def __str__(self) -> str:
        from symfx.tracing.report import describe_trace

        return "\n".join(line.plain for line in describe_trace(self))


class _Tracing:
    """One run of the tracer, from arguments to a `Trace`."""

    def __init__(self, model: Callable[..., Any], layout: Layout, entries: list[Entry]) -> None:
        self.model = model
        self.layout = layout
        self.entries = entries
        #: Whose parameters and buffers the graph uses, and what to call with them put in.
        self.module = module_of(model)
        self._prefix = ""
        if self.module is not None:
            self.caller = self.module
            if self.module is not model:
                self.caller = Method(self.module, cast("MethodType", model).__func__)
                self._prefix = "owner."
        #: Every parameter and buffer once: of tied ones the first name stands for all.
        self.state: dict[str, torch.Tensor] = {}
        if self.module is not None:
            self.state.update(self.module.named_parameters())
            self.state.update(self.module.named_buffers())
        #: Which leaves the tracer sees; the others are constants of the graph.
        self.through = [
            isinstance(leaf.example, torch.Tensor) or entry is not None
            for leaf, entry in zip(layout.leaves, entries, strict=True)
        ]
        self.out_spec: pytree.TreeSpec | None = None

    def run(self) -> Trace:
        seen = {id(tensor) for tensor in self.state.values()}
        inputs, dynamic = [], []
        for leaf, entry, through in zip(
            self.layout.leaves, self.entries, self.through, strict=True
        ):
            example = leaf.example
            if not through:
                continue
            # A tensor that is passed twice (or is a parameter too) is two inputs of the graph.
            if id(example) in seen and isinstance(example, torch.Tensor):
                example = example.detach().clone().requires_grad_(example.requires_grad)
            seen.add(id(example))
            inputs.append(example)
            dynamic.append(entry)
        function = self._flat_function()
        tracer = make_fx(
            function,
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
            dynamic_shapes=[None] * len(self.state) + dynamic,
        )
        try:
            with (
                untouched(self.model) as self.assigned,
                _unlogged("torch._subclasses.fake_tensor"),
            ):
                graph_module = tracer(*self.state.values(), *inputs)
        except SymfxError as error:
            if type(error) is not TracingError or error.where:
                raise
            raise TracingError(error.what, where=where(error), fix=error.fix) from error
        except Exception as error:
            raise TracingError(
                f"{_name(self.model)} cannot be traced: {_first_lines(error)}",
                where=where(error),
                fix="call the model itself on these inputs: if that fails too, mend the inputs or "
                "the model; if not, this line does what a graph cannot hold",
            ) from error
        return self._finish(graph_module)

    def _flat_function(self) -> Callable[..., tuple[Any, ...]]:
        """The model as a function of its parameters, its buffers and its arguments' leaves."""
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
            if self.module is None:
                result = self.model(*args, **kwargs)
            else:
                result = self._call_module(state, args, kwargs)
            outputs, self.out_spec = pytree.tree_flatten(result)
            for output in outputs:
                if not isinstance(output, (torch.Tensor, *_SYMBOLIC, *_PLAIN)):
                    raise TracingError(
                        f"{_name(self.model)} returns a {type(output).__name__}, "
                        "which a graph cannot hold",
                        fix="return tensors, numbers, and lists, tuples and dicts of them, or "
                        "register the class by torch.utils._pytree.register_pytree_node",
                    )
            return tuple(outputs)

        # The names of symbols' sources are read off the signature.
        stateful = [f"state_{i}" for i in range(len(names))]
        plain = [leaf.name for leaf, is_input in zip(leaves, self.through, strict=True) if is_input]
        kind = inspect.Parameter.POSITIONAL_ONLY
        flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in _distinct(stateful, plain) + plain]
        )
        flat.__name__ = _name(self.model)
        return flat

    def _call_module(
        self, state: dict[str, torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = {self._prefix + name: tensor for name, tensor in state.items()}
        state = dict(given)
        result = torch.func.functional_call(self.caller, given, args, kwargs)
        # functional_call leaves in the dict what the module now holds under each name. A buffer
        # that was assigned anew, not changed in place, is written back so that the graph does it.
        for key, before in state.items():
            after = given[key]
            if after is before:
                continue
            name = key.removeprefix(self._prefix)
            if after.shape != before.shape or after.dtype != before.dtype:
                raise TracingError(
                    f"{_name(self.model)} replaces its buffer {name}, {describe(before)}, "
                    f"by {describe(after)}",
                    fix="a graph can update a buffer, not change its shape or dtype: "
                    "pass it as an input and return it",
                )
            with torch.no_grad():
                before.copy_(after)
        return result

    def _finish(self, traced: torch.fx.GraphModule) -> Trace:
        """Put the module's own tensors and all its inputs in their places."""
        graph = traced.graph
        env = cast("ShapeEnv", traced.shape_env)  # torch types it as its own
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        stateful, plain = placeholders[: len(self.state)], placeholders[len(self.state) :]
        self._hang_state(traced, stateful)
        self._name_inputs(graph, plain)
        assert self.out_spec is not None  # the trace has run, and set it
        output = graph.output_node()
        results: list[Any] = list(cast("tuple[Any, ...]", output.args[0]))
        structure = _fx_structure(self.out_spec, results)
        if structure is not None:
            output.args = structure
        graph.lint()
        module = torch.fx.GraphModule(traced, graph, class_name=_name(self.model))
        # Such as what operators keep for a backward pass that the graph does not have.
        module.graph.eliminate_dead_code()
        shield(module)
        module.recompile()
        module.shape_env = cast("Any", env)
        notes = tuple(
            f"the model puts a tensor into its attribute {name} when it runs; the graph does not"
            for name in self.assigned
        )
        module.training = self.module.training if self.module is not None else False
        return Trace(
            graph_module=module,
            model=self.model,
            admission=Admission(self.layout, self.entries, env),
            out_spec=self.out_spec,
            flat_output=structure is None,
            grad_enabled=torch.is_grad_enabled(),
            notes=notes,
        )

    def _hang_state(self, traced: torch.fx.GraphModule, nodes: list[torch.fx.Node]) -> None:
        """Turn the placeholders of parameters and buffers into attributes, next to their use."""
        graph = traced.graph
        pending = dict(zip(nodes, self.state.items(), strict=True))
        for user in list(graph.nodes):
            for node in user.all_input_nodes:
                if node not in pending:
                    continue
                name, tensor = pending.pop(node)
                target = install(traced, name, tensor)
                with graph.inserting_before(user):
                    attribute = graph.get_attr(target)
                attribute.meta = dict(node.meta)
                node.replace_all_uses_with(attribute)
        for node in nodes:
            graph.erase_node(node)

    def _name_inputs(self, graph: torch.fx.Graph, nodes: list[torch.fx.Node]) -> None:
        """A placeholder for each leaf, by its name and in its place; a static one has no use."""
        traced = iter(nodes)
        anchor = next(node for node in graph.nodes if node.op != "placeholder")
        for leaf, is_input in zip(self.layout.leaves, self.through, strict=True):
            old = next(traced) if is_input else None
            if old is not None and old.target == leaf.name:
                anchor.prepend(old)
                continue
            with graph.inserting_before(anchor):
                node = graph.placeholder(leaf.name)
            node.meta = dict(old.meta) if old is not None else {"val": leaf.example}
            if old is not None:
                old.replace_all_uses_with(node)
                graph.erase_node(old)


@contextlib.contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """Drop what a logger says: torch logs tracebacks of errors that it raises as well."""
    logger = logging.getLogger(name)
    drop = lambda record: False  # noqa: E731
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _refuse_unready(model: Callable[..., Any]) -> None:
    """Raise a TracingError for a model that no trace can go into, or that is not complete."""
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise TracingError(
            f"{_name(model)} is compiled by TorchScript", fix="pass what it was compiled from"
        )
    module = module_of(model)
    for name, parameter in module.named_parameters() if module is not None else ():
        if torch.nn.parameter.is_lazy(parameter):
            raise TracingError(
                f"the parameter {name} has no shape yet",
                fix="call the model once on the example inputs: that is what lazy modules wait for",
            )


def _name(model: Callable[..., Any]) -> str:
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    name = getattr(model, "__name__", type(model).__name__)
    return name if name.isidentifier() else "function"


def _distinct(names: list[str], others: list[str]) -> list[str]:
    """The names, with underscores to keep them apart from the others."""
    taken = set(others)
    result = []
    for name in names:
        own = name
        while own in taken:
            own += "_"
        result.append(own)
    return result


def _first_lines(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    lines = [line for line in text.splitlines() if line.strip()]
    shown = " ".join(line.strip() for line in lines[:3])
    return shown if type(error) is RuntimeError else f"{type(error).__name__}: {shown}"


def _fx_structure(spec: pytree.TreeSpec, results: list[Any]) -> tuple[Any] | None:
    """The output as fx writes it; None where a class takes part that fx cannot write."""
    pending = [spec]
    while pending:
        at = pending.pop()
        if not at.is_leaf() and at.type not in (tuple, list, dict):
            return None
        pending.extend(at.children() if not at.is_leaf() else ())
    return (pytree.tree_unflatten(results, spec),)

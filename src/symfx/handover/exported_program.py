"""A trace as a `torch.export.ExportedProgram`, for ONNX, AOTInductor and torch's own passes.

The program is of torch.export's training dialect, in which operators may write in place: the graph
of a trace may update buffers. `ExportedProgram.run_decompositions` makes a functional one of it.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch._export.verifier import TrainingIRVerifier
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    SymBoolArgument,
    SymFloatArgument,
    SymIntArgument,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from symfx.errors import SymfxError, TracingError
from symfx.handover.copies import CopiedTrace, copied
from symfx.tracing.arguments import Layout
from symfx.tracing.model_state import module_of
from symfx.tracing.traced_model import TracedModel

__all__ = ["exported_program"]

_KINDS = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_PREFIXES = {InputKind.PARAMETER: "p_", InputKind.BUFFER: "b_", InputKind.CONSTANT_TENSOR: "c_"}
_ARGUMENTS: dict[type, Any] = {
    torch.SymInt: SymIntArgument,
    torch.SymFloat: SymFloatArgument,
    torch.SymBool: SymBoolArgument,
}


def exported_program(trace: TracedModel) -> ExportedProgram:
    """The exported program of a trace; see `symfx.Trace.to_exported_program`.

    Raises:
        TracingError: torch.export has no form for a part of the trace.
    """
    if trace.missing:
        raise SymfxError(
            f"{trace.missing[0]} has no values: the file of this trace has no weights",
            fix="load it with the model: symfx.load(path, model=...)",
        )
    copy = copied(trace)
    lifted = _Lifted(trace, copy)
    signature = ExportGraphSignature(lifted.inputs, lifted.outputs)
    args, kwargs = _call(trace.admission.layout)
    entry = ModuleCallEntry(
        fqn="",
        signature=ModuleCallSignature(
            inputs=[],
            outputs=[],
            in_spec=pytree.tree_structure((args, kwargs)),
            out_spec=trace.out_spec,
            forward_arg_names=_argument_names(trace.admission.layout),
        ),
    )
    used = lifted.symbols()
    ranges = {s: r for s, r in copy.env.var_to_range.items() if s in used}
    try:
        return ExportedProgram(
            lifted.root,
            lifted.graph,
            signature,
            lifted.state,
            ranges,
            [entry],
            example_inputs=(args, kwargs),
            constants=lifted.constants,
            verifiers=[TrainingIRVerifier],
        )
    except torch._export.verifier.SpecViolationError as error:
        first = str(error).splitlines()[0]
        raise TracingError(
            f"torch.export has no form for a node of {trace.name}: {first}",
            fix="hand on the graph module: t.graph_module",
        ) from error


class _Lifted:
    """The graph of a trace with its parameters, buffers and constants as inputs.

    Args:
        trace: the trace.
        copy: its copy, whose graph is lifted.

    Attributes:
        graph: the graph.
        root: has the subgraphs that it calls.
        inputs, outputs: their specifications.
        state: the parameters and persistent buffers, by their names in the model.
        constants: the other tensors, by name.
    """

    def __init__(self, trace: TracedModel, copy: CopiedTrace) -> None:
        self.graph = fx.Graph()
        self.root = torch.nn.Module()
        self.inputs: list[InputSpec] = []
        self.outputs: list[OutputSpec] = []
        self.state: dict[str, torch.Tensor] = {}
        self.constants: dict[str, Any] = {}
        self._copy = copy
        self._names = trace.state_names
        module = module_of(trace.model)
        self._persistent = set(self._names.values()) if module is None else set(module.state_dict())
        self._stack = {"": ("", _class_of(trace.model))}
        self._memo: dict[fx.Node, fx.Node] = {}
        self._lift()
        self._copy_nodes()

    def _lift(self) -> None:
        """Make an input of each tensor that the graph holds: parameters, buffers, constants."""
        module = self._copy.graph_module
        held: dict[str, tuple[InputKind, torch.Tensor, list[fx.Node]]] = {}
        for node in module.graph.nodes:
            if node.op != "get_attr":
                continue
            target = str(node.target)
            tensor = operator.attrgetter(target)(module)
            if not isinstance(tensor, torch.Tensor):
                setattr(self.root, target, tensor)
                _mark_subgraph(tensor, self._stack)
                continue
            if target not in self._names:
                kind = InputKind.CONSTANT_TENSOR
            else:
                is_parameter = isinstance(tensor, torch.nn.Parameter)
                kind = InputKind.PARAMETER if is_parameter else InputKind.BUFFER
            held.setdefault(target, (kind, tensor, []))[2].append(node)
        for target, (kind, tensor, nodes) in sorted(
            held.items(), key=lambda entry: _KINDS.index(entry[1][0])
        ):
            name = self._names.get(target, target)
            new = self._placeholder(_PREFIXES[kind] + name.replace(".", "_"))
            mode = self._copy.mode
            new.meta["val"] = mode.from_tensor(tensor.detach(), static_shapes=True)
            if isinstance(tensor, torch.nn.Parameter):
                new.meta["val"] = torch.nn.Parameter(
                    new.meta["val"], requires_grad=tensor.requires_grad
                )
            self._memo.update(dict.fromkeys(nodes, new))
            keep = (name in self._persistent) if kind is InputKind.BUFFER else None
            self.inputs.append(InputSpec(kind, TensorArgument(name=new.name), name, keep))
            if kind is InputKind.CONSTANT_TENSOR or keep is False:
                self.constants[name] = tensor
            else:
                self.state[name] = tensor

    def _placeholder(self, wanted: str) -> fx.Node:
        new = self.graph.placeholder(wanted)
        new.target = new.name  # which another input may have had already
        return new

    def _copy_nodes(self) -> None:
        for node in self._copy.graph_module.graph.nodes:
            if node in self._memo:
                continue
            if node.op == "output":
                self._finish(pytree.tree_leaves(node.args[0]))
                continue
            new = self._memo[node] = self.graph.node_copy(node, self._memo.__getitem__)
            if node.op == "placeholder":
                new.target = new.name
                argument = _argument(new.name, node.meta.get("val"))
                self.inputs.append(InputSpec(InputKind.USER_INPUT, argument, None))
            else:
                _mark(new, self._stack)

    def _finish(self, results: Sequence[Any]) -> None:
        taken = [self._memo[r] if isinstance(r, fx.Node) else r for r in results]
        self.graph.output(tuple(taken))
        for result in taken:
            if isinstance(result, fx.Node):
                argument = _argument(result.name, result.meta.get("val"))
            else:
                argument = ConstantArgument(name="", value=result)
            self.outputs.append(OutputSpec(OutputKind.USER_OUTPUT, argument, None))

    def symbols(self) -> set[Any]:
        """The symbols in the values of the nodes, as sympy."""
        used: set[Any] = set()
        for node in self.graph.nodes:
            for leaf in pytree.tree_leaves(node.meta.get("val")):
                numbers: list[Any] = [leaf]
                if isinstance(leaf, torch.Tensor):
                    numbers = [*leaf.shape, *leaf.stride()]
                for number in numbers:
                    if isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool):
                        used |= number.node.expr.free_symbols
        return used


def _argument(name: str, value: Any) -> Any:
    """The specification of an input or an output."""
    if isinstance(value, torch.Tensor):
        return TensorArgument(name=name)
    for kind, make in _ARGUMENTS.items():
        if isinstance(value, kind):
            return make(name=name)
    return ConstantArgument(name=name, value=value)


def _mark(node: fx.Node, stack: dict[str, Any]) -> None:
    """Give a node what torch's verifier and `torch.export.unflatten` want of it."""
    if node.op in ("call_function", "get_attr"):
        node.meta.setdefault("nn_module_stack", stack)
        node.meta.setdefault("torch_fn", (f"{node.name}_1", f"function.{node.name}"))


def _mark_subgraph(module: torch.nn.Module, stack: dict[str, Any]) -> None:
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                _mark(node, stack)


def _class_of(model: Any) -> str:
    kind = type(module_of(model) or torch.nn.Module())
    return f"{kind.__module__}.{kind.__qualname__}"


def _call(layout: Layout) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of the example call."""
    return layout.unflatten([leaf.example for leaf in layout.leaves])


def _argument_names(layout: Layout) -> list[str]:
    """The names of the arguments in the order in which the call passes them."""
    names: list[str] = []
    for name, value in layout.given.items():
        kind = layout.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{name}_{i}" for i in range(len(value))]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            names += value
        else:
            names.append(name)
    return names

"""The parts of a graph that could run in oneDNN's own layout, which torch calls mkldnn.

`layout_regions` gives each part the form in which torch shows it to a heuristic: with the nodes
that convert to the layout before it, those that convert back behind it, and converted modules
between them. `symfx.optimization.passes.fuse` then runs the parts that the heuristic accepts by
oneDNN's fused operators, which are faster than the layout itself.
"""

from __future__ import annotations

import copy
import functools
import operator
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn import Module

from symfx.errors import OptimizationError
from symfx.optimization.graphs.effects import is_plain
from symfx.optimization.passes.fuse import lower
from symfx.optimization.reference.editing import extract_subgraph, replace_node_module

__all__ = [
    "MklSubgraph",
    "UnionFind",
    "gen_mkl_autotuner",
    "layout_regions",
    "mkldnn_map",
    "mkldnn_supported",
    "mkldnn_supported_unknown",
    "modules_to_mkldnn",
    "reset_modules",
    "use_mkl_length",
]

#: The classes of modules, and the functions, that take tensors in oneDNN's layout.
mkldnn_supported: list[Any] = [
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU),
    *(nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d),
    *(F.relu, F.avg_pool2d, F.adaptive_avg_pool2d),
    *(torch.relu, torch.sigmoid, torch.transpose),
]

#: The functions that take them, but are converted only if an argument is in that layout already.
mkldnn_supported_unknown: list[Any] = [operator.add, operator.mul]


@functools.cache
def _converted() -> Any:
    """torch.utils.mkldnn, which warns when it is imported that a part of torch is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch.utils.mkldnn
    return torch.utils.mkldnn


#: The conversion of each class, called with the module and the dtype of its weights.
mkldnn_map: dict[type[nn.Module], Callable[[Any, torch.dtype], nn.Module]] = {
    nn.BatchNorm2d: lambda module, dtype: _converted().MkldnnBatchNorm(module),
    nn.Linear: lambda module, dtype: _converted().MkldnnLinear(module, dtype),
    nn.Conv2d: lambda module, dtype: _converted().MkldnnConv2d(module, dtype),
}

#: `use_mkl_length` accepts an `MklSubgraph` with more nodes than this.
_WORTHWHILE = 2


def _calls_module(node: fx.Node) -> bool:
    return node.op == "call_module"


def _convertible(module: nn.Module) -> bool:
    """Whether the module computes the same when it is converted."""
    tensors = [*module.parameters(), *module.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    if not is_plain(module) or any(
        tensor.dtype is not torch.float or tensor.device.type != "cpu" for tensor in floats
    ):
        return False
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if isinstance(module, nn.BatchNorm2d):
        return not module.training and module.running_mean is not None and module.affine
    return True


def modules_to_mkldnn(
    nodes: Iterable[fx.Node], modules: MutableMapping[str, Module]
) -> dict[Module, Module]:
    """Convert the modules that nodes call into oneDNN's layout, by `mkldnn_map`.

    Modules with hooks and subclasses stay as they are. So do modules whose weights are not float32
    on the CPU or whose padding is not zeros, and batch normalization in train mode or without
    statistics.

    Args:
        nodes: of a graph.
        modules: the graph's modules by name, the root under ``""``. Converted modules replace the
            old ones here and in their parents.

    Returns:
        a copy of each old module, by its converted module, for `reset_modules`.
    """
    old_modules = {}
    for node in nodes:
        if not _calls_module(node):
            continue
        old = modules[str(node.target)]
        convert = mkldnn_map.get(type(old))
        if convert is None or not _convertible(old):
            continue
        new = convert(old, torch.float)
        old_modules[new] = copy.deepcopy(old)
        replace_node_module(node, modules, new)
    return old_modules


def reset_modules(
    nodes: Iterable[fx.Node],
    modules: MutableMapping[str, Module],
    old_modules: dict[Module, Module],
) -> None:
    """Undo `modules_to_mkldnn`.

    Args:
        nodes: the calls whose modules are replaced by the old ones.
        modules: the graph's modules by name; the entries are replaced too.
        old_modules: the result of `modules_to_mkldnn`.
    """
    for node in nodes:
        if not _calls_module(node):
            continue
        old = old_modules.get(modules[str(node.target)])
        if old is not None:
            replace_node_module(node, modules, old)


@dataclass(eq=False)
class MklSubgraph:
    """A part of a graph that could run in oneDNN's layout, as a heuristic is given it.

    Args:
        fx_graph: the graph. Its attribute ``old_modules`` is the result of `modules_to_mkldnn`.

    Attributes:
        fx_graph: the graph.
        nodes: the nodes of the part.
        start_nodes: the calls of ``to_mkldnn`` before it.
        end_nodes: the calls of ``to_dense`` behind it.
    """

    fx_graph: fx.Graph
    nodes: list[fx.Node] = field(default_factory=list)
    start_nodes: list[fx.Node] = field(default_factory=list)
    end_nodes: list[fx.Node] = field(default_factory=list)


def use_mkl_length(graph: MklSubgraph) -> bool:
    """The heuristic of length: whether the part has more than two nodes."""
    return len(graph.nodes) > _WORTHWHILE


def gen_mkl_autotuner(
    example_inputs: Tensor | Sequence[Tensor], iters: int = 10, warmup: int = 1
) -> Callable[[MklSubgraph], bool]:
    """Make a heuristic that times each part by torch and by oneDNN, and accepts the faster ones.

    Args:
        example_inputs: the model's inputs, for the shapes; a single tensor may stand alone.
        iters: the number of timed runs of each, in turn; the medians are compared. With 0 no
            part is run, and the heuristic is `use_mkl_length`.
        warmup: the number of runs of each before the timed ones.

    Returns:
        a heuristic for `optimize_for_inference`.

    Example:
        >>> import torch
        >>> from symfx.optimization import gen_mkl_autotuner, optimize_for_inference
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
        >>> tuner = gen_mkl_autotuner(torch.randn(1, 3, 8, 8), iters=2)
        >>> fast = optimize_for_inference(model, {"mkldnn_layout_optimize": {"heuristic": tuner}})
    """
    inputs = [example_inputs] if isinstance(example_inputs, Tensor) else list(example_inputs)
    values: dict[fx.Node, Any] = {}
    seen: list[fx.Graph] = []

    def use_mkl_heuristic(graph: MklSubgraph) -> bool:
        if iters <= 0:
            return use_mkl_length(graph)
        owner = graph.fx_graph.owning_module
        old_modules = getattr(graph.fx_graph, "old_modules", {})
        if owner is None:
            raise OptimizationError(
                "the graph cannot be run, because it belongs to no module",
                fix="make a torch.fx.GraphModule of it first",
            )
        plain = _dense(owner, graph, old_modules)
        if graph.fx_graph not in seen:
            seen[:] = [graph.fx_graph]
            values.clear()
            values.update(_record(owner, inputs, old_modules))
        arguments = [values[node] for node in graph.start_nodes]
        fast = lower(_dense(owner, graph, old_modules))

        def seconds(module: nn.Module) -> float:
            start = time.perf_counter()
            module(*arguments)
            return time.perf_counter() - start

        with torch.no_grad():
            for _ in range(warmup):
                seconds(fast), seconds(plain)
            rounds = [(seconds(fast), seconds(plain)) for _ in range(iters)]
        return statistics.median(r[0] for r in rounds) < statistics.median(r[1] for r in rounds)

    return use_mkl_heuristic


def _dense(
    owner: nn.Module, part: MklSubgraph, old_modules: dict[Module, Module]
) -> fx.GraphModule:
    """The part as a module, with torch's ordinary modules in it."""
    outputs = [node.args[0] for node in part.end_nodes]
    results = [node for node in outputs if isinstance(node, fx.Node)]
    module = extract_subgraph(owner, part.nodes, part.start_nodes, results)
    reset_modules(module.graph.nodes, dict(module.named_modules()), old_modules)
    return module


def _record(
    owner: fx.GraphModule, inputs: Sequence[Any], old_modules: dict[Module, Module]
) -> dict[fx.Node, Any]:
    """The argument of each conversion to or from oneDNN's layout, in a run on the inputs."""
    values: dict[fx.Node, Any] = {}
    modules = dict(owner.named_modules())

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            if n.op == "call_method" and n.target in ("to_mkldnn", "to_dense"):
                values[n] = args[0]
                return args[0]
            module = modules.get(str(n.target)) if n.op == "call_module" else None
            old = old_modules.get(module) if module is not None else None
            if old is not None:
                return old(*args, **kwargs)
            return super().run_node(n)

    with torch.no_grad():
        Recorder(owner).run(*inputs)
    return values


class UnionFind:
    """Disjoint sets of the integers in ``range(n)``, which can be joined.

    Args:
        n: the number of integers. An integer is in no set before `make_set`.

    Example:
        >>> sets = UnionFind(3)
        >>> for v in range(3):
        ...     sets.make_set(v)
        >>> _ = sets.join(0, 2)
        >>> sets.find(2) == sets.find(0), sets.find(1)
        (True, 1)
    """

    def __init__(self, n: int) -> None:
        self.size = [0] * n
        self.parent: list[int | None] = [None] * n

    def make_set(self, v: int) -> None:
        """Make a set with the one element ``v``."""
        self.parent[v], self.size[v] = v, 1

    def find(self, v: int) -> int:
        """The integer that represents the set of ``v``.

        Raises:
            OptimizationError: ``v`` is in no set.
        """
        while (above := self.parent[v]) != v:
            if above is None:
                raise OptimizationError(f"{v} is in no set", fix=f"call make_set({v}) first")
            self.parent[v] = self.parent[above]  # halves the path for the next call
            v = above
        return v

    def join(self, a: int, b: int) -> int:
        """Join the sets of ``a`` and ``b``; return the integer that represents the union."""
        big, small = self.find(a), self.find(b)
        if big == small:
            return big
        if self.size[big] < self.size[small]:
            big, small = small, big
        self.parent[small] = big
        self.size[big] += self.size[small]
        return big


def layout_regions(
    module: fx.GraphModule,
) -> tuple[list[MklSubgraph], dict[fx.Node, fx.Node]]:
    """The parts of a graph that could run in oneDNN's layout.

    Args:
        module: the graph; it is not changed, nor are its modules.

    Returns:
        the parts, of a copy of the graph with conversions; and for each node of the copy the
        node of ``module`` that it was copied from.
    """
    graph = copy.deepcopy(module.graph)
    origin = dict(zip(graph.nodes, module.graph.nodes, strict=True))
    work = fx.GraphModule(module, graph)
    modules: dict[str, nn.Module] = dict(work.named_modules())
    for node in list(graph.nodes):
        support = _support(node, modules)
        converted = any(isinstance(arg, fx.Node) and arg.target == "to_dense" for arg in node.args)
        if support is None or (support is False and not converted):
            continue
        with graph.inserting_before(node):
            node.args = fx.map_arg(
                node.args, lambda value: graph.call_method("to_mkldnn", (value,))
            )
        with graph.inserting_after(node):
            dense = graph.call_method("to_dense", (node,))
        node.replace_all_uses_with(
            dense, delete_user_cb=lambda user, dense=dense: user is not dense
        )
    graph.old_modules = modules_to_mkldnn(list(graph.nodes), modules)  # type: ignore[attr-defined]
    _drop_round_trips(graph)
    return _gather(graph), origin


def _support(node: fx.Node, modules: dict[str, nn.Module]) -> bool | None:
    """True for a node that runs in the layout, False if only for such an argument, or None."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        fits = type(module) in mkldnn_supported and _convertible(module) and not node.kwargs
        return True if fits else None
    if node.op == "call_function":
        if node.target in mkldnn_supported:
            return True
        if node.target in mkldnn_supported_unknown:
            return False
    return None


def _drop_round_trips(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.op != "call_method" or node.target != "to_dense":
            continue
        (inside,) = node.all_input_nodes
        for user in list(node.users):
            if user.op == "call_method" and user.target == "to_mkldnn":
                user.replace_all_uses_with(inside)
                graph.erase_node(user)
        if not node.users:
            graph.erase_node(node)


def _gather(graph: fx.Graph) -> list[MklSubgraph]:
    """The connected parts between the conversions, in the order of the graph."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    sets = UnionFind(len(order))
    inside: set[fx.Node] = set()
    for node, index in order.items():
        if node.op == "call_method" and node.target == "to_mkldnn":
            sets.make_set(index)
            inside.add(node)
        elif node.op == "call_method" and node.target == "to_dense":
            continue
        elif before := [source for source in node.all_input_nodes if source in inside]:
            sets.make_set(index)
            inside.add(node)
            for source in before:
                sets.join(index, order[source])
    parts: dict[int, MklSubgraph] = {}
    for node, index in order.items():
        is_end = node.op == "call_method" and node.target == "to_dense"
        if not is_end and node not in inside:
            continue
        key = sets.find(order[node.all_input_nodes[0]] if is_end else index)
        part = parts.setdefault(key, MklSubgraph(graph))
        if is_end:
            part.end_nodes.append(node)
        elif node.target == "to_mkldnn" and node.op == "call_method":
            part.start_nodes.append(node)
        else:
            part.nodes.append(node)
    return list(parts.values())

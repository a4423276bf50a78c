"""oneDNN's own layout (torch calls it mkldnn): which parts of a graph could run in it.

`layout_regions` shows each such part to a heuristic as torch shows it: with the nodes that would
convert to the layout before it, those that would convert back behind it, and the modules between
them converted ahead. What the heuristics agree to is then built by `symfx.optimization.passes.fuse`
from oneDNN's fused operators, which is faster than the layout itself.
"""

from __future__ import annotations

import copy
import operator
import statistics
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.mkldnn as torch_mkldnn
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

#: What runs on tensors in oneDNN's layout: classes of modules, and functions.
mkldnn_supported: list[Any] = [
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU),
    *(nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d),
    *(F.relu, F.avg_pool2d, F.adaptive_avg_pool2d),
    *(torch.relu, torch.sigmoid, torch.transpose),
]

#: What runs on them if an argument is in that layout already, since it takes plain numbers too.
mkldnn_supported_unknown: list[Any] = [operator.add, operator.mul]

#: How a module of a class is converted: called with the module and the dtype of its weights.
mkldnn_map: dict[type[nn.Module], Callable[[Any, torch.dtype], nn.Module]] = {
    nn.BatchNorm2d: lambda module, dtype: torch_mkldnn.MkldnnBatchNorm(module),
    nn.Linear: torch_mkldnn.MkldnnLinear,
    nn.Conv2d: torch_mkldnn.MkldnnConv2d,
}

#: What an `MklSubgraph` needs at least for `use_mkl_length` to agree: more nodes than this.
_WORTHWHILE = 2


def _calls_module(node: fx.Node) -> bool:
    return node.op == "call_module"


def _convertible(module: nn.Module) -> bool:
    """Would the module compute the same when converted?"""
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
    """Convert the modules that nodes call into oneDNN's layout, where `mkldnn_map` knows how.

    Left as they are: modules with hooks, subclasses, weights that are not float32 on the CPU,
    padding that is not zeros, and batch normalisation in train mode or without statistics.

    Args:
        nodes: of a graph.
        modules: its modules by name, the root under ``""``. Converted modules take the place of
            the old ones here and in the modules that they are part of.

    Returns:
        a copy of each old module, by the new one, as `reset_modules` takes them.
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
    """Put the modules back that `modules_to_mkldnn` converted.

    Args:
        nodes: the calls whose modules are put back.
        modules: the graph's modules by name; brought up to date.
        old_modules: what `modules_to_mkldnn` returned.
    """
    for node in nodes:
        if not _calls_module(node):
            continue
        old = old_modules.get(modules[str(node.target)])
        if old is not None:
            replace_node_module(node, modules, old)


@dataclass(eq=False)
class MklSubgraph:
    """A part of a graph that could run in oneDNN's layout, for a heuristic to judge.

    Args:
        fx_graph: the graph. Its attribute ``old_modules`` is what `modules_to_mkldnn` returned.

    Attributes:
        fx_graph: the same.
        nodes: the part.
        start_nodes: the calls of ``to_mkldnn`` before it.
        end_nodes: the calls of ``to_dense`` behind it.
    """

    fx_graph: fx.Graph
    nodes: list[fx.Node] = field(default_factory=list)
    start_nodes: list[fx.Node] = field(default_factory=list)
    end_nodes: list[fx.Node] = field(default_factory=list)


def use_mkl_length(graph: MklSubgraph) -> bool:
    """The heuristic of length: agrees when the part has more than two nodes."""
    return len(graph.nodes) > _WORTHWHILE


def gen_mkl_autotuner(
    example_inputs: Tensor | Sequence[Tensor], iters: int = 10, warmup: int = 1
) -> Callable[[MklSubgraph], bool]:
    """A heuristic that runs each part both ways and agrees when oneDNN's is the faster.

    Args:
        example_inputs: the model's inputs, for the shapes; a single tensor may stand alone.
        iters: the timed runs of each way, in turn; the medians are compared. With 0 nothing is
            run, and the heuristic is `use_mkl_length`.
        warmup: the runs of each before.

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
                "the graph belongs to no module, and cannot be run",
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
    """The part as a module of its own, with torch's ordinary modules in it."""
    outputs = [node.args[0] for node in part.end_nodes]
    results = [node for node in outputs if isinstance(node, fx.Node)]
    module = extract_subgraph(owner, part.nodes, part.start_nodes, results)
    reset_modules(module.graph.nodes, dict(module.named_modules()), old_modules)
    return module


def _record(
    owner: fx.GraphModule, inputs: Sequence[Any], old_modules: dict[Module, Module]
) -> dict[fx.Node, Any]:
    """What each conversion to oneDNN's layout is given, when the model runs on the inputs."""
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
    """Sets of integers that can be joined: which of ``range(n)`` belong together?

    Args:
        n: how many integers there are. None of them is in a set before `make_set`.

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
        """Make a set of ``v`` alone."""
        self.parent[v], self.size[v] = v, 1

    def find(self, v: int) -> int:
        """The integer that stands for the set of ``v``.

        Raises:
            OptimizationError: ``v`` is in no set.
        """
        while (above := self.parent[v]) != v:
            if above is None:
                raise OptimizationError(f"{v} is in no set", fix=f"call make_set({v}) first")
            self.parent[v] = self.parent[above]  # halve the path for the next who asks
            v = above
        return v

    def join(self, a: int, b: int) -> int:
        """Join the sets of ``a`` and ``b``, and return the integer that stands for both."""
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
        the parts, of a graph with conversions; and for each node of theirs the one in
        ``module`` that it was made from.
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
    """True for what runs in the layout, False for what does if an argument is in it, else None."""
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

"""Compiled kernels that follow each other in a graph, in one call from Python.

At the first call with inputs of some sizes, the kernels run one by one, and a tape notes them. At
later calls they run at once: a small model spends more time between its kernels than in them.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.optimization.runtime.assumed import assumed_truth
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.graph_functions import laid_out_as
from symfx.optimization.runtime.image_kernels import concatenates, image_kernel
from symfx.optimization.runtime.leaf_calls import Effect, leaf_forward
from symfx.optimization.runtime.one_pass import layer_norm
from symfx.optimization.runtime.tape import NotOnTapeError, Program, Result, Step, Tape
from symfx.optimization.runtime.tensor_checks import is_ordinary, is_plain_tensor

__all__ = ["COPIES", "SUMS", "KernelChain"]

#: A chain remembers the programs of so many kinds of input.
_REMEMBERED = 16
#: So many times a chain tries to make a program of the kernels for a kind of input.
_TRIALS = 2

#: The methods whose result is a view of a tensor, or a copy of it in another order.
COPIES = frozenset({"reshape", "contiguous", "flatten"})
_SUM, _PRODUCT = 0, 1
#: The operators on two tensors that have a kernel.
SUMS: dict[Any, int] = {
    operator.add: _SUM,
    torch.add: _SUM,
    operator.mul: _PRODUCT,
    torch.mul: _PRODUCT,
}

_gradients, _inference = torch.is_grad_enabled, torch.is_inference_mode_enabled
_flash, _math = torch._C._get_flash_sdp_enabled, torch._C._get_math_sdp_enabled


class KernelChain(nn.Module):
    """Runs a graph whose tensors are all computed by compiled kernels, or are views.

    Where the kernels run at once, the results are the same as one by one, in memory of their own.
    The graph's own nodes run where a tensor is not plain, for gradients, under autocast, in tracers
    and other modes of torch, where a module in the graph has hooks, and where a kernel refuses the
    numbers.

    Args:
        graph: computes a tuple of values. No node of it writes to a tensor.
    """

    symfx_effect = Effect.VIEW  # a result may be a view of an argument

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph_module = graph
        self._forget()

    def _forget(self) -> None:
        self._programs: dict[Any, _Ready] = {}
        self._trials: dict[Any, int] = {}
        self._watched: list[tuple[dict[str, Any], str, Tensor | None]] = []
        self._hooks: list[dict[int, Any]] = []

    @leaf_forward
    def forward(self, *given: Any) -> tuple[Any, ...]:
        """The values.

        Args:
            *given: tensors and sizes.
        """
        tensors = [each for each in given if isinstance(each, Tensor)]
        if not self._may_run_at_once(tensors):
            return self.graph_module(*given)  # type: ignore[no-any-return]
        key = (
            _flash(),
            _math(),
            _inference(),
            _sharing(tensors),
            *[
                (x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else (type(x), x)
                for x in given
            ],
        )
        ready = self._programs.get(key)
        if ready is not None:
            found = ready.run(tensors)
            return self.graph_module(*given) if found is None else found
        if self._trials.get(key, 0) >= _TRIALS:
            return self.graph_module(*given)  # type: ignore[no-any-return]
        return self._noted(key, given, tensors)

    def _may_run_at_once(self, tensors: list[Tensor]) -> bool:
        """Whether this call is plain inference with the tensors that the programs hold."""
        if not tensors or not is_ordinary(tensors[0]):
            return False
        if not all(map(is_plain_tensor, tensors)):
            return False
        if not self._watched:
            self._watch()
        for holder, name, tensor in self._watched:
            if holder[name] is not tensor:
                self._forget()
                return False
        if _gradients() and any(x is not None and x.requires_grad for _, _, x in self._watched):
            return False
        return not any(self._hooks)

    def _watch(self) -> None:
        watched: list[tuple[dict[str, Any], str, Tensor | None]] = []
        torch_module: Any = nn.modules.module
        hooks = [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
        for module in self.graph_module.modules():
            for holder in (module._parameters, module._buffers):
                watched += [(holder, name, tensor) for name, tensor in holder.items()]
            hooks += [module._forward_hooks, module._forward_pre_hooks]
        self._hooks, self._watched = hooks, watched

    def _noted(self, key: Any, given: tuple[Any, ...], tensors: list[Tensor]) -> tuple[Any, ...]:
        """The values, by one kernel after the other; a program is made from these calls."""
        self._trials[key] = self._trials.get(key, 0) + 1
        held = [tensor for _, _, tensor in self._watched if tensor is not None]
        try:
            with Tape(tensors, held) as tape:
                values: tuple[Any, ...] = _Noting(self.graph_module, tape).run(*given)
            ready = _Ready(tape.finish(values), given)
        except Exception:  # noqa: BLE001 - the graph itself raises the errors of its nodes
            return self.graph_module(*given)  # type: ignore[no-any-return]
        again = ready.run(tensors)
        if again is not None and all(map(_same, again, values)):
            while len(self._programs) >= _REMEMBERED:
                self._programs.pop(next(iter(self._programs)), None)
            self._programs[key] = ready
        return values

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self._forget()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {**vars(self)}
        for name in ("_programs", "_trials", "_watched", "_hooks"):
            state[name] = type(state[name])()
        return state


def _sharing(tensors: list[Tensor]) -> tuple[tuple[int, int, int], ...]:
    """Which tensors share memory, and how far their first elements lie apart."""
    if len(tensors) == 1:
        return ()
    first: dict[int, int] = {}
    found = []
    for place, x in enumerate(tensors):
        of = first.setdefault(x.untyped_storage().data_ptr(), place)
        if of != place:
            found.append((place, of, x.data_ptr() - tensors[of].data_ptr()))
    return tuple(found)


class _Noting(fx.Interpreter):
    """Runs a graph, and lets a tape note the nodes that are no kernel but have one."""

    def __init__(self, module: fx.GraphModule, tape: Tape) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.tape = tape
        self._copied: dict[Tensor, Tensor] = {}
        compiled = kernels()
        assert compiled is not None
        self._kernels = compiled

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node."""
        if n.op not in ("call_function", "call_method", "call_module"):
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        called = self.fetch_attr(str(n.target)) if n.op == "call_module" else n.target
        image = None if n.op == "call_method" else image_kernel(called, args, kwargs)
        if image is not None:
            pooled = image(self._kernels, args[0])
            if pooled is None:
                raise NotOnTapeError
            return pooled
        value = self._of_rows(n) if self._takes_rows(n) else super().run_node(n)
        if n.op == "call_module" and type(called) is not nn.Flatten:
            return value
        if n.target is assumed_truth and isinstance(args[0], Tensor):
            raise NotOnTapeError  # other numbers could give another answer
        if not isinstance(value, Tensor):
            self._require(value)
            return value
        if n.target in SUMS:
            value = self._combined(SUMS[n.target], value, *args)
        elif concatenates(n.target, args, kwargs) and not self.tape.knows(value):
            self._note_concatenation(value, args[0], (*args[1:], *kwargs.values()))
        elif _copies(called) and not self.tape.knows(value):
            self._note_copy(args[0], value)
            if value.shape == args[0].shape:
                self._copied[args[0]] = value
        self._require([value])
        return value

    def _require(self, values: Any) -> None:
        """Refuse tensors that were computed by another operator than the kernels."""
        for value in values if isinstance(values, tuple | list) else ():
            if isinstance(value, Tensor) and not self.tape.knows(value):
                raise NotOnTapeError

    def _takes_rows(self, node: fx.Node) -> bool:
        """Whether a node is a linear layer or a LayerNorm, whose results are contiguous."""
        if node.op == "call_module":
            return isinstance(self.fetch_attr(str(node.target)), FusedLinear)
        return node.target is layer_norm

    def _of_rows(self, node: fx.Node) -> Any:
        """The value of a node that copies its first argument if its rows do not lie in turn."""
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        x, *rest = args
        if not x.is_contiguous():
            if x not in self._copied:
                self._copied[x] = x.contiguous()
                self._note_copy(x, self._copied[x])
            x = self._copied[x]
        return getattr(self, node.op)(node.target, (x, *rest), kwargs)

    def _combined(self, how: int, value: Tensor, one: Any, two: Any) -> Tensor:
        """Note a sum or a product; the second term may be repeated along the first dimension."""
        if not isinstance(one, Tensor) or not isinstance(two, Tensor):
            raise NotOnTapeError
        if one.numel() < two.numel():
            one, two = two, one
        inner = two.shape
        while inner and inner[0] == 1:
            inner = inner[1:]
        fits = (
            one.shape == value.shape
            and one.shape[one.dim() - len(inner) :] == inner
            and all(x.is_contiguous() and x.dtype is torch.float for x in (one, two, value))
        )
        if not fits:
            raise NotOnTapeError
        self.tape.add(Step.COMBINE, (one, two, value), 2, (one.numel(), two.numel(), how))
        return value

    def _note_copy(self, source: Tensor, value: Tensor) -> None:
        """Note a copy in another order, or in the same order with other sizes."""
        if not self.tape.knows(source) or not _is_dense(value):
            raise NotOnTapeError
        if value.shape != source.shape:
            if not value.is_contiguous():
                raise NotOnTapeError
            value = value.view(source.shape)
        self.tape.add_copy(source, value)

    def _note_concatenation(
        self, value: Tensor, parts: Sequence[Tensor], dimension: Sequence[int]
    ) -> None:
        """Note a concatenation as copies of its terms."""
        at, place = (dimension[0] if dimension else 0), 0
        if not _is_dense(value) or not all(x.dim() == value.dim() for x in parts):
            raise NotOnTapeError  # torch skips a vector without elements
        for part in parts:
            self.tape.add_copy(part, value.narrow(at, place, part.shape[at]))
            place += part.shape[at]


def _copies(called: Any) -> bool:
    """Whether a call gives the same numbers, as a view or as a copy in another order."""
    return called in COPIES or called is laid_out_as or type(called) is nn.Flatten


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor of floats has all of its memory for itself."""
    return x.dtype is torch.float and x.untyped_storage().nbytes() == 4 * x.numel()


def _same(one: Any, two: Any) -> bool:
    """Whether two values are equal, NaN included."""
    if not isinstance(one, Tensor):
        return bool(one == two)
    return one.stride() == two.stride() and torch.equal(
        one.contiguous().view(torch.int32), two.contiguous().view(torch.int32)
    )


class _Ready:
    """A program, and the memory for its intermediate values.

    Args:
        program: the program.
        given: the arguments that it was noted with.
    """

    def __init__(self, program: Program, given: tuple[Any, ...]) -> None:
        compiled = kernels()
        assert compiled is not None
        self.program, self.kernels = program, compiled
        inputs = sum(isinstance(each, Tensor) for each in given)
        self._pack = struct.Struct(f"{2 + inputs + len(program.outputs)}q").pack
        #: One piece for each thread that runs the program at the same time.
        self._scratch: list[Tensor] = []

    def run(self, inputs: list[Tensor]) -> tuple[Any, ...] | None:
        """The values; None if a kernel refuses the numbers."""
        program, first = self.program, inputs[0]
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = torch.empty(program.scratch, dtype=torch.uint8, device="cpu")
        made = [first.new_empty(size, dtype=torch.float) for size in program.outputs]
        bases = [x.data_ptr() for x in (*inputs, *made)]
        refused = self.kernels.run(
            program.steps,
            program.count,
            self._pack(0, scratch.data_ptr(), *bases),
            self.kernels.threads,
        )
        self._scratch.append(scratch)
        if refused:
            return None
        memory = (*inputs, *made)
        return tuple(
            _view(memory[each.source], each) if isinstance(each, Result) else each
            for each in program.results
        )


def _view(x: Tensor, how: Result) -> Tensor:
    return x.as_strided(how.shape, how.stride, x.storage_offset() + how.offset)

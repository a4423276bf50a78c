"""torch's stacks of modes, and the switches of torch that a running trace sets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_infra_mode, _push_mode, _unset_infra_mode

from symfx.torch_bridge.identity import TorchProxyMode, proxy_tensor_of_torch
from symfx.torch_bridge.process_wide import ProcessWide
from symfx.torch_bridge.releases import fx_traces

__all__ = [
    "FAKE_KEY",
    "PRE_DISPATCH",
    "PROXY_KEY",
    "BelowTorch",
    "active_fake_mode",
    "active_proxy_mode",
    "disable_autocast_cache",
    "follow_renaming",
    "function_mode_count",
    "fx_tracing",
    "modes_are_active",
    "note_call",
    "pop_function_mode",
    "push_function_mode",
    "push_mode",
    "seen_by_no_mode",
    "torch_settings",
    "unset_proxy_mode",
    "without_proxy_mode",
]

PROXY_KEY = torch._C._TorchDispatchModeKey.PROXY
FAKE_KEY = torch._C._TorchDispatchModeKey.FAKE
PRE_DISPATCH = torch._C.DispatchKey.PreDispatch

push_mode = _push_mode

function_mode_count: Callable[[], int] = torch._C._len_torch_function_stack
"""The number of active modes for torch functions."""

pop_function_mode: Callable[[], TorchFunctionMode] = torch.overrides._pop_mode
"""Take the innermost mode for torch functions off their stack."""

push_function_mode: Callable[[TorchFunctionMode], None] = torch.overrides._push_mode
"""Put a mode for torch functions on their stack."""


def active_proxy_mode() -> Any:
    """The proxy mode in torch's slot, symfx's or torch's; None while nothing traces."""
    before = torch._ops._get_dispatch_mode_pre_dispatch(PROXY_KEY)  # type: ignore[no-untyped-call]
    return before or torch._C._get_dispatch_mode(PROXY_KEY)


def note_call(function: Any, args: tuple[Any, ...]) -> None:
    """Let torch's tracer, if it is tracing, record a call on symbolic numbers.

    torch's tracer makes the nodes of numbers of symfx from their sympy expressions, but has no
    operator of its own for a minimum or a maximum in one.

    Args:
        function: the function; it is called once more.
        args: its arguments.
    """
    if type(active_proxy_mode()) is TorchProxyMode:
        with without_proxy_mode() as mode:
            mode.__sym_dispatch__(function, [], args, {})


def spend_name(name: str, *nodes: Any) -> Any:
    """Let the trace count an operation on symbolic numbers, as torch's traces do.

    torch records a node for each operation that the program and torch's composite operators
    compute with sizes, and drops those without users at the end. symfx records the nodes that are
    needed. The names of all other nodes are torch's if the same names are spent.

    Args:
        name: the name of the method.
        nodes: the operands.

    Returns:
        The table of the trace that counts the operation, or None.
    """
    mode = active_proxy_mode()
    if mode is None or type(mode) is TorchProxyMode or mode.tracer.enable_thunkify:
        return None
    return mode.tracer.symbols.names.spend(name, nodes)


def active_fake_mode() -> FakeTensorMode | None:
    """The fake mode that an operator would reach now, or None."""
    mode: FakeTensorMode | None = torch._C._get_dispatch_mode(FAKE_KEY)
    return mode


def modes_are_active() -> bool:
    """Whether a mode acts on operators or functions now, or a transform of `torch.func` does."""
    return bool(
        function_mode_count()
        or active_proxy_mode() is not None
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.maybe_current_level() is not None
    )


def follow_renaming(env: Any, old: Any, new: Any) -> None:
    """Have the tracer that runs now, if any, find the node of a renamed symbol under both names.

    torch's tracer meets symbols of symfx where a program of symfx is decomposed after
    `symfx.uninstall`. It looks for the node of an expression by the symbols in it.

    Args:
        env: the ShapeEnv of symfx that has both symbols.
        old: the symbol that has a node, as sympy.
        new: the symbol that stands for it from now on.
    """
    mode = active_proxy_mode()
    numbers = getattr(getattr(mode, "tracer", None), "symbols", None)
    if numbers is not None:  # a tracer of symfx
        numbers.follow_renaming(env, old, new)
    elif type(mode) is TorchProxyMode:
        nodes = mode.tracer.sympy_expr_tracker
        if old in nodes:
            nodes.setdefault(new, nodes[old])


def unset_proxy_mode() -> Any:
    """Take the proxy mode out of its slot, and return it; None for an empty slot."""
    return _unset_infra_mode(PROXY_KEY)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def without_proxy_mode() -> Iterator[Any]:
    """A context manager: nothing is traced inside. It gives the mode that was tracing, or None."""
    with contextlib.contextmanager(_disable_infra_mode)(PROXY_KEY) as mode:
        yield mode


@contextlib.contextmanager
def disable_autocast_cache() -> Iterator[None]:
    """A context manager: autocast casts a weight again at each use, so a trace sees every cast.

    With the cache, a cast that was made before the trace, or in another part of it, would
    become a constant of the graph.

    Example:
        >>> with disable_autocast_cache():
        ...     torch.is_autocast_cache_enabled()
        False
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


class BelowTorch:
    """A context manager: torch functions run without modes, Python kernels and overrides."""

    __slots__ = ("_guards",)

    def __enter__(self) -> None:
        guards = (
            torch._C._DisableTorchDispatch(),
            torch._C._DisablePythonDispatcher(),
            torch._C.DisableTorchFunction(),
        )
        for guard in guards:
            guard.__enter__()
        self._guards = guards

    def __exit__(self, *exc: Any) -> None:
        dispatch, python_dispatcher, function = self._guards
        function.__exit__(*exc)
        python_dispatcher.__exit__(*exc)
        dispatch.__exit__(*exc)


_tracer_slot = ProcessWide(proxy_tensor_of_torch, "_CURRENT_MAKE_FX_TRACER")


@contextlib.contextmanager
def fx_tracing(tracer: Any) -> Iterator[None]:
    """A context manager: tell torch that fx traces, and the tracer for higher-order operators.

    Args:
        tracer: an object with ``trace_subgraph``, ``trace_subgraph_custom_decomp`` and
            ``fake_tensor_mode``, each about the trace that runs in the calling thread.
    """
    with fx_traces(), _tracer_slot.set_to(tracer):
        yield


def seen_by_no_mode(value: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which looks at a plain fake tensor are no calls for a mode."""
    plain = type(value) is FakeTensor
    return torch._C.DisableTorchFunction() if plain else contextlib.nullcontext()


def torch_settings() -> tuple[Any, ...]:
    """The switches of torch on which the operators of a program can depend, and the active modes.

    Modes that are equal are one object.
    """
    cuda: Any = torch.backends.cuda
    kinds = ("cpu", "cuda")
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds),
        torch.get_default_dtype(),
        torch._C._get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        tuple(
            id(torch._C._get_function_stack_at(i))
            for i in range(torch._C._len_torch_function_stack())
        ),
        tuple(
            id(torch._C._get_dispatch_stack_at(i))
            for i in range(torch._C._len_torch_dispatch_stack())
        ),
        torch._C._functorch.peek_interpreter_stack() is None,
        torch._C._is_torch_function_enabled(),
    )

"""The two peers, stock torch and symfx: they differ only in the prefix of their modules.

A peer's modules are imported at their first use, so that a broken peer costs only its own column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from torch.fx import traceback as fx_traceback

__all__ = ["MODES", "PEERS", "Peer", "TracingMode"]

TracingMode = Literal["real", "fake", "symbolic"]
MODES: tuple[TracingMode, ...] = ("real", "fake", "symbolic")


@dataclass(frozen=True)
class Peer:
    """One implementation of symbolic shapes.

    Attributes:
        name: its column.
        prefix: the package that holds its modules.
    """

    name: str
    prefix: str

    def trace(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        mode: TracingMode,
        *,
        all_metadata: bool = False,
    ) -> Any:
        """Trace ``function`` at ``args``, with the same call for every peer.

        The function may hold real tensors, as a module holds its parameters. Nodes get the metadata
        that torch records by default. With ``all_metadata`` they also get stack traces, the
        operators behind decompositions, and the numbers that tie backward to forward.
        """
        make_fx = import_module(f"{self.prefix}.proxy_tensor").make_fx
        if not all_metadata:
            return make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=True)(*args)
        with fx_traceback.preserve_node_meta():
            return make_fx(
                function,
                tracing_mode=mode,
                _allow_non_fake_inputs=True,
                record_module_stack=True,
                record_stack_traces=True,
            )(*args)

    def shape_env(self) -> Any:
        """A new, empty ShapeEnv."""
        return import_module(f"{self.prefix}.symbolic_shapes").ShapeEnv()


PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (Peer("stock", "torch.fx.experimental"), Peer("symfx", "symfx"))
}

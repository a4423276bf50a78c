"""torch's class of the state that the forward graph of torch.compile passes to the backward graph.

The class is torch's own: AOTAutograd and compiled autograd know the state by its class.
"""

from symfx.torch_bridge.identity import BackwardState

__all__ = ["BackwardState"]

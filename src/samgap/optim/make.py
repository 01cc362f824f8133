"""`hydra.utils.instantiate(config.ascent)`: wraps an optimizer in the ascent that a file of conf/ascent/ describes."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from samgap.optim.wrapper import Wrapper
from samgap.targets import call, locate


def ascent(base: Optimizer, net: nn.Module, *, name: str, code: str = "", rho: float = 0, **own: Any) -> Wrapper:
    """Return `base`, the optimizer of `net`'s parameters, wrapped in the ascent; if rho is 0, in a plain `Wrapper`."""
    if not rho:
        return Wrapper(base)
    own.pop("m", None)  # used by the stepper, which divides batches
    return call("ascent", locate(code, "ascent.code"), base, rho=rho, module=net, **own)

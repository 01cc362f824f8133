"""`hydra.utils.instantiate(config.ascent)`: puts an optimizer into the ascent that a file of conf/ascent/ describes."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from samgap.optim.wrapper import Wrapper
from samgap.targets import call, locate


def ascent(base: Optimizer, net: nn.Module, *, name: str, code: str = "", rho: float = 0, **own: Any) -> Wrapper:
    """`base` in its ascent, or in nothing that does anything if rho is 0: the SGD arm. `net` has its parameters."""
    if not rho:
        return Wrapper(base)
    own.pop("m", None)  # the stepper's, which deals out the examples
    return call("ascent", locate(code, "ascent.code"), base, rho=rho, module=net, **own)

"""A correct SAM in the styles of other projects, and in one that no adapter supports."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samgap.optim.sam import SAM


class Closure(SAM):
    def __init__(self, params: Any, base: type[Optimizer], rho: float, **options: Any) -> None:
        super().__init__(base(params, **options), rho)


class WrapperTwoStep(SAM):
    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        self.moved = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        self.old = [w.detach().clone() for w in self.moved]
        torch._foreach_add_(self.moved, self.ascent(self.moved, [w.grad for w in self.moved]))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        torch._foreach_copy_(self.moved, self.old)
        self.base.step()


class BackwardClosure(Closure):
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:
        WrapperTwoStep.first_step(self)
        with torch.enable_grad():
            closure()
        WrapperTwoStep.second_step(self)


class AscentDescent:
    """The style of ASAM's authors: not an optimizer, with methods ascent_step and descent_step."""

    def __init__(self, optimizer: Optimizer, model: Any, rho: float) -> None:
        self.sam = WrapperTwoStep(optimizer, rho)

    def ascent_step(self) -> None:
        self.sam.first_step()

    def descent_step(self) -> None:
        self.sam.second_step()


class ClosureUnstepped(Closure):
    def step(self, closure: Any = None) -> Any:
        raise NotImplementedError("use\nfit()")

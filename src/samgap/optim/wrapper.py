"""An optimizer around another: the base takes the step, the wrapper decides along which gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Tensor]  # clears the gradients, computes a loss and its gradients, returns the loss
Groups = Sequence[tuple[float, Closure]]  # share of the batch, closure over that part of it


class Wrapper(Optimizer):
    """The plain gradient, and the base's step: the SGD arm.

    Groups and state are the base's own objects: a scheduler on this optimizer moves the base, and `state_dict` is
    the base's, momentum included.
    """

    KEPT: tuple[str, ...] = ("base",)  # attributes that a deep copy carries over

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups, dict(base.defaults))
        self.base = base
        self._share()

    def gradient(self, closure: Closure) -> Tensor:
        """Leave in `.grad` what the base shall descend along, and everything else as it was.

        Returns:
            The loss at the present weights.
        """
        return closure()

    @torch.no_grad()
    def step(self, closure: Closure | None = None, *, groups: Groups | None = None) -> Tensor:  # type: ignore[override]
        """One step of the base.

        What must happen to the final gradient (clipping, averaging over processes) is a step pre-hook of the base.

        Args:
            closure: over the whole batch.
            groups: instead of `closure`, parts of the batch that each get a gradient of their own, as m-sharpness
                wants; the gradients are summed by share. May be empty where a process has no examples.

        Returns:
            The loss at the weights before the step.

        Raises:
            ValueError: neither is given.
        """
        if groups is None:
            if closure is None:
                raise ValueError("step() wants a closure, which it calls to compute loss and gradients.")
            groups = [(1.0, closure)]
        loss = self._gradients(groups)
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base's state; the wrapper keeps none between steps."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the base's state."""
        self.base.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        # torch's own would copy groups and state without the base that they belong to.
        state: dict[str, Any] = super().__getstate__()
        return state | {name: getattr(self, name) for name in self.KEPT}

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    def _gradients(self, groups: Groups) -> Tensor:
        if len(groups) == 1 and groups[0][0] == 1:  # nothing is scaled: bit for bit what the closure left
            return self.gradient(torch.enable_grad()(groups[0][1]))
        weights = [w for group in self.param_groups for w in group["params"]]
        total: dict[Tensor, Tensor] = {}
        loss = torch.zeros((), device=weights[0].device)
        for share, closure in groups:
            loss = loss + share * self.gradient(torch.enable_grad()(closure)).detach()
            for w in weights:
                if w.grad is not None:
                    total[w] = total[w].add_(w.grad, alpha=share) if w in total else w.grad * share
        for w in weights:
            w.grad = total.get(w)
        return loss

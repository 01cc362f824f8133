"""A wrapper around a base optimizer: the wrapper computes the gradient, and the base takes the step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Tensor]  # clears the gradients, computes a loss and its gradients, and returns the loss
Groups = Sequence[tuple[float, Closure]]  # (weight in the sum, closure) of each part of the batch


class Wrapper(Optimizer):
    """Takes the base's step along the plain gradient: the SGD arm.

    The wrapper shares the base's parameter groups and state, so schedulers act on the base, and `state_dict` is the
    base's, including momentum.
    """

    KEPT: tuple[str, ...] = ("base", "defaults")  # attributes that a deep copy carries over
    SHARED = ("param_groups", "state")

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups, dict(base.defaults))
        self.base = base
        for name in self.SHARED:
            delattr(self, name)

    def __getattr__(self, name: str) -> Any:
        # The base may replace these objects at any time: it does so when it loads a state.
        if name in self.SHARED and "base" in vars(self):
            return getattr(self.base, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name}.")

    def gradient(self, closure: Closure) -> Tensor:
        """Set `.grad` to the gradient for the base's step, and change nothing else.

        Returns:
            The loss at the current weights.
        """
        return closure()

    @torch.no_grad()
    def step(self, closure: Closure | None = None, *, groups: Groups | None = None) -> Tensor:  # type: ignore[override]
        """Take one step of the base.

        To change the final gradient (clipping, averaging over processes), register a step pre-hook on the base.

        Args:
            closure: computes loss and gradients of the whole batch.
            groups: instead of `closure`, (weight, closure) of each part of the batch. Each part has its own ascent, as
                in m-sharpness; the step uses the weighted sum of their gradients. Empty if a rank has no examples.

        Returns:
            The loss at the weights before the step.

        Raises:
            ValueError: neither is given.
        """
        if groups is None:
            if closure is None:
                raise ValueError("step() needs a closure that computes the loss and its gradients.")
            groups = [(1.0, closure)]
        loss = self._gradients(groups)
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state; the wrapper has none of its own."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the base's state."""
        self.base.load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        # torch would copy groups and state, but not the base that they belong to.
        return {name: getattr(self, name) for name in self.KEPT}

    def _gradients(self, groups: Groups) -> Tensor:
        if len(groups) == 1 and groups[0][0] == 1:  # unscaled, to keep the closure's gradient bit for bit
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

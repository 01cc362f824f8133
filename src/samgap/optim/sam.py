"""Sharpness-aware minimization as a wrapper around any torch optimizer.

Foret et al. 2021, equations 2 and 4; the paper's update rule in its experiments. Needs nothing of this project.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

TRACKING = "track_running_stats"  # of batch norm and its relatives


class SAM(Optimizer):
    """One step: gradient at w, ascent to w + eps, gradient there, back to w, base step with the second gradient.

        eps = rho g / |g|,   g = grad L(w),   |g| over all parameters together

    What holds, whatever the net: weight decay, momentum and schedule are the base's and act at w, so the ascent does
    not see them. A zero gradient gives no ascent. Both passes see the same random state (dropout masks). Running
    statistics are those of the first pass. Weights come back by copy, bit for bit, also when the second pass raises.
    A parameter without gradient stays where it is. With rho = 0 a step is the base's, bit for bit.

    Groups and state are the base's own objects: a scheduler on this optimizer moves the base, and `state_dict` is
    the base's, momentum included.
    """

    def __init__(self, base: Optimizer, rho: float, module: nn.Module | None = None) -> None:
        """
        Args:
            base: takes the descent step.
            rho: radius of the ascent, L2 norm over all parameters.
            module: the net, whose running statistics (batch norm) the second pass must leave alone.

        Raises:
            ValueError: rho is negative or not finite.
        """
        if not (math.isfinite(rho) and rho >= 0):
            raise ValueError(f"ascent.rho must be a finite number from 0, got {rho!r}.")
        super().__init__(base.param_groups, dict(base.defaults))
        self.base = base
        self.rho = rho
        self._tracking = [part for part in module.modules() if _tracks(part)] if module is not None else []
        self._saved: list[Tensor] = []
        self._share()

    def ascent(self, gradients: list[Tensor]) -> list[Tensor]:
        """Eps for these gradients, one tensor each; no transfer from the device, and no 0 / 0."""
        norm = global_norm(gradients)
        factor = torch.where(norm > 0, self.rho / norm, torch.zeros_like(norm))
        return list(torch._foreach_mul(gradients, factor))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One SAM step.

        Args:
            closure: clears the gradients, computes the loss at the present weights, its gradients, and returns it.
                It is called twice.

        Returns:
            The loss at w (first pass).
        """
        closure = torch.enable_grad()(closure)
        random = _random_state(self.param_groups)
        loss = closure()
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        if weights:
            saved = self._save(weights)
            try:
                torch._foreach_add_(weights, self.ascent([w.grad for w in weights]))
                # Autocast keeps low-precision copies of weights for a whole block; they are those of the first pass.
                torch.clear_autocast_cache()
                _set_random_state(random)
                with self._statistics_held():
                    closure()
            finally:
                torch._foreach_copy_(weights, saved)
                torch.clear_autocast_cache()
        self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base's state; the ascent keeps none between steps."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the base's state."""
        self.base.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        # torch's own would copy groups and state without the base that they belong to.
        state: dict[str, Any] = super().__getstate__()
        return state | {"base": self.base, "rho": self.rho, "_tracking": self._tracking, "_saved": []}

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    def _save(self, weights: list[Tensor]) -> list[Tensor]:
        # The same memory every step; made anew only where the set of weights with gradients changes.
        if [_kind(copy) for copy in self._saved] != [_kind(w) for w in weights]:
            self._saved = [torch.empty_like(w) for w in weights]
        torch._foreach_copy_(self._saved, weights)
        return self._saved

    @contextlib.contextmanager
    def _statistics_held(self) -> Iterator[None]:
        # Without tracking, batch norm in training mode still normalizes by the batch; it only leaves its running
        # mean, variance and batch count as they are. Momentum 0 would still count the batch.
        for part in self._tracking:
            setattr(part, TRACKING, False)
        try:
            yield
        finally:
            for part in self._tracking:
                setattr(part, TRACKING, True)


def global_norm(tensors: list[Tensor]) -> Tensor:
    """L2 norm over all tensors together, in float32 or better: a half-precision sum of squares overflows."""
    norms = torch._foreach_norm([t if t.dtype == torch.float64 else t.float() for t in tensors])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return norm


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _tracks(module: nn.Module) -> bool:
    return bool(getattr(module, TRACKING, False))


def _random_state(groups: list[dict[str, Any]]) -> tuple[Tensor, torch.device | None, Tensor | None]:
    device = groups[0]["params"][0].device
    if device.type != "cuda":
        return torch.get_rng_state(), None, None
    return torch.get_rng_state(), device, torch.cuda.get_rng_state(device)


def _set_random_state(state: tuple[Tensor, torch.device | None, Tensor | None]) -> None:
    cpu, device, cuda = state
    torch.set_rng_state(cpu)
    if device is not None and cuda is not None:
        torch.cuda.set_rng_state(cuda, device)

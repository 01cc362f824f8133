"""Sharpness-aware minimization as a wrapper around any torch optimizer.

Foret et al. 2021, equations 2 and 4; the paper's update rule in its experiments. This folder needs nothing else of
the project.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .wrapper import Closure, Groups, Wrapper

TRACKING = "track_running_stats"  # of batch norm and its relatives
STEPS = "steps_taken"  # in param_groups: where an interval stands


class Measured(NamedTuple):
    """What one ascent was, each a scalar () on the device."""

    grad_norm: Tensor  # |g|, g = gradient at w
    eps_norm: Tensor  # |eps|, of the move that the weights really made
    radius: Tensor  # what equals rho where the step is what it claims to be; |eps| for SAM
    loss_rise: Tensor  # L(w + eps) - L(w)
    cosine: Tensor  # of the gradients at w and at w + eps


class SAM(Wrapper):
    """One step: gradient at w, ascent to w + eps, gradient there, back to w, base step with the second gradient.

        eps = rho g / |g|,   g = grad L(w),   |g| over all parameters together

    What holds, whatever the net: weight decay, momentum and schedule are the base's and act at w, so the ascent does
    not see them. A zero gradient gives no ascent; in float32 that is one whose elements are below 1e-22. Both passes
    see the same random state (dropout masks). Batch norm's running statistics are those of the first pass. Weights
    come back by copy, bit for bit, also when the second pass raises. A parameter without gradient stays where it is.
    With rho = 0 a step is the base's, bit for bit.

    A variant overrides `ascent`, `radius` or `combine`.
    """

    KEPT = (*Wrapper.KEPT, "rho", "interval", "measuring", "measured", "ascents", "_tracking")
    COMBINES = False  # whether `combine` wants the first gradient

    def __init__(
        self, base: Optimizer, rho: float, module: nn.Module | None = None, *, interval: int | None = None
    ) -> None:
        """
        Args:
            base: takes the descent step; any optimizer whose step needs no closure.
            rho: radius of the ascent, L2 norm over all parameters.
            module: the net, whose running statistics (batch norm) the second pass must leave alone.
            interval: k, SAM in steps 0, k, 2k, ... and the base's own step in between, rho being the same; where it
                stands is kept in `param_groups`, and so in `state_dict`. None is every step.

        Raises:
            ValueError: rho is negative or not finite, or interval is no whole number from 1.
        """
        if not (math.isfinite(rho) and rho >= 0):
            raise ValueError(f"ascent.rho must be a finite number from 0, got {rho!r}.")
        if interval is not None and (isinstance(interval, bool) or not isinstance(interval, int) or interval < 1):
            raise ValueError(f"ascent.interval must be a whole number from 1, or null, got {interval!r}.")
        super().__init__(base)
        self.rho, self.interval = rho, interval
        self.measuring = False  # set to True, the next ascent leaves `measured` and sets it back
        self.measured: Measured | None = None
        self.ascents = 0  # steps with an ascent since this was last set to 0
        self._tracking = [part for part in module.modules() if _tracks(part)] if module is not None else []
        self._saved: list[Tensor] = []

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """eps at these weights, one tensor each; no transfer from the device, and no 0 / 0."""
        return list(torch._foreach_mul(gradients, ratio(self.rho, global_norm(gradients))))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """The length that `ascent` promises to be rho, measured on the eps that was carried out."""
        return global_norm(eps)

    def combine(self, weights: list[Tensor], first: list[Tensor]) -> None:
        """Change `.grad`, the gradient at w + eps, with the help of the `first`, the gradient at w."""

    def gradient(self, closure: Closure) -> Tensor:
        """Both passes: the closure is called twice, and the loss at w, of the first pass, returned."""
        random_state_back = _random_state(self.param_groups)
        loss = closure()
        weights = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        if not weights or not self.active:
            return loss
        measuring, self.measuring = self.measuring, False
        gradients = [w.grad for w in weights]
        # A closure may clear gradients in place.
        first = [g.clone() for g in gradients] if measuring or self.COMBINES else []
        saved = self._save(weights)
        try:
            torch._foreach_add_(weights, self.ascent(weights, gradients))
            eps = list(torch._foreach_sub(weights, saved)) if measuring else []
            # Autocast keeps low-precision copies of weights for a whole block; they are those of the first pass.
            torch.clear_autocast_cache()
            random_state_back()
            with self._statistics_held():
                risen = closure()
        finally:
            torch._foreach_copy_(weights, saved)
            torch.clear_autocast_cache()
        if measuring:
            self.measured = self._measure(weights, first, eps, (risen - loss).detach())
        if self.COMBINES:
            self.combine(weights, first)
        return loss

    def _gradients(self, groups: Groups) -> Tensor:
        loss = super()._gradients(groups)
        self.count()
        return loss

    def count(self) -> None:
        """Count a step, whoever took it."""
        self.ascents += self.active
        if self.interval is not None:
            self.param_groups[0][STEPS] = self.param_groups[0].get(STEPS, 0) + 1

    @property
    def active(self) -> bool:
        """Whether the next step has an ascent."""
        return self.interval is None or self.param_groups[0].get(STEPS, 0) % self.interval == 0

    def _measure(self, weights: list[Tensor], first: list[Tensor], eps: list[Tensor], rise: Tensor) -> Measured:
        second = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        grad_norm = global_norm(first)
        cosine = inner(first, second) / (grad_norm * global_norm(second))
        return Measured(grad_norm, global_norm(eps), self.radius(weights, first, eps), rise, cosine)

    def _save(self, weights: list[Tensor]) -> list[Tensor]:
        # The same memory every step; made anew only where the set of weights with gradients changes.
        if [_kind(copy) for copy in self._saved] != [_kind(w) for w in weights]:
            self._saved = [torch.empty_like(w) for w in weights]
        torch._foreach_copy_(self._saved, weights)
        return self._saved

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_saved": []}

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
    norms = torch._foreach_norm([_wide(t) for t in tensors])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
    return norm


def inner(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Inner product over all tensors together, in float32 or better."""
    return torch.stack([torch.sum(_wide(x) * _wide(y)) for x, y in zip(a, b, strict=True)]).sum()


def ratio(length: float, norm: Tensor) -> Tensor:
    """The factor that brings `norm` to `length`; 0 where there is nothing to scale."""
    return torch.where(norm > 0, length / norm, torch.zeros_like(norm))


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _tracks(module: nn.Module) -> bool:
    return bool(getattr(module, TRACKING, False))


def _random_state(groups: list[dict[str, Any]]) -> Callable[[], None]:
    """What brings the present random state back. The CPU's is 5 kB in memory, a copy of under a microsecond; a GPU's
    generator is two numbers on the host, and to read them waits for nothing.
    """
    cpu, device = torch.get_rng_state(), groups[0]["params"][0].device
    if device.type != "cuda":
        return partial(torch.set_rng_state, cpu)
    generator = torch.cuda.default_generators[device.index]
    seed, offset = generator.initial_seed(), generator.get_offset()

    def back() -> None:
        torch.set_rng_state(cpu)
        generator.manual_seed(seed)
        generator.set_offset(offset)

    return back

"""Sharpness-aware minimization as a wrapper around any torch optimizer.

Foret et al. 2021, equations 2 and 4: the update rule of the experiments in arXiv 2311.17539. The modules `sam`, `asam`,
`gsam` and `wrapper` import nothing else of the project.
"""

import contextlib
import math
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim import Optimizer

from .wrapper import Closure, Groups, Wrapper

STEPS = "steps_taken"  # in param_groups: counts steps, so that an interval survives a checkpoint


class AscentMetrics(NamedTuple):
    """Measurements of one ascent, each a scalar () on the device."""

    grad_norm: Tensor  # |g|, g = gradient at w
    eps_norm: Tensor  # |eps|, from the perturbed weights after rounding
    radius: Tensor  # the length that the variant sets to rho; |eps| for SAM
    loss_rise: Tensor  # L(w + eps) - L(w)
    cosine: Tensor  # between the gradients at w and at w + eps


class SAM(Wrapper):
    """One step: gradient at w, ascent to w + eps, gradient at w + eps, back to w, base step with the second gradient.

        eps = rho g / |g|,   g = grad L(w),   |g| over all parameters together

    Guarantees for any net: Weight decay, momentum and schedule belong to the base and act at w, not on the ascent.
    A zero gradient gives no ascent; in float32, elements below 1e-22 count as zero. Both passes use the same random
    states of torch, Python and NumPy, so the same dropout masks. Only the first pass updates batch norm's running
    statistics. Weights are restored from a copy, bit for bit, even if the second pass raises. A parameter without
    gradient is not perturbed.
    With rho = 0 a step equals the base's, bit for bit.

    A variant overrides `ascent`, `radius` or `combine`.
    """

    KEPT = (*Wrapper.KEPT, "rho", "interval", "measuring", "measured", "ascents", "draws", "module")
    COMBINES = False  # whether `combine` needs the first gradient

    def __init__(
        self, base: Optimizer, rho: float, module: nn.Module | None = None, *, interval: int | None = None
    ) -> None:
        """
        Args:
            base: takes the descent step; any optimizer whose step needs no closure.
            rho: radius of the ascent, as an L2 norm over all parameters.
            module: the net. The second pass does not update its running statistics (batch norm, instance norm); without
                a module it does.
            interval: k: only steps 0, k, 2k, ... have an ascent; None is 1. The step count is saved in `param_groups`,
                and so in `state_dict`.

        Raises:
            ValueError: rho is negative or not finite, or interval is not a whole number from 1.
        """
        if not (math.isfinite(rho) and rho >= 0):
            raise ValueError(f"ascent.rho must be a finite number from 0, got {rho!r}.")
        if interval is not None and (isinstance(interval, bool) or not isinstance(interval, int) or interval < 1):
            raise ValueError(f"ascent.interval must be a whole number from 1, or null, got {interval!r}.")
        super().__init__(base)
        self.rho, self.interval = rho, interval
        self.measuring = False  # if True, the next ascent sets `measured` and resets this
        self.measured: AscentMetrics | None = None
        self.ascents = 0  # number of steps with an ascent; callers may reset it
        self.draws = True  # set False if closures draw no random numbers, to save copying the random state
        self.module = module
        self._saved: list[Tensor] = []

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return eps, one tensor for each weight, 0 for a zero gradient; without copying anything to the host."""
        return list(torch._foreach_mul(gradients, ratio(self.rho, global_norm(gradients))))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """Return the length that `ascent` sets to rho, computed from the actual `eps`."""
        return global_norm(eps)

    def combine(self, weights: list[Tensor], first: list[Tensor]) -> None:
        """Change `.grad`, the gradient at w + eps, using `first`, the gradient at w."""

    def gradient(self, closure: Closure) -> Tensor:
        """Run both passes by calling the closure twice; return the loss of the first pass, at w."""
        restore_random_state = _random_state(self.param_groups) if self.draws else None
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
            # Autocast caches low-precision copies of weights, which are stale in the second pass.
            torch.clear_autocast_cache()
            if restore_random_state:
                restore_random_state()
            with self._statistics_frozen():
                perturbed_loss = closure()
        finally:
            torch._foreach_copy_(weights, saved)
            torch.clear_autocast_cache()
        if measuring:
            second = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
            self.measured = self.measure(weights, first, second, eps, (perturbed_loss - loss).detach())
        if self.COMBINES and self.rho:
            self.combine(weights, first)
        return loss

    def _gradients(self, groups: Groups) -> Tensor:
        loss = super()._gradients(groups)
        self.count()
        return loss

    def count(self) -> None:
        """Count a step; called also by code that takes the step itself, such as a compiled one."""
        self.ascents += self.active
        if self.interval is not None:
            self.param_groups[0][STEPS] = self.param_groups[0].get(STEPS, 0) + 1

    @property
    def active(self) -> bool:
        """Whether the next step has an ascent."""
        return self.interval is None or self.param_groups[0].get(STEPS, 0) % self.interval == 0

    def measure(
        self, weights: list[Tensor], first: list[Tensor], second: list[Tensor], eps: list[Tensor], rise: Tensor
    ) -> AscentMetrics:
        """Measure an ascent.

        Args:
            weights: w.
            first, second: gradients at w and at w + eps.
            eps: perturbation after rounding to the precision of the weights.
            rise: L(w + eps) - L(w).
        """
        grad_norm = global_norm(first)
        cosine = inner(first, second) / (grad_norm * global_norm(second))
        return AscentMetrics(grad_norm, global_norm(eps), self.radius(weights, first, eps), rise, cosine)

    def _save(self, weights: list[Tensor]) -> list[Tensor]:
        # Reuse memory; reallocate only if the set of weights with gradients changes.
        kinds = [[(t.shape, t.dtype, t.device) for t in tensors] for tensors in (self._saved, weights)]
        if kinds[0] != kinds[1]:
            self._saved = [torch.empty_like(w) for w in weights]
        torch._foreach_copy_(self._saved, weights)
        return self._saved

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_saved": []}

    @contextlib.contextmanager
    def _statistics_frozen(self) -> Iterator[None]:
        changed = freeze_statistics(self.module) if self.module is not None else []
        try:
            yield
        finally:
            for part, name, value in changed:
                setattr(part, name, value)


def freeze_statistics(net: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Stop the updates of running statistics in training mode; return layers, changed attributes and their old values.

    Batch norm without tracking still normalizes by the batch, but does not update mean, variance and batch count, which
    a momentum of 0 would still update. Instance norm has no count, and updates the others with or without tracking.
    """
    changed: list[tuple[nn.Module, str, Any]] = []
    for part in net.modules():
        if vars(part).get("track_running_stats"):  # getattr of a module is slow if there is none
            name, value = ("momentum", 0.0) if isinstance(part, _InstanceNorm) else ("track_running_stats", False)
            changed.append((part, name, getattr(part, name)))
            setattr(part, name, value)
    return changed


def global_norm(tensors: list[Tensor]) -> Tensor:
    """Return the L2 norm over all tensors, at least in float32: a half-precision sum of squares can overflow."""
    norms = torch._foreach_norm([_wide(t) for t in tensors])
    return torch.linalg.vector_norm(torch.stack(list(norms)))


def inner(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Return the inner product over all tensors, at least in float32."""
    return torch.stack([torch.sum(_wide(x) * _wide(y)) for x, y in zip(a, b, strict=True)]).sum()


def ratio(length: float, norm: Tensor) -> Tensor:
    """Return length / norm, or 0 if the norm is 0."""
    return torch.where(norm > 0, length / norm, torch.zeros_like(norm))


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _random_state(groups: list[dict[str, Any]]) -> Callable[[], None]:
    """Return a function that restores the current random states of torch, on the CPU and the parameters' device, of
    Python, and of NumPy if it is imported.

    A GPU generator's state is two numbers on the host; reading them does not synchronize.
    """
    device = next((w.device for group in groups for w in group["params"]), torch.device("cpu"))
    numpy = sys.modules.get("numpy")
    calls: list[Callable[[], object]] = [
        partial(torch.set_rng_state, torch.get_rng_state()),
        partial(random.setstate, random.getstate()),
    ]
    if numpy:
        calls.append(partial(numpy.random.set_state, numpy.random.get_state()))
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index]
        calls += [
            partial(generator.manual_seed, generator.initial_seed()),
            partial(generator.set_offset, generator.get_offset()),
        ]

    def restore() -> None:
        for call in calls:
            call()

    return restore

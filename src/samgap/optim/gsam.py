"""Surrogate-gap guided SAM: lower the perturbed loss and its gap to the loss at w.

Zhuang et al. 2022, algorithm 1, with a constant rho; the authors schedule rho.
"""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .sam import SAM, global_norm, inner, ratio


class GSAM(SAM):
    """As `SAM`, but with g = grad L(w) and p = grad L(w + eps) the base descends along

        p - alpha (g - <g, p> p / |p|^2)

    The second term is the component of g orthogonal to p. Subtracting it lowers the gap L(w + eps) - L(w) and, to
    first order, does not change L(w + eps). With alpha = 0 this is SAM, bit for bit.
    """

    KEPT = (*SAM.KEPT, "alpha")
    COMBINES = True

    def __init__(
        self,
        base: Optimizer,
        rho: float,
        module: nn.Module | None = None,
        *,
        interval: int | None = None,
        alpha: float = 0.4,
    ) -> None:
        """
        Args:
            base, rho, module, interval: as for `SAM`.
            alpha: weight of the surrogate gap; the authors use 0.4 for ResNets on ImageNet.

        Raises:
            ValueError: as for `SAM`; or alpha is negative.
        """
        super().__init__(base, rho, module, interval=interval)
        if not alpha >= 0:
            raise ValueError(f"ascent.alpha must be a number from 0, got {alpha!r}.")
        self.alpha = alpha

    def combine(self, weights: list[Tensor], first: list[Tensor]) -> None:
        """Subtract alpha times the component of `first` orthogonal to `.grad`."""
        pairs = [(w.grad, g) for w, g in zip(weights, first, strict=True) if w.grad is not None]
        if not pairs:
            return
        second, first = [p for p, _ in pairs], [g for _, g in pairs]
        norm = global_norm(second)
        along = inner(first, second) * ratio(1.0, norm) * ratio(1.0, norm)
        orthogonal = torch._foreach_sub(first, torch._foreach_mul(second, along))
        torch._foreach_sub_(second, torch._foreach_mul(orthogonal, self.alpha))

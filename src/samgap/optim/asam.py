"""Adaptive SAM: the ascent scales with the size of each weight, so that rescaling a layer does not change sharpness.

Kwon et al. 2021, equation 9.
"""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .sam import SAM, global_norm, ratio


class ASAM(SAM):
    """As `SAM`, with

        eps = rho T^2 g / |T g|,   T = |w| + eta elementwise on weights, 1 on biases

    so that |T^-1 eps| = rho. Weights are the parameters with "weight" in their name, as in the authors' code.
    Rho is not comparable with SAM's; the authors use 0.5 on CIFAR-10.
    """

    KEPT = (*SAM.KEPT, "eta")

    def __init__(
        self,
        base: Optimizer,
        rho: float,
        module: nn.Module | None = None,
        *,
        interval: int | None = None,
        eta: float = 0.01,
    ) -> None:
        """
        Args:
            base, rho, interval: as for `SAM`.
            module: the net of all parameters; their names distinguish weights from biases.
            eta: added to |w|, so that weights of 0 are perturbed too.

        Raises:
            ValueError: as for `SAM`; or there is no module; or eta is negative.
        """
        super().__init__(base, rho, module, interval=interval)
        if module is None:
            raise ValueError("ASAM needs the module: the names of its parameters distinguish weights from biases.")
        if not eta >= 0:
            raise ValueError(f"ascent.eta must be a number from 0, got {eta!r}.")
        self.eta = eta

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return eps, one tensor for each weight."""
        scales = self._scales(weights)
        scaled = list(torch._foreach_mul(gradients, scales))
        return list(torch._foreach_mul(torch._foreach_mul(scaled, scales), ratio(self.rho, global_norm(scaled))))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """Return |T^-1 eps|. Where T is 0, eps is 0 too and does not count."""
        return global_norm([torch.nan_to_num(e / t) for e, t in zip(eps, self._scales(weights), strict=True)])

    def _scales(self, weights: list[Tensor]) -> list[Tensor]:
        is_weight = {id(w): "weight" in name for name, w in self.module.named_parameters()}  # type: ignore[union-attr]
        if any(id(w) not in is_weight for w in weights):
            raise ValueError("ASAM needs the module of all parameters of its optimizer, and some are not in it.")
        return [w.abs() + self.eta if is_weight[id(w)] else torch.ones_like(w) for w in weights]

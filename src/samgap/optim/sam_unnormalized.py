"""SAM without the division by the gradient norm. The paper's theory analyzes this update.

It is that of lemmas 4 and 5, theorem 6 and the stability bounds; Andriushchenko and Flammarion 2022.
"""

import torch
from torch import Tensor

from .sam import SAM, global_norm


class SAMUnnormalized(SAM):
    """As `SAM`, with eps = rho g. The ascent shrinks with the gradient, and rho has the unit of a step size."""

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """eps at these weights, one tensor for each."""
        return list(torch._foreach_mul(gradients, self.rho))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """|eps| / |g|."""
        return global_norm(eps) / global_norm(gradients)

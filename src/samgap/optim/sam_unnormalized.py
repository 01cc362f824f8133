"""SAM without the division by the gradient norm: the update that the paper's theory analyzes.

Lemmas 4 and 5, Theorem 6 and the stability bounds; Andriushchenko and Flammarion 2022.
"""

import torch
from torch import Tensor

from .sam import SAM, global_norm


class SAMUnnormalized(SAM):
    """As `SAM`, with eps = rho g: the ascent shrinks with the gradient, and rho has the unit of a step size."""

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """eps at these weights, one tensor each."""
        return list(torch._foreach_mul(gradients, self.rho))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """|eps| / |g|."""
        return global_norm(eps) / global_norm(gradients)

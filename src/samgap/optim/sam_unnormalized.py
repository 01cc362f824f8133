"""SAM without the division by the gradient norm (Andriushchenko and Flammarion 2022).

This is the update in the theory of arXiv 2311.17539: lemmas 4 and 5, theorem 6 and the stability bounds.
"""

import torch
from torch import Tensor

from .sam import SAM, global_norm


class SAMUnnormalized(SAM):
    """As `SAM`, with eps = rho g. The ascent shrinks with the gradient, and rho is a step size instead of a length."""

    def ascent(self, weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        """Return eps, one tensor for each weight."""
        return list(torch._foreach_mul(gradients, self.rho))

    def radius(self, weights: list[Tensor], gradients: list[Tensor], eps: list[Tensor]) -> Tensor:
        """Return |eps| / |g|."""
        return global_norm(eps) / global_norm(gradients)

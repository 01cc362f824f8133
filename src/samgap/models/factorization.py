"""The matrix factorization of figure 1: linear layers without bias, x -> W2 W1 x. The width is the largest rank."""

import math

from torch import Tensor, nn

from samgap.models.count import whole

WIDTH_STEP = 1  # rows of W1


class Factorization(nn.Module):
    """input - k - C without bias or nonlinearity, for batches of B inputs with c channels and h by w pixels."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 10) -> None:
        """
        Args:
            shape: (c, h, w) of an input.
            classes: C.
            width: k, the largest rank that W2 W1 can have.

        Raises:
            SettingError: k is not a whole number from 1.
        """
        super().__init__()
        rank = whole(width, "model.width (rank of a factorization)")
        self.factors = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), rank, bias=False), nn.Linear(rank, classes, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map inputs (B, c, h, w) to outputs (B, C)."""
        return self.factors(images)

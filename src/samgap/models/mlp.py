"""The paper's three-layer perceptron for MNIST. Its hidden layers have 300 p and 100 p neurons; p is the width."""

import math

from torch import Tensor, nn

from samgap.errors import SettingError, said

WIDTH_STEP = 0.01  # the smallest step of p that changes both layers


class MLP(nn.Module):
    """input - 300 p - 100 p - C with ReLU, for batches of B images with c channels and h by w pixels, and C classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 1.0) -> None:
        """
        Args:
            shape: (c, h, w) of an image.
            classes: C.
            width: p; the numbers of neurons are rounded down.

        Raises:
            SettingError: p leaves a layer without neurons.
        """
        super().__init__()
        # Without the small term, 100 * 0.29 = 28.999999999999996 would lose a neuron.
        first, second = (math.floor(neurons * width + 1e-9) for neurons in (300, 100))
        if second < 1:
            raise SettingError(f"model.width must be at least {WIDTH_STEP} for an mlp, got {said(width)}.")
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), first),
            nn.ReLU(inplace=True),
            nn.Linear(first, second),
            nn.ReLU(inplace=True),
            nn.Linear(second, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, c, h, w) to logits (B, C)."""
        return self.layers(images)

"""Small nets and an ascent for tests, which configs name by `model.code` and `ascent.code`, as for a user's own."""

import random
from typing import ClassVar

import numpy as np
from torch import Tensor, nn, rand
from torch.nn import functional

from samgap.optim.sam import SAM


class Conv(nn.Module):
    """Strided convolutions with batch norm, and an unused parameter."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 4) -> None:
        super().__init__()
        filters = int(width)
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], filters, 3, stride=2, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters, 8, 1, stride=2),  # in channels-last layout, oneDNN would write outside its memory
            nn.Flatten(),
            nn.LazyLinear(classes),
        )
        self.layers(Tensor(2, *shape).zero_())
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class Wide(nn.Sequential):
    """Convolutions with 16 channels, which the compiled step lays out channels-last in 32 bits."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        first, second = nn.Conv2d(shape[0], 16, 3, bias=False), nn.Conv2d(16, 16, 1, stride=2)
        super().__init__(first, nn.BatchNorm2d(16), nn.ReLU(), second, nn.Flatten(), nn.LazyLinear(classes))
        self(Tensor(2, *shape).zero_())


class Dropping(Conv):
    """`Conv` with dropout as a function call instead of a module."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(functional.dropout(images, 0.5, self.training))


class Sometimes(Conv):
    """`Conv` with a random factor in every second pair of passes."""

    factors: ClassVar[list[float]] = []  # counts training passes

    def forward(self, images: Tensor) -> Tensor:
        factor = float(rand(())) if self.training and len(self.factors) % 4 > 1 else 1.0
        if self.training:
            self.factors.append(factor)
        return factor * super().forward(images)


class DroppingByPython(Conv):
    """`Conv` with a random factor from Python's generator."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (random.random() if self.training else 0.5)


class DroppingByNumPy(Conv):
    """`Conv` with a random factor from NumPy's generator."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (float(np.random.rand()) if self.training else 0.5)


class Counting(Conv):
    """`Conv` with a factor that falls with the number of training passes."""

    passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += self.training
        return super().forward(images) / (1 + self.passes)


class Deciding(Conv):
    """`Conv` with control flow that depends on values of its input."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits if float(logits.detach().sum()) > 0 else 2 * logits


class Hooked(Conv):
    """`Conv` with a hook after each forward pass."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 4) -> None:
        super().__init__(shape, classes, width)
        self.layers.register_forward_hook(lambda _, inputs, output: 2 * output)


class OwnSAM(SAM):
    """A user's variant of SAM."""


class Deep(nn.Sequential):
    """A net with a setting that has no default. Its first layer is always in evaluation mode."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float = 4, *, depth: int) -> None:
        pixels = shape[0] * shape[1] * shape[2]
        hidden = (nn.Linear(pixels, pixels) for _ in range(depth))
        super().__init__(nn.Dropout(0.5).eval(), nn.Flatten(), *hidden, nn.Linear(pixels, classes))

"""What pruners are tried on."""

import torch
from torch.nn import functional as F

from samgap.pruning.examples import Examples


def examples(channels: int = 1, size: int = 8, images: int = 96) -> Examples:
    """Random images whose class is the brightest of ten pixels, so that there is something to learn."""
    pixels = torch.rand(images, channels, size, size, generator=torch.Generator().manual_seed(0))
    return Examples(pixels, pixels[:, 0].flatten(1)[:, :10].argmax(dim=1), lambda stored: stored, F.cross_entropy)


EXAMPLES = examples()

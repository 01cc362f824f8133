"""Nets and examples for tests of pruners."""

import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from samgap.models.init import initialize
from samgap.pruning.examples import Examples


def examples(channels: int = 1, size: int = 8, images: int = 96) -> Examples:
    """Return random images whose class is the brightest of ten pixels, so that there is something to learn."""
    pixels = torch.rand(images, channels, size, size, generator=torch.Generator().manual_seed(0))
    return Examples(pixels, pixels[:, 0].flatten(1)[:, :10].argmax(dim=1), lambda stored: stored, F.cross_entropy)


EXAMPLES = examples()


class ReZero(nn.Module):
    """A residual block whose branch is multiplied by a parameter that starts at `factor`."""

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.block = nn.Conv2d(channels, channels, 3, padding=1)
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.factor * self.block(features).relu()


def residual(*blocks: nn.Module) -> nn.Module:
    """Return `ReZero` blocks of four channels between a stem and a head, drawn from seed 0."""
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *blocks, *head)
    initialize(net, "lecun_normal")
    return net


def zero_initialized(scale: float = 0) -> nn.Module:
    """Return two residual blocks whose last batch norm starts at `scale`."""
    net = residual(BasicBlock(4, 4), BasicBlock(4, 4))
    for block in net[1:3]:
        nn.init.constant_(block.bn2.weight, scale)
    return net

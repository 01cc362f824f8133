"""Data sets of noise with the sizes of real ones, since the content of images does not affect the cost of a step."""

from pathlib import Path

import torch

from samgap import seeds
from samgap.data.sets import Raw, Split


def mnist(folder: Path) -> Raw:
    """Return 60,000 training and 10,000 test images (N, 1, 28, 28); `folder` is not read."""
    return Raw(_split(60_000, 1, 28, 28), _split(10_000, 1, 28, 28), max_pixel=255)


def cifar10(folder: Path) -> Raw:
    """Return 10,240 training and 500 test images (N, 3, 32, 32), fewer than in CIFAR-10; `folder` is not read."""
    return Raw(_split(10_240, 3, 32, 32), _split(500, 3, 32, 32), max_pixel=255)


def noise(folder: Path, *, images: int, shape: list[int], labels: int) -> Raw:
    """Return `images` training and 10 test images of `shape` (c, h, w) with `labels` classes; `folder` is not read."""
    return Raw(_split(images, *shape, labels=labels), _split(10, *shape, labels=labels), max_pixel=255)


def _split(images: int, *shape: int, labels: int = 10) -> Split:
    draw = seeds.generator(images, "noise")
    pixels = torch.randint(0, 256, (images, *shape), dtype=torch.uint8, generator=draw)
    return Split(pixels, torch.arange(images) % labels)

"""The data that pruners score with: training images and the loss of the run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from samgap import seeds
from samgap.errors import SettingError, said

MODES = ("train", "eval")


class Images(Protocol):
    """A tensor, or images that are read from disk on access."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, c, h, w)."""

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """Return the images at these positions, (n, c, h, w)."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The training set without augmentation, with N images, C classes, and batches of B."""

    images: Images  # (N, c, h, w), as stored
    labels: Tensor  # (N,)
    normalize: Callable[[Tensor], Tensor]  # converts stored images to the net's input
    loss: Callable[[Tensor, Tensor], Tensor]  # of logits (B, C) and labels (B,), mean over the batch

    def draw(self, batches: int, batch_size: int, seed: int) -> list[tuple[Tensor, Tensor]]:
        """Return the first batches, (B, c, h, w) and (B,), of the training set in a random order.

        Args:
            batches: number of batches; a single one may be smaller than B.
            batch_size: B.
            seed: seed of the order.

        Raises:
            SettingError: there are too few images.
        """
        if batches > 1 and batches * batch_size > len(self.labels):
            raise SettingError(
                f"pruner.batches={batches} of {batch_size} need more than the {len(self.labels)} training images: "
                "lower pruner.batches or pruner.batch_size."
            )
        order = torch.randperm(len(self.labels), generator=seeds.generator(seed, "pruner", "examples"))
        picks = torch.split(order[: batches * batch_size], batch_size)
        return [(self.normalize(self.images[pick]), self.labels[pick]) for pick in picks]


def set_mode(net: nn.Module, mode: str) -> None:
    """Make batch norm use the statistics of the batch (`mode` "train") or its initial running statistics ("eval").

    All other layers are in evaluation mode. So dropout is off, and scores depend on the seed alone.

    Raises:
        SettingError: `mode` is neither.
    """
    if mode not in MODES:
        raise SettingError(f"pruner.mode must be one of {', '.join(MODES)}, got {said(mode)}.")
    net.eval()
    for layer in net.modules():
        if isinstance(layer, _NormBase):
            layer.train(mode == "train")

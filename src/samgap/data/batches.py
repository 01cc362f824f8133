"""Training batches gathered from tensors that already lie on the device: no worker processes, no waiting.

What an epoch draws (order, crops, flips) depends on the seed and the epoch's number alone, so a resumed run goes on
exactly where it was. B batch, N training images, c channels, h by w pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from samgap import seeds
from samgap.data.sets import Data

BLOCK, BLOCK_BYTES = 16, 2**24  # batches, and bytes of their images, that are gathered at a time


class Batch(NamedTuple):
    """What one process trains on in one step."""

    images: Tensor  # (B, c, h, w), float32 in levels; `Data.scale` makes input of them
    labels: Tensor  # (B,), int64
    size: int  # images of the batch in all processes together


class Draw(NamedTuple):
    """Which images make a batch, and how each is augmented."""

    size: int  # of the batch in all processes together
    positions: Tensor  # (B,)
    offsets: Tensor  # (B, 2), upper left corner of the crop in the padded image
    flips: Tensor  # (B,), bool


class EpochSampler(Sampler[Draw]):
    """All training images once, in a new order each epoch; the last batch may be smaller.

    Of several ranks each yields its own consecutive part of every batch.
    """

    def __init__(
        self, images: int, batch_size: int, crop: int, flip: bool, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        self.images, self.batch_size, self.crop, self.flip, self.seed = images, batch_size, crop, flip, seed
        self.rank, self.local = rank, batch_size // ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, a resumed one included."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def __iter__(self) -> Iterator[Draw]:
        draw = seeds.generator(self.seed, "epoch", self.epoch)
        order = torch.randperm(self.images, generator=draw)
        offsets = torch.randint(0, 2 * self.crop + 1, (self.images, 2), generator=draw)
        flips = (torch.rand(self.images, generator=draw) < 0.5) & self.flip
        for start in range(0, self.images, self.batch_size):
            stop = min(start + self.batch_size, self.images)
            first = min(start + self.rank * self.local, stop)
            part = slice(first, min(first + self.local, stop))
            yield Draw(stop - start, order[part], offsets[part], flips[part])


class TensorImages(Dataset[Batch]):
    """The training part on a device. Indexed by a whole `Draw`, it gives a batch."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data = data
        part = data.train.to(device)
        # Zero padding comes before standardization, as in the official code: the border is black, not mean gray.
        self.images, self.labels = F.pad(part.images, [data.crop] * 4), part.labels

    def __getitem__(self, draw: Draw) -> Batch:
        device = self.images.device
        positions = draw.positions.to(device)
        images = self.images.index_select(0, positions)
        if self.data.crop:
            images = _crop(images, draw.offsets.to(device), self.data.shape[1], self.data.shape[2])
        if self.data.flip:
            images = torch.where(draw.flips.to(device)[:, None, None, None], images.flip(3), images)
        return Batch(images.float(), self.labels.index_select(0, positions), draw.size)


def batches(
    data: Data, batch_size: int, seed: int, device: torch.device, rank: int = 0, ranks: int = 1
) -> DataLoader[Batch]:
    """The training part as a loader of blocks, each a list of batches on `device`, one a step.

    Lightning's loop costs as much as a step of a small net; it turns once a block. Of several ranks each gets its
    part of every batch.
    """
    images = TensorImages(data, device)
    sampler = EpochSampler(len(data.train), batch_size, data.crop, data.flip, seed, rank, ranks)
    block = max(1, min(BLOCK, BLOCK_BYTES // (batch_size * images.images[0].nbytes)))
    # The generator keeps the loader from drawing on the global one, which belongs to the layers.
    return DataLoader(images, block, sampler=sampler, collate_fn=list, generator=torch.Generator())


def _crop(images: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """The (height, width) window at `offsets` (B, 2) of each of the padded images (B, c, H, W)."""
    count, channels = images.shape[:2]
    rows = offsets[:, :1] + torch.arange(height, device=images.device)  # (B, h)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)  # (B, w)
    pick_rows = rows[:, None, :, None].expand(count, channels, height, images.shape[3])
    pick_columns = columns[:, None, None, :].expand(count, channels, height, width)
    return images.gather(2, pick_rows).gather(3, pick_columns)

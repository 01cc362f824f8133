"""Training batches: gathered on the device from tensors, or, for images in files, read ahead by worker processes.

Order, crops and flips of an epoch depend only on the seed and the number of the epoch, so a resumed run continues
exactly where it stopped, with any number of workers. Shapes: B images in a batch, N training images, c channels, h by w
pixels.
"""

import operator
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from samgap import seeds
from samgap.data.files import ImageFiles
from samgap.data.sets import Data, Split
from samgap.data.workers import reading, shared

BLOCK, BLOCK_BYTES = 64, 2**23  # largest number of batches, and about the largest size of their images, in a block


class Batch(NamedTuple):
    """The images and labels of one process in one step."""

    images: Tensor  # (B, c, h, w), as stored; `Data.normalize` normalizes them
    labels: Tensor  # (B,), int64
    size: int  # number of images of the batch over all processes

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        images, labels = (part.to(device, non_blocking=True) for part in (self.images, self.labels))
        return Batch(images, labels, self.size)


class Draw(NamedTuple):
    """The images of a batch and their augmentation; NumPy arrays, since workers would get tensors in shared memory."""

    size: int  # number of images of the batch over all processes
    positions: np.ndarray  # (B,), in the training part
    offsets: np.ndarray  # (B, 2), upper left corner of the crop in the padded image
    flips: np.ndarray  # (B,), bool
    seed: int = 0  # seed of the epoch for the augmentation of images in files


class EpochSampler(Sampler[Draw]):
    """Yields all training images once, in a new order each epoch; the last batch may be smaller.

    Each rank yields its own consecutive part of every batch.
    """

    def __init__(
        self, data: Data, batch_size: int, seed: int, rank: int = 0, ranks: int = 1, limit: int | None = None
    ) -> None:
        """
        Args:
            data: the run's data.
            batch_size: number of images of a batch over all processes.
            seed: seed of order and augmentation.
            rank, ranks: rank of this process, and number of processes.
            limit: largest number of batches in an epoch; None for all.
        """
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.rank, self.local, self.starts = rank, batch_size // ranks, range(0, len(data.train), batch_size)[:limit]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, also after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Draw]:
        draw = seeds.generator(self.seed, "epoch", self.epoch)
        images = len(self.data.train)
        order = torch.randperm(images, generator=draw).numpy()
        offsets = torch.randint(0, 2 * self.data.crop + 1, (images, 2), generator=draw).numpy()
        flips = ((torch.rand(images, generator=draw) < 0.5) & self.data.flip).numpy()
        seed = seeds.derive(self.seed, "epoch", self.epoch, "files")
        for start in self.starts:
            stop = min(start + self.batch_size, images)
            first = min(start + self.rank * self.local, stop)
            part = slice(first, min(first + self.local, stop))
            yield Draw(stop - start, order[part], offsets[part], flips[part], seed)


class Epoch:  # no dataclass, since Lightning looks for tensors in those
    """All batches of an epoch, each gathered when it is iterated over."""

    def __init__(self, images: "TensorImages", draws: list[Draw]) -> None:
        self.images, self.draws = images, draws

    def __iter__(self) -> Iterator[Batch]:
        return (self.images[draw]() for draw in self.draws)


class TensorImages(Dataset[Callable[[], Batch]]):
    """The training part on a device. Indexed by a `Draw`, it returns a function that gathers the batch. The step calls
    it, so that the images are still in the processor's cache.
    """

    def __init__(self, data: Data, images: Tensor, device: torch.device) -> None:
        self.data = data
        # Zero padding comes before standardization, as in the official code: the border is black, not mean gray.
        self.images = F.pad(images.to(device), [data.crop] * 4)
        self.labels = data.train.labels.to(device)

    def __getitem__(self, draw: Draw) -> Callable[[], Batch]:
        augmentation = (draw.offsets, draw.flips) if self.data.crop or self.data.flip else ()
        drawn = [torch.from_numpy(part).to(self.images.device) for part in (draw.positions, *augmentation)]
        return lambda: Batch(*gathered(self.data, self.images, self.labels, *drawn), draw.size)


class _Draws(Dataset[Draw]):
    """A data set whose item at a `Draw` is the `Draw` itself."""

    def __getitem__(self, draw: Draw) -> Draw:
        return draw


class FileImages(Dataset[Batch]):
    """The training part in files. Indexed by a `Draw`, it reads a batch into memory, not to the device."""

    def __init__(self, data: Data, images: ImageFiles) -> None:
        self.images, self.labels, self.flip = images, data.train.labels, data.flip

    def __getitem__(self, draw: Draw) -> Batch:
        positions = torch.from_numpy(draw.positions)
        images = self.images.augmented(positions, self.flip, draw.seed)
        return Batch(*shared(images, self.labels[positions]), draw.size)


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Consecutive images and labels of a part, without augmentation; the last block may be smaller."""

    def __init__(self, part: Split, size: int) -> None:
        self.part, self.size = part, size

    def __len__(self) -> int:
        return -(-len(self.part) // self.size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= len(self):
            raise IndexError
        positions = slice(number * self.size, (number + 1) * self.size)
        return shared(self.part.images[positions], self.part.labels[positions])


def batches(sampler: EpochSampler, device: torch.device, workers: int = 0, whole: bool = False) -> DataLoader[Any]:
    """Return a loader of the training part in blocks: iterables of batches, one batch for each step.

    An iteration of Lightning's loop takes as long as a step of a small net, so an iteration covers a block of steps.

    Args:
        sampler: chooses the images of each batch.
        device: where batches from tensors are; batches from files are in memory, which is pinned for a GPU.
        workers: number of processes that read files; 0 reads in this process.
        whole: for images in memory, yield each epoch as a single block, an `Epoch`.
    """
    data = sampler.data
    # A generator of its own keeps the loader from drawing from the global one, which layers use.
    draws = torch.Generator()
    if isinstance(data.train.images, ImageFiles):
        return DataLoader(
            FileImages(data, data.train.images), 1, sampler=sampler, collate_fn=list, generator=draws,
            persistent_workers=workers > 0, pin_memory=device.type == "cuda", **reading(workers),
        )  # fmt: skip
    images = _on_device(data, device)
    if whole:
        return DataLoader(_Draws(), len(sampler), sampler=sampler, collate_fn=partial(Epoch, images), generator=draws)
    block = max(1, min(BLOCK, BLOCK_BYTES // (sampler.batch_size * images.images[0].nbytes)))
    return DataLoader(images, block, sampler=sampler, collate_fn=partial(map, operator.call), generator=draws)


def blocks(part: Split, size: int, device: torch.device, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images of a part in order, (size, c, h, w) as stored, and labels; the last block may be smaller.

    Args:
        part: part of a data set.
        size: number of images in a block.
        device: device of the yielded tensors.
        workers: number of processes that read files; 0 reads in this process.
    """
    loader: Any = Blocks(part, size)
    if isinstance(part.images, ImageFiles):
        pinned = device.type == "cuda"
        loader = DataLoader(loader, None, pin_memory=pinned, generator=torch.Generator(), **reading(workers))
    for block, labels in loader:
        yield block.to(device, non_blocking=True), labels.to(device, non_blocking=True)


@lru_cache(maxsize=1)
def _on_device(data: Data, device: torch.device) -> TensorImages:
    images: Any = data.train.images
    return TensorImages(data, images, device)  # consecutive runs, and those of a stack, share one copy


def gathered(
    data: Data,
    images: Tensor,
    labels: Tensor,
    positions: Tensor,
    offsets: Tensor | None = None,
    flips: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return images (B, c, h, w) and labels (B, ...) of a batch, augmented, without copying anything to the host.

    Args:
        data: its crop, flip and shape determine the augmentation.
        images, labels: from `TensorImages`, on one device.
        positions, offsets, flips: as in `Draw`, as tensors; None if `data` does not crop or flip.
    """
    chosen = images.index_select(0, positions)
    if data.crop and offsets is not None:
        chosen = _crop(chosen, offsets, data.shape[1], data.shape[2])
    if data.flip and flips is not None:
        chosen = torch.where(flips[:, None, None, None], chosen.flip(3), chosen)
    return chosen, labels.index_select(0, positions)


def _crop(images: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """Cut the (height, width) window at `offsets` (B, 2) out of each padded image (B, c, H, W)."""
    count, channels = images.shape[:2]
    rows = offsets[:, :1] + torch.arange(height, device=images.device)  # (B, h)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)  # (B, w)
    pick_rows = rows[:, None, :, None].expand(count, channels, height, images.shape[3])
    pick_columns = columns[:, None, None, :].expand(count, channels, height, width)
    return images.gather(2, pick_rows).gather(3, pick_columns)

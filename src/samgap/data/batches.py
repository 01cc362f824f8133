"""Training batches gathered from tensors that already lie on the device, without worker processes and waiting; or,
where images stay in files, read by workers ahead of the steps.

What an epoch draws (order, crops, flips) depends on the seed and the epoch's number alone, so a resumed run goes on
exactly where it was, with any number of workers. B batch, N training images, c channels, h by w pixels.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from samgap import seeds
from samgap.data.files import ImageFiles
from samgap.data.sets import Data, Split
from samgap.errors import SettingError, line

BLOCK, BLOCK_BYTES = 16, 2**24  # batches, and bytes of their images, that are gathered at a time
PATIENCE = 600  # seconds that a batch of files may take; no worker is waited for without end


class Batch(NamedTuple):
    """What one process trains on in one step."""

    images: Tensor  # (B, c, h, w), as stored; `Data.scale` makes input of them
    labels: Tensor  # (B,), int64
    size: int  # images of the batch in all processes together

    def to(self, device: torch.device) -> "Batch":
        """On `device`."""
        images, labels = (part.to(device, non_blocking=True) for part in (self.images, self.labels))
        return Batch(images, labels, self.size)


class Draw(NamedTuple):
    """Which images make a batch, and how each is augmented. Arrays, since a worker is sent tensors in shared memory."""

    size: int  # of the batch in all processes together
    positions: np.ndarray  # (B,)
    offsets: np.ndarray  # (B, 2), upper left corner of the crop in the padded image
    flips: np.ndarray  # (B,), bool
    seed: int = 0  # of the epoch, for what is drawn image by image where images are files


class EpochSampler(Sampler[Draw]):
    """All training images once, in a new order each epoch; the last batch may be smaller.

    Of several ranks each yields its own consecutive part of every batch. With a limit an epoch ends after so many.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        crop: int,
        flip: bool,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        limit: int | None = None,
    ) -> None:
        self.images, self.batch_size, self.crop, self.flip, self.seed = images, batch_size, crop, flip, seed
        self.rank, self.local, self.starts = rank, batch_size // ranks, range(0, images, batch_size)[:limit]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, a resumed one included."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Draw]:
        draw = seeds.generator(self.seed, "epoch", self.epoch)
        order = torch.randperm(self.images, generator=draw).numpy()
        offsets = torch.randint(0, 2 * self.crop + 1, (self.images, 2), generator=draw).numpy()
        flips = ((torch.rand(self.images, generator=draw) < 0.5) & self.flip).numpy()
        for start in self.starts:
            stop = min(start + self.batch_size, self.images)
            first = min(start + self.rank * self.local, stop)
            part = slice(first, min(first + self.local, stop))
            seed = seeds.derive(self.seed, "epoch", self.epoch, "files")
            yield Draw(stop - start, order[part], offsets[part], flips[part], seed)


class TensorImages(Dataset[Batch]):
    """The training part on a device. Indexed by a whole `Draw`, it gives a batch."""

    def __init__(self, data: Data, images: Tensor, device: torch.device) -> None:
        self.data = data
        # Zero padding comes before standardization, as in the official code: the border is black, not mean gray.
        self.images = F.pad(images.to(device), [data.crop] * 4)
        self.labels = data.train.labels.to(device)

    def __getitem__(self, draw: Draw) -> Batch:
        device = self.images.device
        positions = torch.from_numpy(draw.positions).to(device)
        images = self.images.index_select(0, positions)
        if self.data.crop:
            offsets = torch.from_numpy(draw.offsets).to(device)
            images = _crop(images, offsets, self.data.shape[1], self.data.shape[2])
        if self.data.flip:
            flips = torch.from_numpy(draw.flips).to(device)
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
        return Batch(images, self.labels.index_select(0, positions), draw.size)


class FileImages(Dataset[Batch]):
    """The training part in files. Indexed by a whole `Draw`, it reads a batch into memory, not to the device."""

    def __init__(self, data: Data, images: ImageFiles) -> None:
        self.images, self.labels, self.flip = images, data.train.labels, data.flip

    def __getitem__(self, draw: Draw) -> Batch:
        positions = torch.from_numpy(draw.positions)
        images = self.images.augmented(positions, self.flip, draw.seed)
        return Batch(*_shared(images, self.labels[positions]), draw.size)


class Blocks(Dataset[tuple[Tensor, Tensor]]):
    """Consecutive images and labels of a part, as evaluation sees them; the last block may be smaller."""

    def __init__(self, part: Split, size: int) -> None:
        self.part, self.size = part, size

    def __len__(self) -> int:
        return -(-len(self.part) // self.size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= len(self):
            raise IndexError
        which = slice(number * self.size, (number + 1) * self.size)
        return _shared(self.part.images[which], self.part.labels[which])


def batches(
    data: Data,
    batch_size: int,
    seed: int,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    limit: int | None = None,
) -> DataLoader[Batch]:
    """The training part as a loader of blocks, each a list of batches, one a step.

    Lightning's loop costs as much as a step of a small net; it turns once a block. Of several ranks each gets its
    part of every batch.

    Args:
        data: of the run.
        batch_size: B, in all processes together.
        seed: of order and augmentation.
        device: where tensors lie; batches of files are in memory, pinned where that helps.
        rank, ranks: this process, and how many there are.
        workers: processes that read files; 0 reads in this one.
        limit: batches after which an epoch ends; None for all.
    """
    sampler = EpochSampler(len(data.train), batch_size, data.crop, data.flip, seed, rank, ranks, limit)
    # The generator keeps the loader from drawing on the global one, which belongs to the layers.
    draws = torch.Generator()
    if isinstance(data.train.images, ImageFiles):
        return DataLoader(
            FileImages(data, data.train.images), 1, sampler=sampler, collate_fn=list, generator=draws,
            persistent_workers=workers > 0, pin_memory=device.type == "cuda", **_reading(workers),
        )  # fmt: skip
    images = TensorImages(data, data.train.images, device)
    block = max(1, min(BLOCK, BLOCK_BYTES // (batch_size * images.images[0].nbytes)))
    return DataLoader(images, block, sampler=sampler, collate_fn=list, generator=draws)


def blocks(part: Split, size: int, device: torch.device, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """All images of a part in order, (size, c, h, w) in levels with their labels, on `device`; the last may be fewer.

    Args:
        part: of a data set.
        size: images at a time.
        device: where they are wanted.
        workers: processes that read files; 0 reads in this one.
    """
    found: Any = Blocks(part, size)
    if isinstance(part.images, ImageFiles):
        pinned = device.type == "cuda"
        found = DataLoader(found, None, pin_memory=pinned, generator=torch.Generator(), **_reading(workers))
    for block, labels in found:
        yield block.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _reading(workers: int) -> dict[str, Any]:
    """Settings of a loader whose workers read files."""
    return {"num_workers": workers, "worker_init_fn": _try_to_hand_over, "timeout": PATIENCE if workers else 0}


def _try_to_hand_over(_: int) -> None:
    """Called in a new worker."""
    # Tensors are handed over through a socket, two names below this folder, and its path may have 107 bytes.
    if len(os.fsencode(tempfile.gettempdir())) > 70:
        tempfile.tempdir = "/tmp"
    with _handing_over():
        ForkingPickler.dumps(torch.zeros(1))


def _shared(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both, of a worker in shared memory."""
    if get_worker_info() is None:
        return images, labels
    with _handing_over():
        return images.share_memory_(), labels.share_memory_()  # type: ignore[no-untyped-call]


@contextmanager
def _handing_over() -> Iterator[None]:
    """Tell what goes wrong inside: at the handover itself it would only lose the batch, for which the run waits."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # the names of what was not to be had
            left.unlink()
        raise SettingError(
            f"A process that reads images cannot hand them over ({line(error)}): make /dev/shm larger (Docker: "
            "--shm-size), lower trainer.workers or batch_size, or set TMPDIR to a short path that can be written."
        ) from error


def _crop(images: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    """The (height, width) window at `offsets` (B, 2) of each of the padded images (B, c, H, W)."""
    count, channels = images.shape[:2]
    rows = offsets[:, :1] + torch.arange(height, device=images.device)  # (B, h)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)  # (B, w)
    pick_rows = rows[:, None, :, None].expand(count, channels, height, images.shape[3])
    pick_columns = columns[:, None, None, :].expand(count, channels, height, width)
    return images.gather(2, pick_rows).gather(3, pick_columns)

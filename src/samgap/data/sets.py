"""From a data set on disk to the fixed parts of a study: training subset, holdout, test.

The path of an image: `load` reads it as stored, with pixel values from 0 to `max_pixel`. `assemble` resizes it, assigns
it to a part and may replace its label; this depends only on `data.seed`, so all runs of a study see the same data.
`Data` holds it as a tensor. The module `batches` gathers, crops and flips it in each epoch, and `Normalize` normalizes
it. Images that do not fit in memory stay in their files (`ImageFiles`), which `batches` reads, crops and resizes.

Shapes: N images of a part, c channels, h by w pixels.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from samgap import seeds
from samgap.data.files import ImageFiles
from samgap.errors import SettingError
from samgap.targets import call, locate


@dataclass(frozen=True, eq=False)  # compared by identity: == of tensors is a tensor and not a bool
class Split:
    """Images and labels of one part, as stored."""

    images: Tensor | ImageFiles  # (N, c, h, w), uint8, or float32 after resizing; values 0 to `max_pixel`
    labels: Tensor  # (N,), int64; or (N, C), floating point, for a regression

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """Return this part on another device; images in files stay there."""
        images = self.images if isinstance(self.images, ImageFiles) else self.images.to(device)
        return Split(images, self.labels.to(device))

    def in_memory(self) -> "Split":
        """Return this part with its images in memory, see `ImageFiles.loaded`."""
        images = self.images.loaded() if isinstance(self.images, ImageFiles) else self.images
        return Split(images, self.labels)

    def take(self, positions: Tensor) -> "Split":
        """Return the images and labels at these positions, (n,) int64."""
        images = self.images.take(positions) if isinstance(self.images, ImageFiles) else self.images[positions]
        return Split(images, self.labels[positions])


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set with its original split."""

    train: Split
    test: Split
    max_pixel: int  # largest possible value of a pixel


class Normalize(NamedTuple):
    """Normalizes images: pixel values to [0, 1], then standardized by channel."""

    max_pixel: int
    mean: tuple[float, ...]  # of each channel, for values in [0, 1]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Convert images (B, c, h, w) with values 0 to `max_pixel` to a net's input, float32."""
        return self.standardize(images, *self.moments(images.device))

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return this function for images on `device`, to which the `moments` are copied once."""
        return _on(self, device)

    def moments(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return largest pixel value, mean and std, each (c, 1, 1)."""
        values = (float(self.max_pixel),) * len(self.mean), self.mean, self.std
        # Not in the default dtype, which Lightning changes within a step in 64 bits.
        largest, mean, std = (
            torch.tensor(channels, dtype=torch.float32, device=device).view(-1, 1, 1) for channels in values
        )
        return largest, mean, std

    @staticmethod
    def standardize(images: Tensor, largest: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Normalize images (B, c, h, w), given the `moments` on their device."""
        # Divide by tensors: CUDA multiplies by the reciprocal of a number, so inputs would differ from the CPU's.
        return (images.float() / largest - mean) / std


@functools.cache
def _on(normalize: Normalize, device: torch.device) -> Callable[[Tensor], Tensor]:
    moments = normalize.moments(device)
    return lambda images: normalize.standardize(images, *moments)


@dataclass(frozen=True, eq=False)
class Data:
    """The parts of a study, and how images are augmented and normalized."""

    train: Split
    holdout: Split | None
    test: Split
    classes: int  # number of classes, or of outputs of a regression
    normalize: Normalize
    crop: int  # zero padding of the random crop in pixels, 0 = no crop
    flip: bool  # random horizontal flip
    unused: Split | None = None  # the other training images, with clean labels; None unless data.score_unused

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an input."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def regression(self) -> bool:
        """Whether labels are regression targets; then there is a loss and no accuracy."""
        return self.train.labels.is_floating_point()

    def sha256(self) -> str:
        """Return a hex digest of all images (for files: names and sizes) and labels of all parts."""
        digest = hashlib.sha256()
        for split in (self.train, self.holdout, self.test, self.unused):
            if split is not None:
                if isinstance(split.images, ImageFiles):
                    split.images.update(digest)
                else:
                    digest.update(split.images.numpy().tobytes())
                digest.update(split.labels.numpy().tobytes())
        return digest.hexdigest()


def make(folder: str, *, code: str, name: str, **settings: Any) -> Data:
    """Return the data set of a file in conf/data/: `hydra.utils.instantiate(config.data)(config.data_dir)`."""
    return call("data", assemble, locate(code, "data.code"), Path(folder), **settings)


def assemble(
    load: Callable[..., Raw], folder: Path, *, channels: int, classes: int, size: int, mean: Sequence[float],
    std: Sequence[float], crop: int = 0, flip: bool = False, train_size: int | None = None, holdout: int = 0,
    label_noise: float = 0.0, score_unused: bool = False, seed: int = 0, **own: Any,
) -> Data:  # fmt: skip
    """Load a data set and split it. The keyword arguments are the keys of a file in conf/data/.

    Args:
        load: reads the data set with its original split, given `folder` and the keys in `own`.
        folder: `data_dir`, which contains data sets.

    Raises:
        SettingError: files are missing or damaged, the parts are larger than the data set, or `load` does not accept a
            key.
    """
    raw: Raw = call("data", load, folder, **own)
    _check_shape(raw, channels, classes)
    regression, pool = raw.train.labels.is_floating_point(), len(raw.train)
    if regression and label_noise:
        raise SettingError("data.label_noise replaces classes, and this data set is a regression: set it to 0.")
    if crop and isinstance(raw.train.images, ImageFiles):
        raise SettingError(f"data.crop pads images in memory, and these are files (data.area crops them): got {crop}.")
    train = pool - holdout if train_size is None else train_size
    _check_sizes(train, holdout, pool, score_unused, regression)
    order = torch.randperm(pool, generator=seeds.generator(seed, "deal"))
    chosen = raw.train.take(order[:train])
    labels = chosen.labels if regression else add_noise(chosen.labels, label_noise, classes, seed)
    return Data(
        train=_resize(Split(chosen.images, labels), size),
        holdout=_resize(raw.train.take(order[pool - holdout :]), size) if holdout else None,
        test=_resize(raw.test, size),
        classes=classes,
        normalize=Normalize(raw.max_pixel, tuple(mean), tuple(std)),
        crop=crop,
        flip=flip,
        unused=_resize(raw.train.take(order[train : pool - holdout]), size) if score_unused else None,
    )


def _check_shape(raw: Raw, channels: int, classes: int) -> None:
    regression = raw.train.labels.is_floating_point()
    outputs = raw.train.labels.shape[1] if regression else int(max(raw.train.labels.max(), raw.test.labels.max())) + 1
    actual = (raw.train.images.shape[1], outputs)
    if actual != (channels, classes):
        files = "" if regression else ", or set data_dir to the folder of the data set that is meant"
        raise SettingError(
            f"data.channels and data.classes must be {actual[0]} and {actual[1]} for these data, got {channels} and "
            f"{classes}: set them{files}."
        )


def _check_sizes(train: int, holdout: int, pool: int, score_unused: bool, regression: bool) -> None:
    if train < 1 or train + holdout > pool:
        raise SettingError(
            f"Training on {train} images beside a holdout of {holdout} needs more than the {pool} that the training "
            "part has: lower data.train_size or data.holdout."
        )
    if score_unused and (regression or train + holdout == pool):
        raise SettingError(
            "data.score_unused needs classes, and training images that are neither trained on nor held out: set it to "
            "false, or lower data.train_size."
        )


def add_noise(labels: Tensor, rate: float, classes: int, seed: int) -> Tensor:
    """Replace exactly round(rate N) labels, each by another class drawn uniformly.

    Args:
        labels: (N,) class numbers.
        rate: share of labels to replace, 0 to 1.
        classes: C.
        seed: seed of the choice; with one seed, a lower rate replaces a subset.

    Returns:
        (N,) class numbers.
    """
    draw = seeds.generator(seed, "label noise")
    order = torch.randperm(len(labels), generator=draw)
    shift = torch.randint(1, classes, (len(labels),), generator=draw)
    wrong = order[: round(rate * len(labels))]
    noisy = labels.clone()
    noisy[wrong] = (labels[wrong] + shift[wrong]) % classes
    return noisy


def _resize(split: Split, size: int) -> Split:
    if split.images.shape[2:] == (size, size):
        return split
    if isinstance(split.images, ImageFiles):
        return Split(dataclasses.replace(split.images, size=size), split.labels)
    small = F.interpolate(split.images.float(), size=(size, size), mode="area")
    return Split(small, split.labels)

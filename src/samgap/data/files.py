"""Images that stay in their files: a lazy array of them, read, cropped and resized when a batch is due.

Reading, cropping and resizing are timm's and Pillow's. N images, n of them, h = w = `size` pixels.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samgap import seeds
from samgap.errors import SettingError, line


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Color images as files of any format that Pillow reads and of any size. Indexed by positions, it gives tensors."""

    root: Path
    names: list[str]  # N, below `root`
    area: tuple[float, float]  # share of an image that a random crop takes, from and to
    center: float  # share of the height and width that the crop of evaluation takes
    size: int = 224  # pixels a side of what a net sees

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, h, w)."""
        return len(self.names), 3, self.size, self.size

    def take(self, positions: Tensor) -> "ImageFiles":
        """The images at these positions, still in their files."""
        return replace(self, names=[self.names[position] for position in positions.tolist()])

    def resized(self, size: int) -> "ImageFiles":
        """The same images at another number of pixels a side."""
        return replace(self, size=size)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """Images as evaluation sees them, (n, 3, h, w) uint8: resized, so that the crop in the center fits.

        Raises:
            SettingError: a file is no image.
        """
        positions = torch.arange(len(self.names))[which].tolist()
        return self._stack([self._whole(self._read(position)) for position in positions])

    def augmented(self, positions: Tensor, flip: bool, seed: int) -> Tensor:
        """Images as training sees them, (n, 3, h, w) uint8: a random crop, resized and perhaps flipped.

        Args:
            positions: (n,).
            flip: whether to flip half of them.
            seed: with an image's position, it alone decides what is drawn for it.

        Raises:
            SettingError: a file is no image.
        """
        transform, images = self._random(flip), []
        with _own_streams():
            for position in positions.tolist():
                own = seeds.derive(seed, position)
                random.seed(own)  # timm crops by Python's generator and flips by torch's
                torch.manual_seed(own)
                images.append(transform(self._read(position)))
        return self._stack(images)

    def loaded(self) -> Tensor:
        """All images as they are, (N, c, h, h) uint8 in memory; c is 1 where all are gray, else 3.

        Raises:
            SettingError: a file is no image, or they are no squares of one size.
        """
        side = self._read(0).width
        images = np.empty((len(self.names), 1, side, side), np.uint8)
        for position, name in enumerate(self.names):
            image = self._read(position, gray=images.shape[1] == 1)
            if image.size != (side, side):
                raise SettingError(
                    f"Wanted all images of {self.root} as squares of {side} pixels, as wide as the first, and {name} "
                    f"has {image.width}x{image.height}: make them so, or set data_dir."
                )
            if image.mode == "RGB" and images.shape[1] == 1:
                images = np.repeat(images, 3, axis=1)
            images[position] = np.asarray(image).reshape(side, side, -1).transpose(2, 0, 1)
        return torch.from_numpy(images)

    def update(self, digest: Any) -> None:
        """Add every file's name and size to a hashlib digest. Contents would take an hour a run for ImageNet."""
        for name in self.names:
            with _naming(self.root / name) as path:
                size = path.stat().st_size
            # A name need not be UTF-8; such bytes count as they are.
            digest.update(f"{name}:{size}\n".encode(errors="surrogateescape"))

    def _read(self, position: int, gray: bool = False) -> Image.Image:
        """In color; with `gray` a gray image stays gray."""
        with _naming(self.root / self.names[position]) as path, Image.open(path) as image:
            return image.convert("L" if gray and image.mode in ("1", "L") else "RGB")

    def _stack(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images) if images else torch.empty((0, *self.shape[1:]), dtype=torch.uint8)

    @cached_property
    def _whole(self) -> Any:
        return _transform(self.size, is_training=False, crop_pct=self.center)

    def _random(self, flip: bool) -> Any:
        flips = 0.5 if flip else 0.0
        return _transform(self.size, is_training=True, scale=self.area, hflip=flips, color_jitter=None)


def _transform(size: int, **settings: Any) -> Any:
    # Brings every model of timm's, a second and a half that runs without files need not wait for.
    from timm.data.transforms_factory import create_transform

    return create_transform(size, use_prefetcher=True, interpolation="bicubic", **settings)


@contextmanager
def _naming(path: Path) -> Iterator[Path]:
    try:
        yield path
    except Exception as error:  # of a damaged file Pillow's decoders raise whatever they stumble over
        raise SettingError(
            f"{path} cannot be read as an image ({line(error)}): replace it, or set data_dir."
        ) from error


@contextmanager
def _own_streams() -> Iterator[None]:
    # The global generators belong to the layers, wherever there is no worker process to read the images.
    before = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(before)

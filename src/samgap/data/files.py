"""A lazy array of images in files, which are read, cropped and resized for each batch, by timm and Pillow.

Shapes: N images in total, n in a batch, h = w = `size` pixels.
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
    """Images of any size in files that Pillow reads. Indexed by positions, it returns color images as tensors."""

    root: Path
    names: list[str]  # N paths relative to `root`
    area: tuple[float, float]  # smallest and largest share of an image in a random crop
    center: float  # share of height and width in the center crop of evaluation
    size: int = 224  # pixels per side of a net's input

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, h, w)."""
        return len(self.names), 3, self.size, self.size

    def take(self, positions: Tensor) -> "ImageFiles":
        """Return the images at these positions, still in files."""
        return replace(self, names=[self.names[position] for position in positions.tolist()])

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Return images for evaluation, (n, 3, h, w) uint8: resized, then cropped in the center.

        Raises:
            SettingError: a file is not an image.
        """
        positions = torch.arange(len(self.names))[index].tolist()
        return self._stack([self._whole(self._read(position)) for position in positions])

    def augmented(self, positions: Tensor, flip: bool, seed: int) -> Tensor:
        """Return images for training, (n, 3, h, w) uint8: randomly cropped, resized, and perhaps flipped.

        Args:
            positions: (n,).
            flip: whether to flip each image with probability 1/2.
            seed: determines crop and flip of an image, together with its position.

        Raises:
            SettingError: a file is not an image.
        """
        transform, images = self._random(flip), []
        with _global_generators_kept():
            for position in positions.tolist():
                image_seed = seeds.derive(seed, position)
                random.seed(image_seed)  # timm draws crops from Python's generator and flips from torch's
                torch.default_generator.manual_seed(image_seed)  # the CPU's alone; a GPU's stays as it is
                images.append(transform(self._read(position)))
        return self._stack(images)

    def loaded(self) -> Tensor:
        """Read all images unchanged into memory, (N, c, h, h) uint8; c is 1 if all are gray, else 3.

        Raises:
            SettingError: a file is not an image, or images are not squares of one size.
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
        """Add name and size of each file to a hashlib digest; hashing all of ImageNet's content would take an hour."""
        for name in self.names:
            with _naming(self.root / name) as path:
                size = path.stat().st_size
            # Bytes of a name that are not valid UTF-8 are hashed unchanged.
            digest.update(f"{name}:{size}\n".encode(errors="surrogateescape"))

    def _read(self, position: int, gray: bool = False) -> Image.Image:
        """Read an image in color; with `gray` a gray image stays gray."""
        with _naming(self.root / self.names[position]) as path, Image.open(path) as image:
            if image.mode[0] in "IF":  # Pillow would clip its values
                raise ValueError(f"mode {image.mode} has more than 8 bits a channel")
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
    # Imported here, since it takes 1.5 s and runs without files do not need it.
    from timm.data.transforms_factory import create_transform

    return create_transform(size, use_prefetcher=True, interpolation="bicubic", **settings)


@contextmanager
def _naming(path: Path) -> Iterator[Path]:
    try:
        yield path
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        raise SettingError(
            f"{path} cannot be read as an image ({line(error)}): replace it, or set data_dir."
        ) from error


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    # Without worker processes, images are read in the process whose layers use the global generators.
    before = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(before)

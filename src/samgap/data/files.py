"""A lazy array of images in files, which are read, cropped and resized for each batch, by timm and Pillow.

N images in all, n in a batch, h = w = `size` pixels.
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
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from samgap import seeds
from samgap.errors import SettingError, line


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images of any size in files that Pillow reads. Indexed by positions, it returns color images as tensors."""

    root: Path
    names: list[str]  # N, below `root`
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

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """Return images for evaluation, (n, 3, h, w) uint8: resized, then cropped in the center.

        Raises:
            SettingError: a file is not an image.
        """
        positions = torch.arange(len(self.names))[which].tolist()
        return self._stack([self._whole(self._read(position)) for position in positions])

    def augmented(self, positions: Tensor, flip: bool, seed: int) -> Tensor:
        """Return images for training, (n, 3, h, w) uint8: randomly cropped, resized, and perhaps flipped.

        Args:
            positions: (n,).
            flip: whether to flip half of them.
            seed: with the position of an image, determines its crop and flip.

        Raises:
            SettingError: a file is not an image.
        """
        transform = _transform(self.size, is_training=True, scale=self.area, hflip=0.5 * flip, color_jitter=None)
        images = []
        with isolate_rng(include_cuda=False):  # without worker processes, layers use these generators too
            for position in positions.tolist():
                own = seeds.derive(seed, position)
                random.seed(own)  # timm draws crops from Python's generator and flips from torch's
                torch.manual_seed(own)
                images.append(transform(self._read(position)))
        return self._stack(images)

    def loaded(self) -> Tensor:
        """Return all images unchanged, (N, c, h, h) uint8 in memory; c is 1 if all are gray, else 3.

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
        """Add name and size of each file to a hashlib digest. Contents would take an hour for each run on ImageNet."""
        for name in self.names:
            with _naming(self.root / name) as path:
                size = path.stat().st_size
            # Bytes of a name that are not UTF-8 are hashed as they are.
            digest.update(f"{name}:{size}\n".encode(errors="surrogateescape"))

    def _read(self, position: int, gray: bool = False) -> Image.Image:
        """Read an image in color; with `gray` a gray image stays gray."""
        with _naming(self.root / self.names[position]) as path, Image.open(path) as image:
            return image.convert("L" if gray and image.mode in ("1", "L") else "RGB")

    def _stack(self, images: list[Tensor]) -> Tensor:
        return torch.stack(images) if images else torch.empty((0, *self.shape[1:]), dtype=torch.uint8)

    @cached_property
    def _whole(self) -> Any:
        return _transform(self.size, is_training=False, crop_pct=self.center)


def _transform(size: int, **settings: Any) -> Any:
    # This imports all models of timm, which takes 1.5 s; runs without files do not need it.
    from timm.data.transforms_factory import create_transform

    return create_transform(size, use_prefetcher=True, interpolation="bicubic", **settings)


@contextmanager
def _naming(path: Path) -> Iterator[Path]:
    try:
        yield path
    except Exception as error:  # for a damaged file, Pillow's decoders raise all kinds of errors
        raise SettingError(
            f"{path} cannot be read as an image ({line(error)}): replace it, or set data_dir."
        ) from error

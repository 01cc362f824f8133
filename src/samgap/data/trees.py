"""Small data sets as trees of JPEG files, written once, to exercise the code that reads ImageNet without ImageNet."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from samgap import files
from samgap.data import digits, fashion_mnist, imagenet
from samgap.data.sets import Raw, Split

ENLARGEMENT = 4  # of the digits, whose 8x8 pixels are a single block of JPEG
QUALITY = 95


def _load(
    name: str, source: Callable[[Path], Raw], enlargement: int, folder: Path, area: Sequence[float], center: float
) -> Raw:
    """Load a tree from `folder`/<name>, which is written if it does not exist.

    Args:
        name: of the tree.
        source: loads the original data set.
        enlargement: of its images.
        folder: `data_dir`.
        area, center: see `imagenet.tree`.

    Raises:
        SettingError: see `source` and `imagenet.tree`.
    """
    place = folder / name
    if not place.exists():
        _write(source(folder), place, enlargement)
    return imagenet.tree(place, area, center)


load_digits = partial(_load, "digits-jpeg", digits.load, ENLARGEMENT)  # 32x32
load_fashion_mnist = partial(_load, "fashion-mnist-jpeg", fashion_mnist.load, 1)  # 28x28


def _write(raw: Raw, place: Path, enlargement: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # One process writes the tree, the others wait.
    with FileLock(place.parent / f".{place.name}.lock"):
        if place.exists():
            return
        with files.workspace(place) as temporary:
            for name, part in (("train", raw.train), ("val", raw.test)):
                _write_part(part, temporary / name, raw.max_pixel, enlargement)
            temporary.rename(place)


def _write_part(part: Split, folder: Path, max_pixel: int, enlargement: int) -> None:
    labels = part.labels.tolist()
    for label in sorted(set(labels)):
        (folder / str(label)).mkdir(parents=True)
    for number, label in enumerate(labels):
        image = _picture(part.images[number : number + 1], max_pixel, enlargement)
        image.save(folder / str(label) / f"{number:05}.jpeg", quality=QUALITY)


def _picture(images: Tensor, max_pixel: int, enlargement: int) -> Image.Image:
    """Convert a gray image (1, 1, h, w) with values 0 to `max_pixel` to 8 bits per pixel, and enlarge it."""
    pixels = (images[0, 0].float() * (255 / max_pixel)).round().to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    return image.resize((image.width * enlargement, image.height * enlargement), Image.Resampling.BICUBIC)

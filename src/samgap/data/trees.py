"""Small data sets as trees of JPEG files, written once, to exercise the code that reads ImageNet without ImageNet."""

from collections.abc import Sequence
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


def load_digits(folder: Path, area: Sequence[float], center: float) -> Raw:
    """Load the bundled digits, 32x32, from `folder`/digits-jpeg, which is written if it does not exist.

    Args:
        folder: `data_dir`.
        area, center: see `imagenet.tree`.

    Raises:
        SettingError: see `imagenet.tree`.
    """
    place = folder / "digits-jpeg"
    if not place.exists():
        _write(digits.load(folder), place, ENLARGEMENT)
    return imagenet.tree(place, area, center)


def load_fashion_mnist(folder: Path, area: Sequence[float], center: float) -> Raw:
    """Load Fashion-MNIST, 28x28, from `folder`/fashion-mnist-jpeg, which is written if it does not exist.

    Args:
        folder: `data_dir`.
        area, center: see `imagenet.tree`.

    Raises:
        SettingError: see `fashion_mnist.load` and `imagenet.tree`.
    """
    place = folder / "fashion-mnist-jpeg"
    if not place.exists():
        _write(fashion_mnist.load(folder), place, 1)
    return imagenet.tree(place, area, center)


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

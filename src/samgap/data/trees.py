"""Small data sets as trees of JPEG files, written once, so that what reads ImageNet can be run without it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from samgap import files
from samgap.data import digits, fashion_mnist, imagenet
from samgap.data.sets import Raw, Split

ENLARGED = 4  # times, of the digits: JPEG works on blocks of 8x8 pixels, which is all that a digit has
QUALITY = 95


def load_digits(folder: Path, area: Sequence[float], center: float) -> Raw:
    """The bundled digits, 32x32, from `folder`/digits-jpeg, where they are written when they are not there.

    Args:
        folder: `data_dir`.
        area, center: see `imagenet.tree`.

    Raises:
        SettingError: see `imagenet.tree`.
    """
    place = folder / "digits-jpeg"
    if not place.exists():
        _write(digits.load(folder), place, ENLARGED)
    return imagenet.tree(place, area, center)


def load_fashion_mnist(folder: Path, area: Sequence[float], center: float) -> Raw:
    """Fashion-MNIST, 28x28, from `folder`/fashion-mnist-jpeg, where it is written when it is not there.

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


def _write(raw: Raw, place: Path, enlarged: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    # One run of a sweep writes, the others wait; a tree is whole or not there.
    with FileLock(place.parent / f".{place.name}.lock"):
        if place.exists():
            return
        with files.workspace(place) as temporary:
            for name, part in (("train", raw.train), ("val", raw.test)):
                _write_part(part, temporary / name, raw.levels, enlarged)
            temporary.rename(place)


def _write_part(part: Split, folder: Path, levels: int, enlarged: int) -> None:
    labels = part.labels.tolist()
    for label in sorted(set(labels)):
        (folder / str(label)).mkdir(parents=True)
    for number, label in enumerate(labels):
        image = _picture(part.images[number : number + 1], levels, enlarged)
        image.save(folder / str(label) / f"{number:05}.jpeg", quality=QUALITY)


def _picture(images: Tensor, levels: int, enlarged: int) -> Image.Image:
    """A gray image (1, 1, h, w) with levels 0 to `levels` as 8 bits a pixel."""
    pixels = (images[0, 0].float() * (255 / levels)).round().to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    return image.resize((image.width * enlarged, image.height * enlarged), Image.Resampling.BICUBIC)

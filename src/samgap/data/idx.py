"""Reads the idx files of MNIST and data sets like it, plain or gzipped, and verifies their checksums."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from torchvision.datasets import MNIST

from samgap import files
from samgap.data.sets import Raw, Split
from samgap.errors import SettingError, line

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(kind: type[MNIST], folder: Path, alternatives: Iterable[Path], checksums: Mapping[str, str]) -> Raw:
    """Load a data set from `folder`/<kind>/raw (torchvision's layout), else from `alternatives`, else download it.

    Args:
        kind: torchvision's class, which downloads.
        folder: `data_dir`.
        alternatives: other folders that may contain the four files.
        checksums: file name to SHA-256 of its unpacked content.

    Raises:
        SettingError: the files are missing and cannot be downloaded, or their checksums are wrong.
    """
    home = folder / kind.__name__ / "raw"
    place = next((place for place in (home, *alternatives) if _find(place, NAMES[0])), None)
    if place is None:
        _download(kind, home)
        place = home
    train_images, train_labels, test_images, test_labels = (_read(place, name, checksums[name]) for name in NAMES)
    return Raw(train=_split(train_images, train_labels), test=_split(test_images, test_labels), max_pixel=255)


def _split(images: bytes, labels: bytes) -> Split:
    # Files with these checksums have headers of 16 and 8 bytes. torchvision's reader cannot read gzipped files.
    pixels, classes = torch.frombuffer(bytearray(images[16:]), dtype=torch.uint8), bytearray(labels[8:])
    return Split(pixels.view(-1, 1, 28, 28), torch.frombuffer(classes, dtype=torch.uint8).long())


def _find(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)


def _read(place: Path, name: str, checksum: str) -> bytes:
    path = _find(place, name)
    if path is None:
        raise SettingError(f"{place} lacks {name}(.gz): put the four idx files there, or set data_dir.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except Exception as error:  # gzip raises several kinds of errors
        raise SettingError(f"{path} is damaged ({line(error)}): replace it, or set data_dir.") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise SettingError(f"{path} is damaged (its checksum is not the original's): replace it, or set data_dir.")
    return content


def _download(kind: type[MNIST], home: Path) -> None:
    folder = home.parents[1]
    try:
        home.mkdir(parents=True, exist_ok=True)
        # One process downloads, the others wait. The first file, which `_find` looks for, is moved last.
        with FileLock(folder / f".{kind.__name__}.lock"):
            if _find(home, NAMES[0]):
                return
            with files.workspace(folder / kind.__name__) as temporary:
                kind(str(temporary), train=True, download=True)
                for name in reversed(NAMES):
                    (temporary / kind.__name__ / "raw" / name).replace(home / name)
    except Exception as error:  # raised by torchvision, the network or an archive
        raise SettingError(
            f"{kind.__name__} is not in {home} and could not be downloaded ({line(error)}): put {', '.join(NAMES)} "
            "there, or set data_dir."
        ) from error

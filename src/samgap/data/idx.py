"""Read the idx files of MNIST and its relatives, plain or gzipped, and check what they hold."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torchvision.datasets import MNIST

from samgap import files
from samgap.data.sets import Raw, Split
from samgap.errors import SettingError, line

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load(kind: type[MNIST], folder: Path, elsewhere: Iterable[Path], checksums: Mapping[str, str]) -> Raw:
    """The data set from `folder`/<kind>/raw as torchvision lays it out, else from `elsewhere`, else by its download.

    Args:
        kind: torchvision's class, which knows where to download.
        folder: `data_dir`.
        elsewhere: further folders in which the four files may lie.
        checksums: file name to SHA-256 of its unpacked content; a name that is absent is checked by form alone.

    Raises:
        SettingError: the files are nowhere and cannot be downloaded, or are not what they should be.
    """
    home = folder / kind.__name__ / "raw"
    place = next((place for place in (home, *elsewhere) if _find(place, NAMES[0])), None)
    if place is None:
        _download(kind, home)
        place = home
    train_images, train_labels, test_images, test_labels = (_read(place, name, checksums.get(name)) for name in NAMES)
    for images, labels, count in ((train_images, train_labels, 60_000), (test_images, test_labels, 10_000)):
        if images.shape != (count, 28, 28) or labels.shape != (count,):
            raise SettingError(
                f"Wanted {count} images of 28x28 with labels in {place}, found {_sizes(images)} and {_sizes(labels)}: "
                "put the original files there, or set data_dir."
            )
    return Raw(train=_split(train_images, train_labels), test=_split(test_images, test_labels), levels=255)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def _sizes(values: np.ndarray) -> str:
    return "x".join(str(length) for length in values.shape)


def _find(place: Path, name: str) -> Path | None:
    return next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)


def _read(place: Path, name: str, checksum: str | None) -> np.ndarray:
    path = _find(place, name)
    if path is None:
        raise SettingError(f"{place} lacks {name}(.gz): put the four idx files there, or set data_dir.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        # Header: two zero bytes, type 8 (uint8), number of axes, then each length in four bytes, highest first.
        axes = content[3]
        shape = np.frombuffer(content, dtype=">i4", count=axes, offset=4)
        values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except Exception as error:  # whatever gzip and NumPy may raise
        raise SettingError(f"{path} is damaged ({line(error)}): replace it, or set data_dir.") from error
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        raise SettingError(f"{path} is damaged (its checksum is not the original's): replace it, or set data_dir.")
    return values


def _download(kind: type[MNIST], home: Path) -> None:
    folder = home.parents[1]
    try:
        home.mkdir(parents=True, exist_ok=True)
        # One worker of a sweep downloads, the others wait and find the files: whole ones, the first of them last.
        with FileLock(folder / f".{kind.__name__}.lock"):
            if _find(home, NAMES[0]):
                return
            with files.workspace(folder / kind.__name__) as temporary:
                kind(str(temporary), train=True, download=True)
                for name in reversed(NAMES):
                    (temporary / kind.__name__ / "raw" / name).replace(home / name)
    except Exception as error:  # whatever torchvision, the network and its archives may raise
        raise SettingError(
            f"{kind.__name__} is not in {home} and could not be downloaded ({line(error)}): put {', '.join(NAMES)} "
            "there, or set data_dir."
        ) from error

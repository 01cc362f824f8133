"""CIFAR-10: 50,000 training and 10,000 test images in color, 32x32."""

from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10

from samgap.data.sets import Raw, Split
from samgap.errors import SettingError, line


def load(folder: Path) -> Raw:
    """Load all images, (N, 3, 32, 32), from `folder`/cifar-10-batches-py, or download them; verifies checksums.

    Raises:
        SettingError: the files are missing and cannot be downloaded, or are damaged.
    """
    try:
        try:
            train, test = _parts(folder, download=False)
        except (OSError, RuntimeError):  # missing, damaged, or being downloaded
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".CIFAR10.lock"):  # one process downloads, the others wait
                train, test = _parts(folder, download=True)
    except Exception as error:  # raised by torchvision, the network, an archive or a pickle
        raise SettingError(
            f"CIFAR-10 is not (or not intact) in {folder / CIFAR10.base_folder} and could not be downloaded "
            f"({line(error)}): unpack {CIFAR10.filename} in {folder}, or set data_dir."
        ) from error
    return Raw(train=train, test=test, max_pixel=255)


def _parts(folder: Path, *, download: bool) -> list[Split]:
    return [_split(CIFAR10(str(folder), train=train, download=download)) for train in (True, False)]


def _split(part: CIFAR10) -> Split:
    images = torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
    return Split(images, torch.tensor(part.targets, dtype=torch.int64))

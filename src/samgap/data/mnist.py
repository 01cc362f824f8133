"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 gray."""

from pathlib import Path

import torch
from torchvision.datasets import MNIST

from samgap.data import idx
from samgap.data.sets import Raw
from samgap.errors import SettingError

# How often each digit occurs, as every description of the data set has it. Files may be packed in several ways, and
# torchvision's own checksums (which its download verifies) are of one packing; these hold for the content.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
MEAN, STD = 0.1307, 0.3081  # of the training pixels in [0, 1], to four digits


def load(folder: Path) -> Raw:
    """All images, (N, 1, 28, 28), from `folder`/MNIST/raw, else downloaded into it.

    Raises:
        SettingError: see `idx.load`; also where label counts or the mean and standard deviation of the pixels are
            not MNIST's.
    """
    raw = idx.load(MNIST, folder, [], {})
    pixels = raw.train.images[:].double() / raw.levels
    counts = [torch.bincount(split.labels, minlength=10).tolist() for split in (raw.train, raw.test)]
    if counts != [TRAIN_COUNTS, TEST_COUNTS] or (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) != (
        MEAN,
        STD,
    ):
        raise SettingError(
            f"{folder / 'MNIST' / 'raw'} does not hold MNIST (label counts or pixel statistics differ): put the "
            "original files there, or set data_dir."
        )
    return raw

"""The 1,797 handwritten digits of scikit-learn: real 8x8 images with 17 gray levels, part of the package."""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch

from samgap import seeds
from samgap.data.sets import Raw, Split

FILE = "sklearn/datasets/data/digits.csv.gz"
TEST = 597  # leaves 1,200 for training


def load(folder: Path) -> Raw:
    """Load 1,200 training and 597 test images (N, 1, 8, 8). There is no original split; this one is random and fixed.

    Args:
        folder: unused; `load` of each data set has it.
    """
    # Read the file directly: importing scikit-learn takes longer than a small run. A row has 64 pixels and a label.
    rows = np.loadtxt(str(distribution("scikit-learn").locate_file(FILE)), delimiter=",")
    images = torch.from_numpy(rows[:, :-1].astype(np.uint8)).view(-1, 1, 8, 8)
    digits = Split(images, torch.from_numpy(rows[:, -1].astype(np.int64)))
    order = torch.randperm(len(digits), generator=seeds.generator(0, "digits", "test"))
    return Raw(train=digits.take(order[TEST:]), test=digits.take(order[:TEST]), max_pixel=16)

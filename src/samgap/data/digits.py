"""scikit-learn's 1,797 handwritten digits: real 8x8 images in 17 levels that come with the package."""

from pathlib import Path

import numpy as np
import torch

from samgap import seeds
from samgap.data.sets import Raw, Split

TEST = 597  # leaves 1,200 for training


def load(folder: Path) -> Raw:
    """1,200 training and 597 test images (N, 1, 8, 8). The makers give no split; this one is fixed and random.

    Args:
        folder: not read; every data set's `load` takes it.
    """
    from sklearn.datasets import load_digits  # its import takes a second that no other data set should pay

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    whole = Split(images, torch.from_numpy(bunch.target.astype(np.int64)))
    order = torch.randperm(len(whole), generator=seeds.generator(0, "digits", "test"))
    return Raw(train=whole.take(order[TEST:]), test=whole.take(order[:TEST]), levels=16)

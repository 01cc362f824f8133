"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28 gray."""

from pathlib import Path

from torchvision.datasets import MNIST

from samgap.data import idx
from samgap.data.sets import Raw

# Checksums of the unpacked files, since archives of the same files differ.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(folder: Path) -> Raw:
    """Load all images, (N, 1, 28, 28), from `folder`/MNIST/raw, or download them.

    Raises:
        SettingError: see `idx.load`.
    """
    return idx.load(MNIST, folder, [], SHA256)

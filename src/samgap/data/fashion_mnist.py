"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28 gray."""

from pathlib import Path

from torchvision.datasets import FashionMNIST

from samgap.data import idx
from samgap.data.sets import Raw

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist

# Checksums of the unpacked files, since archives of the same files differ.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(folder: Path) -> Raw:
    """Load all images, (N, 1, 28, 28), from `folder`, else from Debian's package, else download them to `folder`.

    Raises:
        SettingError: see `idx.load`.
    """
    return idx.load(FashionMNIST, folder, [DEBIAN], SHA256)

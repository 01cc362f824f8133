"""Downloaded data sets: existing files are read, and damaged or incomplete ones give an error."""

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from samgap.data import cifar10, idx
from samgap.errors import SettingError

IMAGES = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28)) + bytes(784) + 784 * bytes((9,))
LABELS = bytes((0, 0, 8, 1, 0, 0, 0, 2)) + bytes((1, 0))
CHECKSUMS = {name: hashlib.sha256(IMAGES if "images" in name else LABELS).hexdigest() for name in idx.NAMES}
PACKED = gzip.compress(np.random.default_rng(0).integers(0, 9, 999).astype(np.uint8).tobytes())


class MNIST:
    """A stand-in for torchvision's MNIST that writes files instead of downloading them."""

    files = idx.NAMES

    def __init__(self, root: str, train: bool, download: bool) -> None:
        home = Path(root) / "MNIST" / "raw"
        home.mkdir(parents=True)
        for name in self.files:
            (home / f"{name}.gz").write_bytes(b"packed")
            (home / name).write_bytes(IMAGES if "images" in name else LABELS)
        if self.files != idx.NAMES:
            raise EOFError  # not an error of the network, and without text


class Interrupted(MNIST):
    """A download that fails after the first two files."""

    files = idx.NAMES[:2]


Interrupted.__name__ = "MNIST"


@pytest.mark.parametrize(
    "content",
    [PACKED[:20] + b"\xff\xff\xff" + PACKED[23:], PACKED[:200], PACKED[:-8] + bytes(8), PACKED, b"", b"<html>"],
    ids=["flipped", "truncated", "wrong sum", "no idx", "empty", "page"],
)
def test_a_damaged_archive_is_named(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "MNIST" / "raw"
    home.mkdir(parents=True)
    path = home / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=rf"^{path} is damaged \(.+\): replace it, or set data_dir\.$"):
        idx.load(MNIST, tmp_path, [], CHECKSUMS)  # type: ignore[arg-type]


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    home = tmp_path / "MNIST" / "raw"
    with pytest.raises(SettingError, match=rf"^MNIST is not in {home} and could not be downloaded \(EOFError\): put "):
        idx.load(Interrupted, tmp_path, [], CHECKSUMS)  # type: ignore[arg-type]
    assert not any(home.iterdir())
    raw = idx.load(MNIST, tmp_path, [], CHECKSUMS)  # type: ignore[arg-type]
    assert raw.test.labels.tolist() == [1, 0]
    assert raw.test.images[:].float().mean((1, 2, 3)).tolist() == [0, 9]
    assert {path.name for path in home.iterdir()} == {*idx.NAMES}
    assert {path.name for path in tmp_path.iterdir()} <= {"MNIST", ".MNIST.lock"}


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a CIFAR-10 of a few images that torchvision accepts."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    monkeypatch.setattr(CIFAR10, "train_list", [[name, None] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [[names[5], None]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    place = tmp_path / "shared" / CIFAR10.base_folder
    place.mkdir(parents=True)
    for number, name in enumerate(names):
        batch = {"data": np.full((2, 3072), number, np.uint8), "labels": [number, 9]}
        (place / name).write_bytes(pickle.dumps(batch))
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"] * 10}))
    return place


def test_cifar_10_that_is_there_is_read_and_nothing_written(batches: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in batches.parent.rglob("*")}
    raw = cifar10.load(batches.parent)
    assert raw.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert raw.train.images.shape == (10, 3, 32, 32)
    assert raw.test.images[:].float().mean() == 5
    assert {path: path.stat().st_mtime_ns for path in batches.parent.rglob("*")} == before


@pytest.mark.parametrize(
    "content", [b"", b"<html>", pickle.dumps({}), pickle.dumps([])], ids=["empty", "page", "dict", "list"]
)
def test_whatever_a_damaged_batch_raises_is_one_sentence(batches: Path, content: bytes) -> None:
    (batches / "data_batch_3").write_bytes(content)
    with pytest.raises(
        SettingError, match=rf"^CIFAR-10 is not \(or not intact\) in {batches} and could not .*\(.+\): "
    ):
        cifar10.load(batches.parent)


def test_a_folder_that_can_be_neither_read_nor_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    with pytest.raises(SettingError, match=rf"^CIFAR-10 is not .* in {folder}/.* \(.*Not a directory.*\): unpack "):
        cifar10.load(folder)
    with pytest.raises(SettingError, match=rf"^MNIST is not in {folder}/MNIST/raw .* \(.*Not a directory.*\): put "):
        idx.load(MNIST, folder, [], CHECKSUMS)  # type: ignore[arg-type]

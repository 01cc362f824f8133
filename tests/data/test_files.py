import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from samgap.data import cifar10, fashion_mnist, idx, mnist
from samgap.errors import SettingError


def write_idx(path: Path, values: np.ndarray, packed: bool) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        Path(f"{path}.gz").write_bytes(gzip.compress(content, 1))
    else:
        path.write_bytes(content)


def write_all(folder: Path, packed: bool) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sizes = ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,))
    arrays = {
        name: random.integers(0, 256 if len(size) == 3 else 10, size, dtype=np.uint8)
        for name, size in zip(idx.NAMES, sizes, strict=True)
    }
    for name, values in arrays.items():
        write_idx(folder / "MNIST" / "raw" / name, values, packed)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_come_back_as_written(tmp_path: Path, packed: bool) -> None:
    arrays = write_all(tmp_path, packed)
    raw = idx.load(MNIST, tmp_path, [], {})
    assert np.array_equal(raw.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(raw.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert raw.train.images.shape == (60_000, 1, 28, 28)
    assert raw.train.labels.dtype == torch.int64


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SettingError, match=r"train-images-idx3-ubyte is damaged .* set data_dir"):
        idx.load(MNIST, tmp_path, [], {})


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path, packed=True)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SettingError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        idx.load(MNIST, tmp_path, [], {})


def test_a_lacking_file_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SettingError, match="lacks t10k-labels-idx1-ubyte"):
        idx.load(MNIST, tmp_path, [], {})


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    with pytest.raises(SettingError, match="its checksum is not the original's"):
        idx.load(MNIST, tmp_path, [], fashion_mnist.SHA256)


def test_what_only_looks_like_mnist_is_refused(tmp_path: Path) -> None:
    write_all(tmp_path, packed=False)
    with pytest.raises(SettingError, match="does not hold MNIST"):
        mnist.load(tmp_path)


def fail(*arguments: object, **options: object) -> None:
    raise RuntimeError("no network")


def test_missing_mnist_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "download", fail)
    with pytest.raises(SettingError, match=r"MNIST is not in .*MNIST/raw and could not be downloaded \(no network\)"):
        mnist.load(tmp_path)


def test_missing_cifar_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10.CIFAR10, "download", fail)
    with pytest.raises(SettingError, match=r"CIFAR-10 is not .*cifar-10-batches-py and could not be downloaded"):
        cifar10.load(tmp_path)


def test_damaged_cifar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(SettingError, match="not intact"):
        cifar10.load(tmp_path)


def test_cifar_files_come_back_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar(tmp_path)
    monkeypatch.setattr(cifar10.CIFAR10, "_check_integrity", lambda self: True)  # generated files have other checksums
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    raw = cifar10.load(tmp_path)
    assert raw.train.images.shape == (50, 3, 32, 32)
    assert np.array_equal(raw.train.images[10:20].reshape(10, -1).numpy(), pixels["data_batch_2"])
    assert raw.test.labels.tolist() == list(range(10))


def write_cifar(folder: Path) -> dict[str, np.ndarray]:
    base = folder / "cifar-10-batches-py"
    base.mkdir()
    random = np.random.default_rng(0)
    pixels = {}
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        pixels[name] = random.integers(0, 256, (10, 3072), dtype=np.uint8)
        with (base / name).open("wb") as file:
            pickle.dump({"data": pixels[name], "labels": list(range(10))}, file)
    with (base / "batches.meta").open("wb") as file:
        pickle.dump({"label_names": list("abcdefghij")}, file)
    return pixels


@pytest.mark.skipif(
    not (fashion_mnist.DEBIAN.exists() or os.environ.get("CI")),
    reason="wants Debian's package dataset-fashion-mnist, which CI installs",
)
def test_fashion_mnist_of_debian_is_the_original(tmp_path: Path) -> None:
    raw = fashion_mnist.load(tmp_path)
    assert torch.bincount(raw.train.labels).tolist() == [6000] * 10
    assert torch.bincount(raw.test.labels).tolist() == [1000] * 10
    assert (raw.train.images.double() / 255).mean().item() == pytest.approx(0.2860, abs=5e-5)

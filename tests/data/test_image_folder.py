"""data=image_folder: any folder of classes, with unchanged images in memory."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samgap.data import image_folder
from samgap.errors import SettingError
from samgap.training import build
from samgap.training.plan import RunPlan
from tests.conftest import config


def pixels(seed: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Write classes c2 and c10, each with two training images and a test image."""
    for number, name in enumerate(
        ["train/c2/0", "train/c2/1", "train/c10/0", "train/c10/1", "test/c2/0", "test/c10/0"]
    ):
        save(tmp_path / "images" / f"{name}.png", pixels(number))
    return tmp_path / "images"


def test_images_are_those_of_the_files_and_classes_go_by_their_names(place: Path) -> None:
    raw = image_folder.load(place)
    assert raw.train.labels.tolist() == [0, 0, 1, 1]  # natural order, so c2 is before c10
    assert raw.test.labels.tolist() == [0, 1]
    expected = np.stack([pixels(number) for number in range(6)]).transpose(0, 3, 1, 2)
    assert torch.equal(torch.cat([raw.train.images[:], raw.test.images[:]]), torch.from_numpy(expected))
    assert raw.max_pixel == 255


def test_classes_must_have_one_order(place: Path) -> None:
    for part in ("train", "test"):
        save(place / part / "C2" / "0.png", pixels(9))
    with pytest.raises(SettingError, match="differ in more than case or leading zeros, found C2 and c2: rename one"):
        image_folder.load(place)


def test_images_must_be_directly_in_the_folder_of_their_class(place: Path) -> None:
    save(place / "train" / "c2" / "good" / "0.png", pixels(9))
    with pytest.raises(SettingError, match=r"found 1 deeper, such as c2/good/0\.png: move them up"):
        image_folder.load(place)


def test_images_of_16_bits_are_refused(place: Path) -> None:
    save(place / "train" / "c2" / "0.png", 1024 * np.arange(36, dtype=np.uint16).reshape(6, 6))
    with pytest.raises(SettingError, match=r"c2/0\.png cannot be read as an image \(mode I;16 has more than 8 bits"):
        image_folder.load(place).train.images[:]


def test_the_test_part_may_be_called_as_of_imagenet(place: Path) -> None:
    shutil.copytree(place / "test", place / "val")
    (place / "val" / "c2" / "0.png").rename(place / "val" / "c2" / "1.png")
    save(place / "val" / "c2" / "0.png", pixels(7))
    assert len(image_folder.load(place).test) == 2  # the test part is test/
    shutil.rmtree(place / "test")
    assert len(image_folder.load(place).test) == 3


def test_gray_images_have_one_channel_unless_some_are_in_color(place: Path) -> None:
    for number, path in enumerate(sorted(place.rglob("*.png"))):
        save(path, pixels(number)[:, :, 0])
    gray = image_folder.load(place)
    assert gray.train.images.shape == (4, 1, 6, 6)
    save(place / "train" / "c10" / "1.png", pixels(9))
    save(place / "test" / "c2" / "0.png", pixels(9))
    mixed = image_folder.load(place).train.images[:]
    assert torch.equal(mixed[:3], gray.train.images[:3].expand(-1, 3, -1, -1))
    assert torch.equal(mixed[3].permute(1, 2, 0), torch.from_numpy(pixels(9)))


def test_the_folder_is_no_part_of_the_identity_and_its_content_is_in_the_digest(place: Path, tmp_path: Path) -> None:
    def hashes(folder: Path, name: str) -> tuple[str, str]:
        values = config("data=image_folder", f"data.name={name}", "data.classes=2") | {"data_dir": str(folder)}
        plan = RunPlan.of(values)
        data = build.data(plan)
        assert (data.crop, data.flip, data.shape) == (4, True, (3, 32, 32))
        return plan.identity, data.sha256()

    shutil.copytree(place, tmp_path / "copy")
    first = hashes(place, "mine")
    assert hashes(tmp_path / "copy", "mine") == first
    assert hashes(place, "other")[0] != first[0]
    shutil.copytree(place, tmp_path / "changed")
    save(tmp_path / "changed" / "test" / "c2" / "0.png", pixels(8))
    assert hashes(tmp_path / "changed", "mine")[1] != first[1]


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (
        lambda place: place.rename(place.with_name("gone")),
        "images, one for each class, in .*train, found none",
    ),
    "no images": (
        lambda place: [path.unlink() for path in place.glob("test/*/*")],
        "in .*test, found none: set data_dir",
    ),
    "no such class": (
        lambda place: shutil.rmtree(place / "test" / "c10"),
        "1 are in one alone, such as c10: add them, or set data_dir",
    ),
    "another size": (
        lambda place: save(place / "train" / "c10" / "0.png", pixels(0)[:5]),
        r"Wanted all images of .*train as squares of 6 pixels, as wide as the first, and c10/0.png has 6x5: make",
    ),
    "another size in one part": (
        lambda place: [save(path, pixels(0, 4)) for path in place.glob("test/*/*")],
        "those of training are 3x6x6, those of the test 3x4x4: convert them, or set data_dir",
    ),
    "damaged": (
        lambda place: (place / "train" / "c2" / "1.png").write_bytes(b"no image"),
        r"train/c2/1.png cannot be read as an image \(.*\): replace it, or set data_dir",
    ),
}


@pytest.mark.parametrize(("harm", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_folder_is_one_sentence(
    place: Path, harm: Callable[[Path], object], sentence: str
) -> None:
    harm(place)
    with pytest.raises(SettingError, match=sentence) as error:
        image_folder.load(place)
    assert "\n" not in str(error.value)


def test_another_number_of_classes_is_refused(place: Path) -> None:
    values = config("data=image_folder") | {"data_dir": str(place)}
    with pytest.raises(
        SettingError, match=r"data\.classes must be 3 and 2 for these data, got 3 and 10: set them, or set data_dir"
    ):
        build.data(RunPlan.of(values))

"""Images in files give the same batches for training and evaluation with any number of workers."""

import os
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms
from torchvision.transforms.functional import pil_to_tensor

from samgap import seeds
from samgap.cli import explain
from samgap.data import digits, imagenet, trees, workers
from samgap.data.batches import Batch, EpochSampler, batches, blocks
from samgap.data.files import ImageFiles
from samgap.data.sets import Data, Raw, Split, assemble
from samgap.errors import SettingError
from samgap.training.evaluate import share

CPU = torch.device("cpu")
# JAX, which other tests may have imported, warns of every fork; the workers do not use it.
forks = pytest.mark.filterwarnings("ignore:os.fork", "ignore:.*use of fork.*")


def make(load: Callable[..., Raw], folder: Path, **options: Any) -> Data:
    settings: dict[str, Any] = {"size": 24, "area": [0.3, 1], "center": 0.8, **options}
    return assemble(load, folder, channels=3, classes=10, mean=[0.5] * 3, std=[0.5] * 3, **settings)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data_dir that contains the tree of digits."""
    place = tmp_path_factory.mktemp("data")
    trees.load_digits(place, (0.08, 1), 0.875)
    return place


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write a tree of three classes with images of several sizes and modes."""
    for part, count in (("train", 4), ("val", 3)):
        for label in ("a", "b", "c10"):
            place = tmp_path / "imagenet" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                shade = 40 * number + len(label)
                mode, color = (("RGB", (shade, 7, 200)), ("L", shade), ("CMYK", (shade, 0, 9, 3)))[number % 3]
                Image.new(mode, (30 + number, 40), color).save(place / f"{number}.jpeg")
    return tmp_path


def test_the_tree_holds_the_digits(folder: Path) -> None:
    raw, source = trees.load_digits(folder, (0.08, 1), 0.875), digits.load(folder)
    assert (len(raw.train), len(raw.test), raw.max_pixel) == (1200, 597, 255)
    for part, original in ((raw.train, source.train), (raw.test, source.test)):
        assert isinstance(part.images, ImageFiles)
        numbers = torch.tensor([int(Path(name).stem) for name in part.images.names])
        assert sorted(numbers.tolist()) == list(range(len(original)))
        assert torch.equal(part.labels, original.labels[numbers])
        # Enlarged four times, smoothed and compressed, each image is still nearest to its own digit.
        pixels = torch.stack([pil_to_tensor(Image.open(part.images.root / name)) for name in part.images.names[:50]])
        small = torch.nn.functional.avg_pool2d(pixels.float(), 4) * 16 / 255
        distances = torch.cdist(small.flatten(1), original.images[numbers[:50]].flatten(1).float())
        assert torch.equal(distances.argmin(1), torch.arange(50))


def test_evaluation_sees_what_torchvision_gives(folder: Path) -> None:
    data = make(trees.load_digits, folder)
    theirs = datasets.ImageFolder(
        str(folder / "digits-jpeg" / "val"),
        transforms.Compose(
            [transforms.Resize(30, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(24), pil_to_tensor]
        ),
    )
    assert [label for _, label in theirs.samples] == data.test.labels.tolist()
    found = torch.cat([images for images, _ in blocks(data.test, 100, CPU)])
    assert torch.equal(found, torch.stack([image for image, _ in theirs]))


def test_training_crops_as_timm_does_with_a_seed_for_each_image(folder: Path) -> None:
    from timm.data.transforms import RandomResizedCropAndInterpolation

    data = make(trees.load_digits, folder, flip=True)
    images, positions = data.train.images, torch.tensor([5, 900, 3])
    assert isinstance(images, ImageFiles)
    found = images.augmented(positions, True, seed=11)
    crop = RandomResizedCropAndInterpolation(24, scale=(0.3, 1), interpolation="bicubic")
    for image, position in zip(found, positions.tolist(), strict=True):
        own = seeds.derive(11, position)
        random.seed(own)
        torch.manual_seed(own)
        cut = pil_to_tensor(crop(Image.open(images.root / images.names[position]).convert("RGB")))
        assert torch.equal(image, cut) or torch.equal(image, cut.flip(2))
    # Augmentation depends on the image and not on the other images of the batch.
    assert torch.equal(images.augmented(positions[1:2], True, seed=11)[0], found[1])
    assert not torch.equal(images.augmented(positions, True, seed=12), found)


def test_half_of_the_images_are_flipped_and_none_without(folder: Path) -> None:
    data = make(trees.load_digits, folder, area=[1, 1])
    images, positions = data.train.images, torch.arange(200)
    assert isinstance(images, ImageFiles)
    plain, some = images.augmented(positions, False, 0), images.augmented(positions, True, 0)
    flipped = sum(int(torch.equal(a.flip(2), b)) for a, b in zip(plain, some, strict=True))
    assert 70 < flipped < 130
    assert all(torch.equal(a, b) or torch.equal(a.flip(2), b) for a, b in zip(plain, some, strict=True))


def epoch(data: Data, number: int, workers: int, rank: int = 0, ranks: int = 1) -> list[Batch]:
    loader = batches(EpochSampler(data, 64, 0, rank, ranks), CPU, workers)
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return [batch for block in loader for batch in block]


@forks
def test_workers_make_no_difference_and_the_global_generators_are_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(trees.load_digits, folder, train_size=150, flip=True)
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    with monkeypatch.context() as patch:  # of the GPUs' generators, which torch.manual_seed seeds too
        patch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("a GPU's generator was seeded"))
        alone = epoch(data, 1, 0)
    helped = epoch(data, 1, 2)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert [batch.size for batch in alone] == [64, 64, 22]
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    assert not torch.equal(epoch(data, 2, 0)[0].images, alone[0].images)
    # Ranks have parts of the same batches.
    parts = [epoch(data, 1, 0, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([parts[0][0].images, parts[1][0].images]), alone[0].images)
    assert torch.equal(torch.cat([images for images, _ in blocks(data.test, 100, CPU, workers=2)]), data.test.images[:])


@pytest.mark.parametrize("images", [0, 1, 7, 500, 1001])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_ranks_score_every_image_once(images: int, ranks: int) -> None:
    # T26: the official code never evaluates 336 of ImageNet's images and evaluates 512 of them twice.
    part = Split(torch.arange(images).view(-1, 1, 1, 1), torch.arange(images))
    found = [labels for rank in range(ranks) for _, labels in blocks(share(part, rank, ranks), 500, CPU)]
    assert torch.equal(torch.cat([torch.empty(0, dtype=torch.int64), *found]), torch.arange(images))


def test_holdout_subset_noise_and_digest_are_those_of_any_data_set(folder: Path) -> None:
    plain = make(trees.load_digits, folder, train_size=100, holdout=50)
    noisy = make(trees.load_digits, folder, train_size=100, holdout=50, label_noise=0.3)
    assert plain.holdout is not None
    assert isinstance(plain.train.images, ImageFiles)
    assert isinstance(plain.holdout.images, ImageFiles)
    assert not {*plain.train.images.names} & {*plain.holdout.images.names}
    assert int((plain.train.labels != noisy.train.labels).sum()) == 30
    assert plain.shape == (3, 24, 24)
    assert plain.sha256() == make(trees.load_digits, folder, train_size=100, holdout=50).sha256()
    assert plain.sha256() != noisy.sha256()


def test_a_tree_of_any_images(small: Path) -> None:
    for place in (small, small / "imagenet"):
        raw = imagenet.load(place, (0.08, 1), 0.875)
        assert raw.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert len(raw.test) == 9
        assert raw.train.images[torch.tensor([0, 1, 2])].shape == (3, 3, 224, 224)
    (small / "imagenet" / "val").rename(small / "imagenet" / "validation")
    assert len(imagenet.load(small, (0.08, 1), 0.875).test) == 9


def test_a_tree_has_images_of_every_format_that_pillow_reads(small: Path) -> None:
    place = small / "imagenet" / "train" / "a"
    for ending in ("png", "webp", "bmp", "TIF", "gif", "ppm", "jp2"):
        Image.new("RGB", (9, 9), (250, 3, 3)).save(place / f"other.{ending}")
    (place / "notes.txt").write_text("no image")
    images = imagenet.load(small, (0.08, 1), 0.875).train.images
    assert isinstance(images, ImageFiles)
    others = torch.tensor([at for at, name in enumerate(images.names) if "other" in name])
    assert len(others) == 7
    assert len(images.names) == 12 + 7
    assert (images[others].float().mean((2, 3)) - torch.tensor([250.0, 3, 3])).abs().max() < 9


def test_names_need_not_be_utf_8(small: Path) -> None:
    place = small / "imagenet" / "train" / "a"
    odd = Path(os.fsdecode(bytes(place) + b"/caf\xe9.jpeg"))
    before = make_small(small).sha256()
    (place / "0.jpeg").rename(odd)
    data = make_small(small)
    assert data.sha256() != before
    odd.unlink()
    with pytest.raises(SettingError, match=r"caf\udce9\.jpeg cannot be read as an image \(.*No such file"):
        data.sha256()


def test_what_is_not_there_is_one_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"ImageNet is neither in .*nowhere/imagenet nor in .*: set data_dir"):
        imagenet.load(tmp_path / "nowhere", (0.08, 1), 0.875)
    shutil.rmtree(small / "imagenet" / "val" / "b")
    with pytest.raises(
        SettingError, match=r"folders of classes in both parts of .*, and 1 are in one alone, such as b:"
    ):
        imagenet.load(small, (0.08, 1), 0.875)
    shutil.rmtree(small / "imagenet" / "val")
    (small / "imagenet" / "val").mkdir()
    with pytest.raises(SettingError, match=r"Wanted folders of images, one for each class, in .*val, found none"):
        imagenet.load(small, (0.08, 1), 0.875)


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_image_in_no_class_s_folder_is_named(small: Path, part: str) -> None:
    place = small / "imagenet" / part
    (place / "a" / "0.jpeg").rename(place / "stray.JPEG")
    with pytest.raises(SettingError) as error:
        imagenet.load(small, (0.08, 1), 0.875)
    assert str(error.value) == (
        f"Wanted each image of {place} in a folder for its class, found 1 in none, such as stray.JPEG: move them into "
        "their folders."
    )


def make_small(small: Path) -> Data:
    settings: dict[str, Any] = {"channels": 3, "classes": 3, "size": 24, "area": [1, 1], "center": 1}
    return assemble(imagenet.load, small, mean=[0.5] * 3, std=[0.5] * 3, **settings)


def test_padding_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.crop pads images in memory, and these are files"):
        make(trees.load_digits, folder, crop=2)


@forks
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_by_whichever_process_reads_it(small: Path, workers: int) -> None:
    path = small / "imagenet" / "train" / "a" / "1.jpeg"
    path.write_bytes(path.read_bytes()[:100])
    sentence = failure(lambda: epoch(make_small(small), 0, workers))
    assert sentence.startswith(f"{path} cannot be read as an image (")
    assert sentence.endswith("): replace it, or set data_dir.")
    assert "\n" not in sentence


def failure(read: Callable[[], object]) -> str:
    """Return the sentence of a command whose reading fails."""
    with pytest.raises((SettingError, RuntimeError)) as error:
        read()
    # Release the loader: otherwise the garbage collector finds it in a cycle with its queues and waits for its worker.
    traceback.clear_frames(error.tb)
    return explain(error.value) or repr(error.value)


# Pillow raises UnidentifiedImageError, ValueError, NotImplementedError, OSError, DecompressionBombError.
DAMAGED = {
    "empty": b"",
    "ppm": b"P6 2 2 70000\n" + bytes(12),
    "dds": b"DDS " + (124).to_bytes(4, "little") + bytes(120),
    "folder": None,
    "bomb": b"P6 60000 60000 255\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_whatever_a_decoder_raises_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "image"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingError, match=f"^{path} cannot be read as an image"):
        ImageFiles(tmp_path, ["image"], (0.08, 1), 0.875)[:1]


@forks
def test_workers_hand_over_however_long_tmpdir_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The path of a socket may have 107 bytes.
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(workers, "TIMEOUT", 20)
    data = make(trees.load_digits, folder, train_size=5)
    assert len(epoch(data, 0, 1)[0].labels) == 5
    assert tempfile.gettempdir() == str(long)


@forks
@pytest.mark.parametrize("room", [0, 20_000], ids=["from the start", "for a batch"])
def test_workers_whose_shared_memory_is_full_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    data = make(trees.load_digits, folder, train_size=50)
    monkeypatch.setattr(workers, "TIMEOUT", 20)
    before = {*Path("/dev/shm").glob("torch_*")}

    def limited(worker: int, start: Callable[[int], None] = workers._check_sharing) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        start(worker)

    monkeypatch.setattr(workers, "_check_sharing", limited)
    for read in (lambda: epoch(data, 0, 1), lambda: [*blocks(data.test, 100, CPU, workers=1)]):
        assert re.match(
            r"A process that reads images cannot share them \(.*File too large.*\): make /dev/shm larger",
            failure(read),
        )
    left = {*Path("/dev/shm").glob("torch_*")} - before
    assert not [path for path in left if path.exists()]


@forks
@pytest.mark.parametrize(
    ("act", "patience", "what"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 20, r"worker \(pid \d+\) is killed by signal: Killed"),
        (lambda: time.sleep(0.3), 0.1, r"timed out after 0\.1 seconds"),
    ],
    ids=["killed", "hangs"],
)
def test_no_worker_is_waited_for_without_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], patience: float, what: str
) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", patience)
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))  # a killed process leaves its socket
    monkeypatch.setattr(ImageFiles, "_read", lambda *_: act())
    data = make(trees.load_digits, folder, train_size=2)
    for read in (lambda: epoch(data, 0, 1), lambda: [*blocks(data.train, 100, CPU, workers=1)]):
        assert re.match(rf"Reading images in processes of their own failed \({what}\): lower ", failure(read))


def test_a_tree_that_was_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        trees.load_digits(tmp_path, (0.08, 1), 0.875)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []

"""ImageNet, or other images in a folder for each class, which is the layout of torchvision and timm."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from timm.data.readers.reader_image_folder import find_images_and_targets
from timm.utils.misc import natural_key

from samgap.data.files import ImageFiles
from samgap.data.sets import Raw, Split
from samgap.errors import SettingError

TRAIN, TEST = ("train",), ("val", "validation")  # accepted names of the folders


def load(folder: Path, area: Sequence[float], center: float) -> Raw:
    """Load the tree in `folder`/imagenet, or in `folder` itself; its validation part is the test part.

    Args:
        folder: `data_dir`.
        area, center: see `tree`.

    Raises:
        SettingError: see `tree`; also if neither folder has the tree.
    """
    for place in (folder / "imagenet", folder):
        if _find(place, TRAIN) and _find(place, TEST):
            return tree(place, area, center)
    raise SettingError(
        f"ImageNet is neither in {folder / 'imagenet'} nor in {folder}: set data_dir to the folder that has train/ and "
        "val/, each with a folder of images for every class."
    )


def tree(place: Path, area: Sequence[float], center: float, test: Sequence[str] = TEST) -> Raw:
    """Load `place`/train/<class>/ and `place`/val/<class>/, (N, 3, h, w), with classes in the order of their names.

    Args:
        place: the folder.
        area: smallest and largest share of an image in the random crops of training.
        center: share of height and width in the center crop of evaluation.
        test: accepted names of the test part's folder; the first that exists is used.

    Raises:
        SettingError: a part has no images, or some that are not directly in a folder of a class; or names of classes
            have no order; or the parts differ in classes.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    parts, classes = [], []
    for names in (TRAIN, test):
        root = _find(place, names) or place / names[0]
        images, numbers = find_images_and_targets(str(root), types=endings)
        _check(root, images, numbers)
        files = ImageFiles(
            root, [str(Path(path).relative_to(root)) for path, _ in images], (area[0], area[1]), float(center)
        )
        parts.append(Split(files, torch.tensor([label for _, label in images])))
        classes.append(numbers)
    if classes[0] != classes[1]:
        odd = sorted(classes[0].keys() ^ classes[1].keys())
        raise SettingError(
            f"Wanted the same folders of classes in both parts of {place}, and {len(odd)} are in one alone, such as "
            f"{odd[0]}: add them, or set data_dir to a whole tree; data.classes is their number."
        )
    return Raw(train=parts[0], test=parts[1], max_pixel=255)


def _check(root: Path, images: list[tuple[str, int]], numbers: dict[str, int]) -> None:
    """Check images with their labels, and the labels of the classes."""
    if "" in numbers:
        stray = [Path(path).name for path, label in images if label == numbers[""]]
        raise SettingError(
            f"Wanted each image of {root} in a folder for its class, found {len(stray)} in none, such as "
            f"{stray[0]}: move them into their folders."
        )
    if deep := [Path(path).relative_to(root) for path, _ in images if Path(path).parent.parent != root]:
        raise SettingError(
            f"Wanted the images of {root} directly in the folder of their class, found {len(deep)} deeper, such as "
            f"{deep[0]}: move them up, or make each of their folders a class."
        )
    keys = {name: tuple(natural_key(name)) for name in numbers}  # type: ignore[no-untyped-call]
    if alike := [name for name in sorted(keys) if [*keys.values()].count(keys[name]) > 1]:
        raise SettingError(
            f"Wanted folders of classes in {root} that differ in more than case or leading zeros, found "
            f"{' and '.join(alike[:2])}: rename one."
        )
    if not images:
        raise SettingError(f"Wanted folders of images, one for each class, in {root}, found none: set data_dir.")


def _find(place: Path, names: Sequence[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_dir()), None)

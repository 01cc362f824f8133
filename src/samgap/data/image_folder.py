"""Any images of one size in folders by class, few enough to be kept in memory."""

from pathlib import Path

from samgap.data import imagenet
from samgap.data.sets import Raw
from samgap.errors import SettingError

TEST = ("test", *imagenet.TEST)  # names that the folder may have


def load(folder: Path) -> Raw:
    """The images of `folder`/train/<class>/ and `folder`/test/<class>/, (N, c, h, h), classes ordered by their names.

    Without test/ the test part is val/ or validation/, as of ImageNet; c is 1 where all images are gray, else 3.

    Args:
        folder: `data_dir`.

    Raises:
        SettingError: see `imagenet.tree` and `ImageFiles.loaded`; also, the parts differ in size or kind.
    """
    raw = imagenet.tree(folder, (1, 1), 1, TEST)
    train, test = raw.train.in_memory(), raw.test.in_memory()
    shapes = ["x".join(map(str, part.images.shape[1:])) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise SettingError(
            f"Wanted images of one size, all gray or all in color, in {folder}, and those of training are {shapes[0]}, "
            f"those of the test {shapes[1]}: convert them, or set data_dir."
        )
    return Raw(train, test, levels=255)

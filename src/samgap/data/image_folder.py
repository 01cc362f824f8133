"""Images of one size in a folder for each class, all of which fit in memory."""

from pathlib import Path

from samgap.data import imagenet
from samgap.data.sets import Raw
from samgap.errors import SettingError

TEST = ("test", *imagenet.TEST)  # accepted names of the folder


def load(folder: Path) -> Raw:
    """Load `folder`/train/<class>/ and `folder`/test/<class>/, (N, c, h, h), with classes in the order of their names.

    If there is no test/, the test part is val/ or validation/. c is 1 if all images are gray, else 3.

    Args:
        folder: `data_dir`.

    Raises:
        SettingError: see `imagenet.tree` and `ImageFiles.loaded`; also if the parts differ in size or channels.
    """
    raw = imagenet.tree(folder, (1, 1), 1, TEST)
    train, test = raw.train.in_memory(), raw.test.in_memory()
    shapes = ["x".join(map(str, part.images.shape[1:])) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise SettingError(
            f"Wanted images of one size, all gray or all in color, in {folder}, and those of training are {shapes[0]}, "
            f"those of the test {shapes[1]}: convert them, or set data_dir."
        )
    return Raw(train, test, max_pixel=255)

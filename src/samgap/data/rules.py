"""Valid values of the keys of conf/data/."""

from collections.abc import Mapping
from typing import Any

from samgap.errors import SettingError, said
from samgap.rules import FLAG, Rule, at_least, is_number, number, numbers, whole

RULES = {
    "size": whole(1),
    "train_size": whole(1).or_null(" for all"),
    "holdout": whole(0),
    "label_noise": number("a share from 0 to 1", lambda share: 0 <= share <= 1),
    "score_unused": FLAG,
    "channels": whole(1),
    "classes": whole(2),
    "mean": numbers("a list of numbers, one a channel"),
    "std": numbers("a list of numbers above 0, one a channel", lambda std: std > 0),
    "crop": whole(0),
    "flip": FLAG,
    "seed": whole(0),
    "condition": at_least(1),  # only of the data set factorization
    "area": Rule(  # area and center: only of images in files
        lambda v: isinstance(v, list) and len(v) == 2 and all(map(is_number, v)) and 0 < v[0] <= v[1] <= 1,
        "two shares, the smaller first, above 0 and up to 1",
    ),
    "center": number("a share above 0 and up to 1", lambda share: 0 < share <= 1),
}
NEEDED = ("channels", "classes", "size", "mean", "std")  # required keys


def check_channels(data: Mapping[str, Any]) -> None:
    """Raise a SettingError unless mean and std have a number for each channel."""
    for key in ("mean", "std"):
        if len(data[key]) != data["channels"]:
            raise SettingError(
                f"data.{key} must have a number for each of {data['channels']} channels (data.channels), "
                f"got {said(data[key])}."
            )

"""Loads the published numbers, which are package data in samgap/reference/published/."""

from importlib import resources

import pandas as pd

from samgap.errors import SettingError, said

FOLDER = resources.files("samgap") / "reference" / "published"
IMAGES = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000, "imagenet": 1_281_167}  # of training
ON = {"fig7": "mnist", "fig8": "cifar10", "fig9": "imagenet"}  # data sets; names of other tables end with theirs


def names() -> list[str]:
    """Return the names of all tables."""
    return sorted(path.name.removesuffix(".csv") for path in FOLDER.iterdir() if path.name.endswith(".csv"))


def data(name: str) -> str:
    """Return the data set of a table of gaps by name, such as "mnist"."""
    return ON.get(name) or name.rpartition("_")[2]


def load(name: str) -> pd.DataFrame:
    """Return a published table. fig8 has width, params, sgd_acc, sgd_std, sam_acc, sam_std, gap, gap_band, best_rho.

    Accuracies are in percent, gaps in percentage points. Bands are those that the paper draws; it gives no formula.
    A column with the name of an axis, such as data.label_noise or pruner.sparsity, has the value of each row. In a
    table with a sparsity, params are the live parameters.

    Raises:
        SettingError: no table has this name.
    """
    if name not in names():
        raise SettingError(f"draw.published must be null or one of {', '.join(names())}, got {said(name)}.")
    with (FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)

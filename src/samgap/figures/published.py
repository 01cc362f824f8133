"""Loads the numbers that the paper published, package data in samgap/reference/published/."""

from importlib import resources

import pandas as pd

from samgap.errors import SettingError, said


def load(name: str) -> pd.DataFrame:
    """Return a published table. fig8 has width, params, sgd_acc, sgd_std, sam_acc, sam_std, gap, gap_band, best_rho.

    Accuracies are in percent, gaps in percentage points. Bands are those that the paper draws; it gives no formula.
    A column with the name of an axis, such as data.label_noise or pruner.sparsity, holds the axis's value for each row.
    In a table with a sparsity, params are the live parameters.

    Raises:
        SettingError: no table has this name.
    """
    folder = resources.files("samgap") / "reference" / "published"
    names = sorted(path.name.removesuffix(".csv") for path in folder.iterdir() if path.name.endswith(".csv"))
    if name not in names:
        raise SettingError(f"draw.published must be null or one of {', '.join(names)}, got {said(name)}.")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)

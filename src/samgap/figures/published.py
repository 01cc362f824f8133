"""The paper's numbers, carried as package data in samgap/reference/published/."""

from importlib import resources

import pandas as pd

from samgap.errors import SettingError, said


def load(name: str) -> pd.DataFrame:
    """A published table, such as fig8: width, params, sgd_acc, sgd_std, sam_acc, sam_std, gap, gap_band, best_rho.

    Accuracies are in percent, gaps in percentage points; bands as drawn in the paper (their formula is not given).
    A column that is named like an axis, such as data.label_noise or pruner.sparsity, says what its rows are for; where
    there is a sparsity, params are the live ones.

    Raises:
        SettingError: no table has this name.
    """
    folder = resources.files("samgap") / "reference" / "published"
    names = sorted(path.name.removesuffix(".csv") for path in folder.iterdir() if path.name.endswith(".csv"))
    if name not in names:
        raise SettingError(f"draw.published must be null or one of {', '.join(names)}, got {said(name)}.")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)

"""Split the noise of a gap into that of seeds and that of test images, by the images that each run got right."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from samgap.errors import SettingError
from samgap.figures.gap.cells import arms
from samgap.figures.table import Table
from samgap.runs import hits, sweeps
from samgap.runs.sweeps import REPLICATE, RHO, SEED


def noise(table: Table, root: Path) -> pd.DataFrame:
    """A row for each cell and rho with the gap on the test images, in percentage points.

    seeds and images are numbers; gap is the mean. sd is the standard deviation over seeds on these images. It consists
    of sd_seeds, which would remain with infinitely many images, and sd_images, which halves with 4 times the images. se
    is the standard error for other seeds on these images, se_both that for other seeds and other images.

    Args:
        table: runs; a seed that lacks one of its runs, or a run's hits, is left out.
        root: the results folder that has them.

    Raises:
        SettingError: no cell has two seeds with hits.
    """
    cell_axes = [axis for axis in table.cell_axes if axis != REPLICATE]
    rows = []
    for cell, sam, sgd in arms(table.runs, cell_axes):
        right = {place: _hits(runs, root) for place, runs in pd.concat([sam, sgd]).groupby([RHO, SEED])}
        for rho in sorted(sam[RHO].unique()):
            pairs = [(right[rho, seed], right.get((0, seed))) for seed in sorted(sam[SEED][sam[RHO] == rho].unique())]
            gaps = [100 * (one - other) for one, other in pairs if one is not None and other is not None]
            if len(gaps) > 1:
                rows.append(cell | {RHO: rho} | split(np.stack(gaps)))
    if not rows:
        raise SettingError(
            f"The noise of seeds and images cannot be separated without the {hits.HITS} of two seeds' runs, and "
            "restored and older runs have none: carry out the sweep in another root."
        )
    return pd.DataFrame(rows)


def split(gaps: np.ndarray) -> dict[str, float]:
    """The noise of gaps (seeds, images), by a two-way analysis of variance with both as random effects.

    Variances are unbiased; a negative one becomes 0.
    """
    seeds, images = gaps.shape
    of_seed, of_image = gaps.mean(axis=1), gaps.mean(axis=0)
    left = gaps - of_seed[:, None] - of_image + gaps.mean()
    each = float((left**2).sum()) / ((seeds - 1) * (images - 1))  # of one seed on one image
    by_seed, by_image = float(of_seed.var(ddof=1)), float(of_image.var(ddof=1))
    shared = max(by_image - each / seeds, 0)  # of an image, in all seeds
    return {
        "seeds": seeds, "images": images, "gap": float(gaps.mean()), "sd": math.sqrt(by_seed),
        "sd_seeds": math.sqrt(max(by_seed - each / images, 0)), "sd_images": math.sqrt(each / images),
        "se": math.sqrt(by_seed / seeds), "se_both": math.sqrt(by_seed / seeds + shared / images),
    }  # fmt: skip


def _hits(runs: pd.DataFrame, root: Path) -> np.ndarray | None:
    """The share of runs (images,) that got each image right; None if one is not done or has no hits."""
    found = [hits.read(sweeps.runs(root) / folder) for folder in runs["folder"]]
    kept = [one for one in found if one is not None]
    return np.mean(kept, axis=0) if len(kept) == len(found) else None

"""Split the noise of a gap into noise of seeds and noise of test images, from each run's correct images."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from samgap.errors import SettingError
from samgap.figures.gap.cells import arms
from samgap.figures.table import Table
from samgap.runs import hits, sweeps
from samgap.runs.sweeps import REPLICATE, RHO, SEED


def noise(table: Table, root: Path, epoch: int | None = None) -> pd.DataFrame:
    """Return a row for each cell and rho with the gap on the test images, in percentage points.

    seeds and images are counts; gap is the mean. sd is the standard deviation over seeds on these images. It consists
    of sd_seeds, which would remain with infinitely many images, and sd_images, which halves with 4 times the images. se
    is the standard error for other seeds on these images, se_both that for other seeds and other images.

    Args:
        table: the runs; a seed that lacks one of its runs, or a run's hits, is left out.
        root: the results folder with the runs.
        epoch: the evaluation that counts; by default the last.

    Raises:
        SettingError: no cell has two seeds with hits of this evaluation.
    """
    cell_axes = [axis for axis in table.cell_axes if axis != REPLICATE]
    rows = []
    for cell, sam, sgd in arms(table.runs, cell_axes):
        hits_of = {key: _hits(runs, root, epoch) for key, runs in pd.concat([sam, sgd]).groupby([RHO, SEED])}
        for rho in sorted(sam[RHO].unique()):
            seeds = sorted(sam[SEED][sam[RHO] == rho].unique())
            pairs = [(hits_of[rho, seed], hits_of.get((0, seed))) for seed in seeds]
            gaps = [100 * (sam_ - sgd_) for sam_, sgd_ in pairs if sam_ is not None and sgd_ is not None]
            if len(gaps) > 1:
                rows.append(cell | {RHO: rho} | split(np.stack(gaps)))
    if not rows:
        raise SettingError(
            f"The noise of seeds and images cannot be separated without the {hits.HITS} of two seeds' runs"
            f"{'' if epoch is None else f', scored after epoch {epoch}'}. Restored and older runs have none: carry out "
            "the sweep in another root."
        )
    return pd.DataFrame(rows)


def split(gaps: np.ndarray) -> dict[str, float]:
    """Return the noise of gaps (seeds, images), by a two-way analysis of variance with both as random effects.

    Estimates of variances are unbiased, but negative ones become 0.
    """
    seeds, images = gaps.shape
    of_seed, of_image = gaps.mean(axis=1), gaps.mean(axis=0)
    residuals = gaps - of_seed[:, None] - of_image + gaps.mean()
    residual = float((residuals**2).sum()) / ((seeds - 1) * (images - 1))  # residual variance
    by_seed, by_image = float(of_seed.var(ddof=1)), float(of_image.var(ddof=1))
    of_images = max(by_image - residual / seeds, 0)  # variance of images
    return {
        "seeds": seeds, "images": images, "gap": float(gaps.mean()), "sd": math.sqrt(by_seed),
        "sd_seeds": math.sqrt(max(by_seed - residual / images, 0)), "sd_images": math.sqrt(residual / images),
        "se": math.sqrt(by_seed / seeds), "se_both": math.sqrt(by_seed / seeds + of_images / images),
    }  # fmt: skip


def _hits(runs: pd.DataFrame, root: Path, epoch: int | None) -> np.ndarray | None:
    """Return the share of runs (images,) that got each image right; None if a run is not done or has no hits."""
    all_hits = [hits.read(sweeps.runs(root) / folder, epoch=epoch) for folder in runs["folder"]]
    known = [run_hits for run_hits in all_hits if run_hits is not None]
    return np.mean(known, axis=0) if len(known) == len(all_hits) else None

"""Compares our numbers with the published ones, point by point, if data and settings are the same.

The published accuracy of SAM is the maximum over rhos of means of three seeds. Such a maximum is larger if there are
fewer seeds. So it is compared with the same statistic of all subsets of three of our seeds. A published number agrees
if it is in the 95 % prediction interval of our runs for another study of three seeds:

    center ± t s sqrt(1/3 + 1/n),   t of n - 1 degrees of freedom

s is the standard deviation over our n seeds, for SAM at our own best rho. How many numbers of a figure miss their
interval by chance is simulated, since the numbers of one size share their runs and so are correlated.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from samgap.figures.gap.gaps import Gaps
from samgap.figures.output import Answer, Judgment
from samgap.figures.significance import LEVEL
from samgap.figures.table import Table, axis_label, cell_label, format_value
from samgap.runs.sweeps import REPLICATE, RHO, SEED

PUBLISHED_SEEDS = 3
QUANTITIES = ("SGD", "SAM", "gap")
KEYS = {"quantity", "published", "band", "center", "low", "high", "difference", "agrees", "ours_in_sd", "ours_in_se",
        "share"}  # fmt: skip
STUDIES = 4_000
PARTS = 20  # in which the studies are simulated, to bound memory


@dataclass(frozen=True)
class Replication(Judgment):
    """The answer for all published numbers of a figure: replicated, differs, or too few.

    A row of `points` has the cell's axes, the quantity, and in percent: published and its band; center, low and high of
    our prediction for a study of three seeds; difference, published minus center; agrees; ours_in_sd and ours_in_se,
    whether our center is in the prediction interval of the paper if its band is a standard deviation or a standard
    error. A row of the best rho has published, center (ours), and the share of our subsets that choose the published.
    """

    seeds: int  # smallest number of seeds of a cell
    numbers: int
    agree: int
    p: float  # of this number of disagreements or more, if both studies have the same distribution
    p_without_effect: float  # the same, if the published accuracies of SAM were those of SGD
    gap_difference: float  # published minus ours, mean over cells
    gap_low: float  # 95 %
    gap_high: float
    points: list[dict[str, Any]]

    def detail(self) -> list[dict[str, str]]:
        """Return a row for each number."""
        return [_shown(point) for point in self.points]


def _shown(point: dict[str, Any]) -> dict[str, str]:
    axes = {axis_label(axis): format_value(value) for axis, value in point.items() if axis not in KEYS}
    form = "g" if "agrees" not in point else "+.3f" if point["quantity"] == "gap" else ".3f"
    names = {"published": "published", "ours": "center", "from": "low", "to": "high"}
    numbers = {name: format_value(point.get(key), form) for name, key in names.items()}
    if "agrees" not in point:
        share = f"chosen by {100 * point['share']:.0f} % of threes"
        return axes | {"": point["quantity"]} | numbers | {"agrees": "", "ours in theirs": share}
    inside = " and ".join(name for name, key in (("s.d.", "ours_in_sd"), ("s.e.", "ours_in_se")) if point[key])
    inside = "" if math.isnan(point["band"]) else inside or "no"
    agrees = "yes" if point["agrees"] else "no"
    return axes | {"": point["quantity"]} | numbers | {"agrees": agrees, "ours in theirs": inside}


def replication(table: Table, gaps: Gaps, beside: pd.DataFrame) -> list[Replication]:
    """Return one verdict for the figure; none if no cell of ours has published numbers.

    Args:
        table: the runs.
        gaps: gaps of the runs.
        beside: our cells with the published columns, see `beside.side_by_side`.
    """
    points: list[dict[str, Any]] = []
    missed_without_effect = 0
    cells, errors = [], []
    for cell, axes, sgd, sam in _cells(table, gaps, beside):
        cells.append(len(sgd))
        centers, errors_of_cell = predicted(sgd.to_numpy(), sam.to_numpy())
        half_widths = special.stdtrit(len(sgd) - 1, 1 - LEVEL / 2) * errors_of_cell
        points += [axes | point for point in _compared(cell, centers, half_widths)]
        no_gap = float(cell["published_sgd_acc"]) * np.array([1, 1, 0])
        missed_without_effect += int((np.abs(no_gap - centers) > half_widths).sum())
        errors.append(errors_of_cell[-1])
        if pd.notna(cell.get("published_best_rho")):
            points.append(axes | {"quantity": "best rho"} | _best_rho(sam, float(cell["published_best_rho"])))
    if not cells:
        return []
    numbers = [point for point in points if "agrees" in point]
    agree = sum(point["agrees"] for point in numbers)
    by_chance = missed_by_chance(tuple(cells))
    p, p_without = (
        float((1 + (by_chance >= count).sum()) / (1 + len(by_chance)))
        for count in (len(numbers) - agree, missed_without_effect)
    )
    mean = float(np.mean([point["difference"] for point in numbers if point["quantity"] == "gap"]))
    half_width = float(
        special.stdtrit(sum(cells) - len(cells), 1 - LEVEL / 2) * math.sqrt(sum(se**2 for se in errors)) / len(errors)
    )
    ends = mean - half_width, mean + half_width
    answer, reason = _answered(numbers, gaps.axes, p, p_without)
    reason += f"; published gaps are {mean:+.3f} points above ours [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    series = "the published numbers"
    return [Replication(series, answer, reason, min(cells), len(numbers), agree, p, p_without, mean, *ends, points)]


def _compared(cell: pd.Series, centers: np.ndarray, half_widths: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the published number of each quantity of a cell, and whether ours agrees."""
    values = [float(cell[f"published_{key}"]) for key in ("sgd_acc", "sam_acc", "gap")]
    bands = [float(cell.get(f"published_{key}", math.nan)) for key in ("sgd_std", "sam_std", "gap_band")]
    for quantity, value, band, center, half_width in zip(QUANTITIES, values, bands, centers, half_widths, strict=True):
        their_half_width = special.stdtrit(PUBLISHED_SEEDS - 1, 1 - LEVEL / 2) * band * math.sqrt(2 / PUBLISHED_SEEDS)
        yield {
            "quantity": quantity, "published": value, "band": band, "center": center,
            "low": center - half_width, "high": center + half_width, "difference": value - center,
            "agrees": bool(abs(value - center) <= half_width),
            "ours_in_sd": bool(abs(value - center) <= their_half_width),
            "ours_in_se": bool(abs(value - center) <= their_half_width * math.sqrt(PUBLISHED_SEEDS)),
        }  # fmt: skip


def _answered(numbers: list[dict[str, Any]], axes: list[str], p: float, p_without: float) -> tuple[Answer, str]:
    missed = [point for point in numbers if not point["agrees"]]
    count = (
        f"{len(numbers) - len(missed)} of {len(numbers)} published accuracies and gaps lie where our runs expect a "
        "study of three seeds"
    )
    if p < LEVEL:
        named = ", ".join(
            f"{point['quantity']} at {cell_label({axis: point[axis] for axis in axes})} by {point['difference']:+.2f}"
            for point in missed
        )
        return "differs", f"{count} (p = {p:.2g}); the others are {named}"
    if p_without >= LEVEL:
        return "too few", f"{count}, but so would numbers without any gain by SAM (p = {p_without:.2g})"
    return "replicated", f"{count} (p = {p:.2g})"


def _cells(
    table: Table, gaps: Gaps, beside: pd.DataFrame
) -> Iterator[tuple[pd.Series, dict[str, Any], pd.Series, pd.DataFrame]]:
    """Yield (row, axes, SGD by seed, SAM by seed and rho), in percent, for each published cell that can be compared.

    A dense net that two series share counts once.
    """
    seen: list[pd.DataFrame] = []
    usable = (table.runs["status"] == "done") & (table.runs[REPLICATE] == 0)  # the published study has no replicates
    done = table.runs[usable].assign(acc=100 * table.runs["test_acc_final"])
    for _, cell in beside.iterrows():
        if pd.isna(cell.get("n")) or pd.isna(cell.get("published_gap")):
            continue
        axes = {axis: cell[axis] for axis in gaps.axes}
        runs = done[(done[[*axes]] == pd.Series(axes, dtype=object)).all(axis=1)]
        by_rho = runs.pivot_table(index=SEED, columns=RHO, values="acc")
        whole = by_rho.dropna(axis=1, thresh=len(by_rho) // 2 + 1).dropna()  # drops rhos at which most runs diverged
        is_repeated = any(whole.equals(other) for other in seen)
        if 0 in whole and len(whole.columns) > 1 and len(whole) >= PUBLISHED_SEEDS and not is_repeated:
            seen.append(whole)
            yield cell, axes, whole[0], whole.drop(columns=0)


def _subsets(seeds: int) -> np.ndarray:
    """Return the indices (subsets, 3) of the seeds of each subset."""
    return np.array([*itertools.combinations(range(seeds), PUBLISHED_SEEDS)])


def predicted(sgd: np.ndarray, sam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centers and standard errors (..., 3) of SGD, SAM and gap in another study of three seeds.

    Args:
        sgd: accuracies (..., seeds).
        sam: accuracies (..., seeds, rhos).
    """
    subsets = _subsets(sgd.shape[-1])
    sgd_means = sgd[..., subsets].mean(axis=-1)
    sam_best = sam[..., subsets, :].mean(axis=-2).max(axis=-1)
    centers = np.stack([part.mean(axis=-1) for part in (sgd_means, sam_best, sam_best - sgd_means)], axis=-1)
    chosen = sam.mean(axis=-2).argmax(axis=-1)[..., None, None]
    at_best = np.take_along_axis(sam, chosen, axis=-1)[..., 0]
    spreads = [part.std(axis=-1, ddof=1) for part in (sgd, at_best, at_best - sgd)]
    errors = np.stack(spreads, axis=-1) * math.sqrt(1 / PUBLISHED_SEEDS + 1 / sgd.shape[-1])
    return centers, errors


@functools.lru_cache(maxsize=16)
def missed_by_chance(cells: tuple[int, ...]) -> np.ndarray:
    """Simulate how many numbers of a figure miss their interval (studies,), if all runs have the same noise.

    The simulation has one rho. With several, the intervals of SAM and of the gap are conservative, and fewer miss.

    Args:
        cells: number of seeds of each cell.
    """
    random = np.random.default_rng(0)
    missed = []
    for _ in range(PARTS):
        count = np.zeros(STUDIES // PARTS, dtype=int)
        for seeds in cells:
            ours = random.standard_normal((STUDIES // PARTS, seeds, 2))
            centers, errors = predicted(ours[..., 0], ours[..., 1:])
            sgd, sam = random.standard_normal((2, STUDIES // PARTS, PUBLISHED_SEEDS)).mean(axis=-1)
            values = np.stack([sgd, sam, sam - sgd], axis=-1)
            count += (np.abs(values - centers) > special.stdtrit(seeds - 1, 1 - LEVEL / 2) * errors).sum(axis=-1)
        missed.append(count)
    return np.concatenate(missed)


def _best_rho(sam: pd.DataFrame, published: float) -> dict[str, Any]:
    means = sam.to_numpy()[_subsets(len(sam))].mean(axis=1)
    chosen = sam.columns.to_numpy()[means.argmax(axis=-1)]
    return {
        "published": published,
        "center": float(sam.columns.to_numpy()[sam.mean().argmax()]),
        "share": float((chosen == published).mean()),
    }

"""Which of two choices fits the published accuracies, if the paper leaves it open or its text and code disagree?

Each choice predicts the published numbers: the accuracy of SGD, and of SAM at one rho, at each size, as means of three
seeds. Its distance from them is

    T = sum over numbers of ((a - m) / (s sqrt(1/3 + 1/n)))^2

with a published number a, our mean m over n seeds, and the standard deviation s pooled over both choices. If the choice
is the paper's, each term is the square of Student's t with 2 (n - 1) degrees of freedom. The distribution of T is
simulated. A choice does not fit if p < .05.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from samgap.errors import SettingError
from samgap.figures import published as tables
from samgap.figures.gap.replication import PUBLISHED_SEEDS
from samgap.figures.gap.series import Question
from samgap.figures.output import Answer, Judgment
from samgap.figures.significance import LEVEL
from samgap.style import compact

STUDIES = 10_000
AGAINST = " against "
SAM_BY_RHO = "fig7_rho"  # published SAM at every rho
ARMS = {"SGD": "sgd", "SAM": "fixed"}  # and their columns among our cells
Number = tuple[int, str, float]  # a published accuracy: parameters, arm, percent


@dataclass(frozen=True)
class Nearer(Judgment):
    """Which of two choices fits, in the order in which they were typed; "reproduced" means the first alone."""

    numbers: int
    far_first: float  # the distance T, see above
    far_second: float
    p_first: float  # of such a T or a larger one, if the first is the paper's
    p_second: float
    points: list[dict[str, Any]]  # a row a number; half_width is of the 95 % prediction intervals around both means

    def detail(self) -> list[dict[str, str]]:
        """A row a number: the published, and where the runs of either choice expect it."""
        rows = []
        for point in self.points:
            row = {"params": compact(point["params"]), "": point["arm"], "published": f"{point['published']:.3f}"}
            for name, mean in zip(self.series.split(AGAINST), point["means"], strict=True):
                ends = mean - point["half_width"], mean + point["half_width"]
                row[name] = f"{mean:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
            rows.append(row)
        return rows


def verdicts(question: Question) -> list[Nearer]:
    """One answer, for a sweep over two values of one key, which draw.series names, beside the published fig7.

    Raises:
        SettingError: there are not two values, or there is no SAM at draw.fixed_rho.
    """
    found, published, cells = question.found, question.published, question.found.cells
    axis = question.over[0] if question.over else "a key (draw.series)"
    named = [*dict.fromkeys(found.by_seed[axis])] if axis in cells else []  # in the order in which they were typed
    if "fixed_acc" not in cells:
        raise SettingError(
            f"This figure compares accuracies at draw.fixed_rho={found.fixed_rho:g}, which was not swept: add it to "
            "ascent.rho, or set draw.fixed_rho."
        )
    if len(named) != 2 or published is None:
        raise SettingError(
            f"This figure compares two values of {axis} with a table of draw.published: sweep two, got {len(named)}."
        )
    theirs = same_sizes(published, cells, found.fixed_rho)
    first, second, numbers = [], [], []
    for row in theirs.sort_values("params").to_dict("records"):
        pair = cells[cells["params_total"] == row["params"]]
        for arm, key in ARMS.items():
            if len(pair) == 2 and pd.notna(row[f"{arm.lower()}_acc"]):
                numbers.append((row["params"], arm, row[f"{arm.lower()}_acc"]))
                mine = pair.set_index(axis)[[f"{key}_acc", f"{key}_std", "n"]]
                first.append(mine.loc[named[0]].to_numpy())
                second.append(mine.loc[named[1]].to_numpy())
    return [judge((str(named[0]), str(named[1])), np.array(first), np.array(second), numbers)]


def same_sizes(published: pd.DataFrame, cells: pd.DataFrame, rho: float) -> pd.DataFrame:
    """Return the published accuracies of SGD and of SAM at one rho, for the sizes that we have.

    Args:
        published: fig7.
        cells: ours; params_total is their size.
        rho: of SAM.

    Returns:
        Columns params, sgd_acc and sam_acc in percent; sam_acc is missing where that rho was not published.
    """
    by_rho = tables.load(SAM_BY_RHO)
    sam = by_rho[np.isclose(by_rho["rho"], rho)][["params", "sam_acc"]]
    sizes = published[published["params"].isin(cells["params_total"])]
    return sizes[["params", "sgd_acc"]].merge(sam, on="params", how="left")


def judge(named: tuple[str, str], first: np.ndarray, second: np.ndarray, numbers: list[Number]) -> Nearer:
    """The answer.

    Args:
        named: the two choices.
        first, second: (numbers, 3), each number's mean, standard deviation and seeds with either choice.
        numbers: published.
    """
    series, theirs = AGAINST.join(named), np.array([value for _, _, value in numbers])
    if not numbers or not (first[:, 2].min() >= 2 and (first[:, 1] + second[:, 1]).all()):
        reason = "a comparison needs published numbers, and two seeds that differ at each"
        return Nearer(series, "inconclusive", reason, len(theirs), math.nan, math.nan, math.nan, math.nan, [])
    n = first[:, 2]
    spread = np.sqrt((first[:, 1] ** 2 + second[:, 1] ** 2) / 2 * (1 / PUBLISHED_SEEDS + 1 / n))
    far = [float((((theirs - ours[:, 0]) / spread) ** 2).sum()) for ours in (first, second)]
    chance = (np.random.default_rng(0).standard_t(2 * (n - 1), (STUDIES, len(n))) ** 2).sum(axis=1)
    p_first, p_second = (float((1 + (chance >= each).sum()) / (1 + STUDIES)) for each in far)
    fits = [p >= LEVEL for p in (p_first, p_second)]
    parts = [
        f"{name} {'fits' if fit else 'does not fit'} the {len(theirs)} published accuracies (p = {p:.2g})"
        for name, fit, p in zip(named, fits, (p_first, p_second), strict=True)
    ]
    reason = ", ".join(parts)
    answer: Answer = "inconclusive"
    if fits[0] != fits[1]:
        answer = "reproduced" if fits[0] else "not reproduced"
    half_widths = special.stdtrit(2 * (n - 1), 1 - LEVEL / 2) * spread
    points = [
        {"params": params, "arm": arm, "published": value, "means": [*means], "half_width": half_width}
        for (params, arm, value), *means, half_width in zip(
            numbers, first[:, 0], second[:, 0], half_widths, strict=True
        )
    ]
    return Nearer(series, answer, reason, len(theirs), far[0], far[1], p_first, p_second, points)

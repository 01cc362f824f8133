"""Which of two choices fits the published accuracies, if the paper leaves it open or its text and code disagree?

Each choice predicts the published numbers: at each size, the accuracy of SGD and that of SAM at one rho, each a mean of
three seeds. The distance of a choice from the published numbers is

    T = sum over numbers of ((a - m) / (s sqrt(1/3 + 1/n)))^2

with a published number a, our mean m over n seeds, and the standard deviation s pooled over both choices. If the paper
made this choice, each term is the square of a Student's t. Its degrees of freedom are the seeds of both choices minus
2. The distribution of T is simulated. A choice does not fit if p < .05.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

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
SAM_BY_RHO = "fig7_rho"  # table with the published accuracy of SAM at every rho
POINT = ("params", "arm", "published", "means", "half_widths")
ARMS = {"SGD": "sgd", "SAM": "fixed"}  # arm -> prefix of its columns in our cells


class Number(NamedTuple):
    """A published accuracy."""

    params: int
    arm: str
    value: float  # percent


@dataclass(frozen=True)
class ChoiceFit(Judgment):
    """Which of two choices fits, in the order in which they were typed; "reproduced": only the first fits."""

    numbers: int
    far_first: float  # distance T of the first choice, see above
    far_second: float
    p_first: float  # of this T or a larger one, if the paper made the first choice
    p_second: float
    power: float  # share of studies like this one in which the numbers of one choice reject the other
    points: list[dict[str, Any]]  # one per number; half_widths: of the 95 % prediction intervals around the means

    def detail(self) -> list[dict[str, str]]:
        """Return a row for each number: the published value, and the prediction interval of either choice."""
        rows = []
        for point in self.points:
            row = {"params": compact(point["params"]), "": point["arm"], "published": f"{point['published']:.3f}"}
            for name, mean, half in zip(self.series.split(AGAINST), point["means"], point["half_widths"], strict=True):
                row[name] = f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"
            rows.append(row)
        return rows


def verdicts(question: Question) -> list[ChoiceFit]:
    """Return one verdict for a sweep over two values of the key that draw.series names, compared with fig7.

    Raises:
        SettingError: there are not two values, or there is no SAM at draw.fixed_rho.
    """
    gaps, published, cells = question.gaps, question.published, question.gaps.cells
    axis = question.over[0] if question.over else "a key (draw.series)"
    choices = [*dict.fromkeys(gaps.by_seed[axis])] if axis in cells else []  # in the order in which they were typed
    if "fixed_acc" not in cells:
        raise SettingError(
            f"This figure compares accuracies at draw.fixed_rho={gaps.fixed_rho:g}, which was not swept: add it to "
            "ascent.rho, or set draw.fixed_rho."
        )
    if len(choices) != 2 or published is None:
        raise SettingError(
            f"This figure compares two values of {axis} with a table of draw.published: sweep two, got {len(choices)}."
        )
    published_rows = same_sizes(published, cells, gaps.fixed_rho)
    first, second, numbers = [], [], []
    for row in published_rows.sort_values("params").to_dict("records"):
        both = cells[cells["params_total"] == row["params"]]
        for arm, key in ARMS.items():
            if len(both) == 2 and pd.notna(row[f"{arm.lower()}_acc"]):
                numbers.append(Number(row["params"], arm, row[f"{arm.lower()}_acc"]))
                statistics = both.set_index(axis)[[f"{key}_acc", f"{key}_std", "n"]]
                first.append(statistics.loc[choices[0]].to_numpy())
                second.append(statistics.loc[choices[1]].to_numpy())
    return [judge((str(choices[0]), str(choices[1])), np.array(first), np.array(second), numbers)]


def same_sizes(published: pd.DataFrame, cells: pd.DataFrame, rho: float) -> pd.DataFrame:
    """Return the published accuracies of SGD and of SAM at one rho, for our sizes.

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


def judge(names: tuple[str, str], first: np.ndarray, second: np.ndarray, numbers: list[Number]) -> ChoiceFit:
    """Return the verdict on two choices.

    Args:
        names: names of the two choices.
        first, second: (numbers, 3); mean, standard deviation and number of seeds for each number by either choice.
        numbers: the published numbers.
    """
    series, published = AGAINST.join(names), np.array([number.value for number in numbers])
    ours = np.array([first, second]).reshape(2, len(numbers), 3)
    means, spreads, n = np.moveaxis(ours, -1, 0)
    if not (numbers and np.isfinite(means).all() and n.min() >= 2 and spreads.any(axis=0).all()):
        reason = "a comparison needs published numbers, and at each two seeds by either choice that differ"
        nan = math.nan
        return ChoiceFit(series, "inconclusive", reason, len(published), nan, nan, nan, nan, nan, [])
    degrees = (n - 1).sum(axis=0)
    pooled = np.sqrt(((n - 1) * spreads**2).sum(axis=0) / degrees)
    spread = pooled * np.sqrt(1 / PUBLISHED_SEEDS + 1 / n)  # (choices, numbers), of published minus ours
    distances = (((published - means) / spread) ** 2).sum(axis=1).tolist()
    draws = np.random.default_rng(0).standard_t(degrees, (STUDIES, len(numbers)))
    simulated, apart = (draws**2).sum(axis=1), (means[1] - means[0]) / spread
    wrong = np.array([((draws + shift) ** 2).sum(axis=1) for shift in (apart[0], -apart[1])])
    power = float((wrong > np.quantile(simulated, 1 - LEVEL)).mean())
    p_first, p_second = (float((1 + (simulated >= distance).sum()) / (1 + STUDIES)) for distance in distances)
    fits = [p >= LEVEL for p in (p_first, p_second)]
    parts = [
        f"{name} {'fits' if fit else 'does not fit'} the {len(published)} published accuracies (p = {p:.2g})"
        for name, fit, p in zip(names, fits, (p_first, p_second), strict=True)
    ]
    reason = f"{', '.join(parts)}; such studies reject the wrong one in {100 * power:.0f} %"
    answer: Answer = "inconclusive"
    if fits[0] != fits[1]:
        answer = "reproduced" if fits[0] else "not reproduced"
    half_widths = special.stdtrit(degrees, 1 - LEVEL / 2) * spread
    points = [
        dict(zip(POINT, (*number, [*mean], [*half]), strict=True))
        for number, mean, half in zip(numbers, means.T, half_widths.T, strict=True)
    ]
    far_first, far_second = distances
    return ChoiceFit(series, answer, reason, len(published), far_first, far_second, p_first, p_second, power, points)

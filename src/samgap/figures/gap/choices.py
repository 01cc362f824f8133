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

import numpy as np

from samgap.errors import SettingError
from samgap.figures import published as tables
from samgap.figures.gap.replication import PUBLISHED_SEEDS
from samgap.figures.gap.series import Question
from samgap.figures.output import Answer, Judgment
from samgap.figures.significance import LEVEL

STUDIES = 10_000
SAM_BY_RHO = "fig7_rho"  # published SAM at every rho


@dataclass(frozen=True)
class Nearer(Judgment):
    """Which of two choices fits, in the order in which they were typed; "reproduced" means the first alone."""

    numbers: int
    far_first: float  # the distance T, see above
    far_second: float
    p_first: float  # of such a T or a larger one, if the first is the paper's
    p_second: float


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
    by_rho = tables.load(SAM_BY_RHO)
    by_rho = by_rho[np.isclose(by_rho["rho"], found.fixed_rho)]
    first, second, theirs = [], [], []
    for params, pair in cells.groupby("params_total"):
        row = published[published["params"] == params]
        if len(pair) != 2 or row.empty:
            continue
        values = {"sgd": row["sgd_acc"], "fixed": by_rho.loc[by_rho["params"] == row["params"].iloc[0], "sam_acc"]}
        for arm, value in values.items():
            if len(value):
                theirs.append(float(value.iloc[0]))
                mine = pair.set_index(axis)[[f"{arm}_acc", f"{arm}_std", "n"]]
                first.append(mine.loc[named[0]].to_numpy())
                second.append(mine.loc[named[1]].to_numpy())
    return [judge((str(named[0]), str(named[1])), np.array(first), np.array(second), np.array(theirs))]


def judge(named: tuple[str, str], first: np.ndarray, second: np.ndarray, theirs: np.ndarray) -> Nearer:
    """The answer.

    Args:
        named: the two choices.
        first, second: (numbers, 3), each number's mean, standard deviation and seeds with either choice.
        theirs: (numbers,), published.
    """
    series = f"{named[0]} against {named[1]}"
    if not len(theirs) or not (first[:, 2].min() >= 2 and (first[:, 1] + second[:, 1]).all()):
        reason = "a comparison needs published numbers, and two seeds that differ at each"
        return Nearer(series, "inconclusive", reason, len(theirs), *[math.nan] * 4)
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
    return Nearer(series, answer, reason, len(theirs), far[0], far[1], p_first, p_second)

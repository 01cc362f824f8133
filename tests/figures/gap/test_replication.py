"""Published numbers are compared with ours, point by point."""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.figures import published as tables
from samgap.figures.gap.beside import side_by_side
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.replication import Replication, missed_by_chance, predicted, replication
from samgap.figures.gap.series import Question
from tests.figures.tables import PARAMS, table

RHOS, WIDTHS = (0, 0.1, 0.2, 0.3), (1, 2, 3)
Study = dict[tuple[float, float, int], float]  # (width, rho, seed) -> percent


def study(random: np.random.Generator, seeds: int, lift: Callable[[float, float], float], noise: float = 0.05) -> Study:
    """Return runs with a true accuracy of 98 % plus `lift(width, rho)`."""
    points = itertools.product(WIDTHS, RHOS, range(seeds))
    return {(w, rho, seed): 98 + lift(w, rho) + noise * random.standard_normal() for w, rho, seed in points}


def published(runs: Study) -> pd.DataFrame:
    """Return the table that a paper with three seeds publishes: means, standard deviations, SAM at the best rho."""
    rows = []
    for width in WIDTHS:
        sgd, *sam = [np.array([runs[width, rho, seed] for seed in range(3)]) for rho in RHOS]
        best = max(range(len(sam)), key=lambda place: sam[place].mean())
        rows.append(
            {"model.width": width, "n": 1, "published_sgd_acc": sgd.mean(), "published_sgd_std": sgd.std(ddof=1)}
            | {"published_sam_acc": sam[best].mean(), "published_sam_std": sam[best].std(ddof=1)}
            | {"published_gap": sam[best].mean() - sgd.mean(), "published_gap_band": 0.03}
            | {"published_best_rho": RHOS[1:][best]}
        )
    return pd.DataFrame(rows)


def judged(ours: Study, theirs: Study) -> Replication:
    seeds = max(seed for _, _, seed in ours) + 1
    made = table(lambda width, rho, seed: ours[width, rho, seed] / 100, WIDTHS, RHOS, range(seeds))
    (answer,) = replication(made, gaps(made), published(theirs))
    return answer


def rises(width: float, rho: float) -> float:
    return (rho == 0.2) * 0.1 * width


def level(width: float, rho: float) -> float:
    return 0.0


@pytest.mark.parametrize(("params", "numbers"), [(61_035, 3), (61_034, 0)])
def test_one_width_alone_is_compared_with_the_net_of_as_many_parameters(
    monkeypatch: pytest.MonkeyPatch, params: int, numbers: int
) -> None:
    monkeypatch.setitem(PARAMS, 1, params)  # type: ignore[arg-type]
    noise = np.random.default_rng(0).standard_normal(20)
    made = table(
        lambda width, rho, seed: 0.98 + rho / 100 + noise[seed + 5 * (rho > 0)] / 1000, (1,), (0, 0.1), range(5)
    )
    made.sweep.axes.remove("model.width")
    found = gaps(made)
    answers = replication(made, found, side_by_side(Question(found, "params_total", None, tables.load("fig7"))))
    assert [answer.numbers for answer in answers] == [numbers] * bool(numbers)


def test_a_row_by_hand() -> None:
    random = np.random.default_rng(0)
    ours, theirs = study(random, 5, rises), study(random, 3, rises)
    answer = judged(ours, theirs)
    sgd, sam, gap, rho = answer.points[:4]
    runs = np.array([[ours[1, rho, seed] for rho in RHOS] for seed in range(5)])
    threes = [list(three) for three in itertools.combinations(range(5), 3)]
    t = stats.t.ppf(0.975, 4)
    assert sgd["center"] == pytest.approx(runs[:, 0].mean())
    assert sgd["high"] - sgd["center"] == pytest.approx(t * runs[:, 0].std(ddof=1) * math.sqrt(1 / 3 + 1 / 5))
    best = np.mean([runs[three, 1:].mean(axis=0).max() for three in threes])
    assert sam["center"] == pytest.approx(best)
    assert gap["center"] == pytest.approx(best - runs[:, 0].mean())
    assert sgd["difference"] == pytest.approx(sgd["published"] - sgd["center"])
    back = stats.t.ppf(0.975, 2) * sgd["band"] * math.sqrt(2 / 3)
    assert sgd["ours_in_sd"] == (abs(sgd["difference"]) <= back)
    assert sgd["ours_in_se"] == (abs(sgd["difference"]) <= back * math.sqrt(3))
    chosen = [RHOS[1:][runs[three, 1:].mean(axis=0).argmax()] for three in threes]
    assert rho["share"] == pytest.approx(chosen.count(rho["published"]) / 10)
    assert (answer.seeds, answer.numbers, len(answer.points), len(answer.detail())) == (5, 9, 12, 12)


def test_a_dense_net_of_two_series_counts_once() -> None:
    random = np.random.default_rng(0)
    ours, theirs = study(random, 4, level), study(random, 3, level)

    def accuracy(width: float, rho: float, seed: int) -> float:
        return ours[width, rho, seed] / 100

    made = table(accuracy, WIDTHS, RHOS, range(4), extra={"pruner.name": ["random", "snip"]})
    beside = pd.concat(
        [published(theirs).assign(**{"pruner.name": name}) for name in ("random", "snip")], ignore_index=True
    )
    (answer,) = replication(made, gaps(made), beside)
    assert (answer.numbers, {point["pruner.name"] for point in answer.points}) == (9, {"random"})


def test_how_many_miss_by_chance() -> None:
    # Each number of a cell misses in 5 % of studies, and the gap is computed from the same runs as the accuracies.
    missed = missed_by_chance((8,))
    assert missed.mean() / 3 == pytest.approx(0.05, abs=0.01)
    assert (missed >= 2).mean() > 3 * 0.05**2
    # With several equal rhos, the maximum varies less than a single accuracy.
    random = np.random.default_rng(1)
    ours, theirs = random.standard_normal((2, 4000, 8, 6))
    centers, errors = predicted(ours[..., 0], ours[..., 1:])
    best = theirs[:, :3, 1:].mean(axis=1).max(axis=-1)
    wide = np.abs(best - centers[:, 1]) > stats.t.ppf(0.975, 7) * errors[:, 1]
    assert wide.mean() < 0.05
    assert (best - centers[:, 1]).mean() == pytest.approx(0, abs=0.03)  # eight seeds' maximum would be .2 lower


@pytest.mark.parametrize("lift", [rises, level])
def test_the_same_study_again_seldom_differs(lift: Callable[[float, float], float]) -> None:
    random = np.random.default_rng(2)
    answers = Counter(judged(study(random, 8, lift), study(random, 3, lift)).answer for _ in range(100))
    assert answers["differs"] <= 11  # 5 % plus the sampling error of 100 studies
    if lift is rises:
        assert answers["replicated"] > 75
    else:
        # If SAM gains nothing, published numbers without a gain agree too.
        assert answers["too few"] > 75


def test_another_study_is_distinguished_from_ours() -> None:
    random = np.random.default_rng(3)
    answer = judged(study(random, 8, rises), study(random, 3, level))
    assert answer.answer == "differs"
    assert "gap at model.width=3 by -0.2" in answer.reason
    assert answer.gap_high < 0
    # All accuracies are lower by 0.1 points, and the gaps are the same.
    answer = judged(study(random, 8, rises), study(random, 3, lambda width, rho: rises(width, rho) - 0.2))
    assert answer.answer == "differs"
    assert answer.gap_low < 0 < answer.gap_high


def test_few_seeds_cannot_tell() -> None:
    random = np.random.default_rng(4)
    answers = Counter(judged(study(random, 3, rises, 0.1), study(random, 3, rises, 0.1)).answer for _ in range(50))
    assert answers["too few"] > 25


def test_a_cell_that_nobody_published_or_that_lacks_seeds_is_left_out() -> None:
    random = np.random.default_rng(5)
    made = table(lambda width, rho, seed: 0.9, WIDTHS, RHOS, range(2))
    assert replication(made, gaps(made), published(study(random, 3, rises))) == []
    runs = study(random, 5, rises)
    made = table(lambda width, rho, seed: runs[width, rho, seed] / 100, WIDTHS, RHOS, range(5))
    theirs = published(study(random, 3, rises))
    theirs.loc[0, "published_gap"] = math.nan
    (answer,) = replication(made, gaps(made), theirs)
    assert answer.numbers == 6

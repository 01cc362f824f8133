import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.figures import published
from samgap.figures.gap.contrast import verdicts
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.series import Question
from samgap.figures.gap.trend import Verdict
from tests.figures.tables import table

SPARSITY = {1: 0.0, 2: 0.5, 3: 0.75, 4: 0.95}
RHOS = (0, 0.05, 0.1)


def last(
    rise: tuple[float, float],
    noise: float,
    seeds: int = 8,
    seed: int = 0,
    reference: Any = None,
    names: tuple[str, str] = ("random", "snip"),
) -> Verdict:
    """Return the contrast of a study of two pruners whose true gaps rise from dense to sparse by these points."""
    random = np.random.default_rng(seed)
    found = table(lambda width, rho, s: 0.9, widths=SPARSITY, rhos=RHOS, seeds=range(seeds), extra={"pruner.name": [0]})
    rows = []
    dense: dict[Any, float] = {}
    for number, name in enumerate(names):
        part = found.runs.assign(**{"pruner.name": name, "pruner.sparsity": found.runs["model.width"].map(SPARSITY)})
        for label, row in part.iterrows():
            acc = 0.8 + noise * random.standard_normal() / 100
            if row["pruner.sparsity"] == 0:  # the dense run is the same for both
                acc = dense.setdefault((row["ascent.rho"], row["seed"]), acc)
            gain = rise[number] / 100 * row["pruner.sparsity"] if row["ascent.rho"] else 0
            part.loc[label, "scored_acc_final"] = acc + gain
        rows.append(part)
    runs = pd.concat(rows, ignore_index=True)
    axes = ["model.width", "pruner.sparsity", "pruner.name"]
    sweep = type(found.sweep)("mine", "own", [*axes, "ascent.rho", "seed"], "", "", "", [])
    return verdicts(Question(gaps(type(found)(sweep, runs, [], {})), "pruner.sparsity", ["pruner.name"], reference))[-1]


def test_a_steeper_rise_is_found_and_measured() -> None:
    found = last((0.2, 1.2), noise=0.1)
    assert found.series == "pruner.name=snip against pruner.name=random"
    assert found.answer == "reproduced"
    assert found.slope == pytest.approx(1.0, abs=0.2)
    assert found.slope_low < found.slope < found.slope_high
    assert (found.seeds, found.cells) == (8, 4)
    assert math.isnan(found.trend_l)


def test_a_flatter_one_is_not_a_reproduction() -> None:
    found = last((1.2, 0.2), noise=0.1)
    assert (found.answer, found.reason.split(" (")[0]) == ("not reproduced", "the gap grows less")


def test_equal_rises_are_seldom_distinguished() -> None:
    studies = 24
    answers = [last((0.5, 0.5), noise=0.3, seed=seed).answer for seed in range(studies)]
    for answer in ("reproduced", "not reproduced"):
        assert answers.count(answer) <= stats.binom.ppf(0.99, studies, 0.05)


def test_one_seed_is_inconclusive() -> None:
    found = last((0, 1), noise=0.1, seeds=1)
    assert found.answer == "inconclusive"
    assert "needs 2 seeds and 2 cells in each" in found.reason


def test_the_published_difference() -> None:
    # Both have the widths 1 and 4: 0.187 - 0.147 with SNIP, and 0.277 - 0.17 with random pruning.
    theirs = pd.concat([published.load("fig10_mnist"), published.load("fig11_mnist")], ignore_index=True)
    found = last((0.2, 1.2), noise=0.1, reference=theirs)
    assert found.published_slope == pytest.approx((0.187 - 0.147 - 0.277 + 0.17) / (SPARSITY[4] - SPARSITY[1]))
    assert "is no rise" in found.reason
    # The published contrast is negative; equal rises are above it, which does not count as a contradiction.
    assert last((0.2, 0.2), noise=0.005, reference=theirs).answer == "inconclusive"
    # A narrow interval far below the published contrast contradicts it.
    assert "are excluded" in last((1.0, 0.8), noise=0.005, reference=theirs).reason


def test_a_contrast_needs_two_series_and_each_has_its_own_verdict_anyhow() -> None:
    found = gaps(table(lambda width, rho, seed: 0.9, extra={"pruner.sparsity": [0, 0.5, 0.9]}))
    *each, last = verdicts(Question(found, "params_total"))
    named = [f"pruner.sparsity={sparsity}" for sparsity in (0, 0.5, 0.9)]
    assert [verdict.series for verdict in each] == [*named, *(f"{name}, at equal rho (0.2)" for name in named)]
    assert (last.answer, last.reason.endswith("and not 3")) == ("inconclusive", True)


def test_the_second_that_was_typed_is_compared_with_the_first() -> None:
    found = last((0.2, 1.2), noise=0.1, names=("random", "magnitude"))
    assert (found.series, found.answer) == ("pruner.name=magnitude against pruner.name=random", "reproduced")


def test_no_difference_at_all_is_inconclusive() -> None:
    found = last((0.5, 0.5), noise=0)
    assert (found.answer, found.slope) == ("inconclusive", pytest.approx(0))
    assert "nothing to judge it by" in found.reason

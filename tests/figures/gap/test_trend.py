import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.figures import published
from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.series import position, published_for, series
from samgap.figures.gap.trend import Verdict, judge, published_slope, slope, verdicts
from samgap.figures.table import words
from tests.figures.tables import PARAMS, table

X = np.log10([1e3, 1e4, 1e5])


def verdict(rows: list[list[float]], target: float = math.nan) -> Verdict:
    return judge("", pd.DataFrame(rows), X, "params_total", "loso", 3, target)


def test_page_s_l_by_hand() -> None:
    # Three seeds in perfect order: L = 3 (1 + 4 + 9) = 42.
    found = verdict([[0.1, 0.2, 0.3], [0.0, 0.5, 0.9], [1.0, 1.1, 1.2]])
    assert found.trend_l == 42
    assert found.p_down == pytest.approx(1)
    assert found.answer == "reproduced"
    # Independent seeds would reach it once in 6^3 studies; these agree by chance more often.
    assert 1 / 216 < found.p_up < 0.03


def test_page_s_l_of_the_null_studies_varies_more_than_independent_seeds_would() -> None:
    # Page 1963: mean n k (k + 1)^2 / 4, variance n k^2 (k + 1)^2 (k - 1) / 144.
    seeds, cells = 3, 4
    studies = null.page(seeds, cells, 4)
    assert studies.mean() == pytest.approx(seeds * cells * (cells + 1) ** 2 / 4, abs=0.2)
    assert studies.var() > 1.1 * seeds * cells**2 * (cells + 1) ** 2 * (cells - 1) / 144


@pytest.mark.parametrize(("seeds", "error", "covered"), [(3, 0.07, 0.93), (8, 0.08, 0.89)])
def test_what_independence_would_have_promised(seeds: int, error: float, covered: float) -> None:
    # The numbers of docs/statistics.md: Page's p and Student's t on studies in which seeds choose for each other.
    l_values, independent = null.page(seeds, 5, 5), null.page(seeds, 5, 1)
    p = 1 - np.searchsorted(independent, l_values) / len(independent)
    assert (p < 0.05).mean() == pytest.approx(error, abs=0.01)
    gaps = null.gaps(seeds, 1, 5)[..., 0]
    reach = stats.t.ppf(0.975, seeds - 1) * gaps.std(axis=1, ddof=1) / math.sqrt(seeds)
    assert (np.abs(gaps.mean(axis=1)) <= reach).mean() == pytest.approx(covered, abs=0.01)


def test_with_one_rho_there_is_nothing_to_choose_and_seeds_are_independent() -> None:
    studies = null.page(3, 4, 1)
    assert studies.var() == pytest.approx(3 * 16 * 25 * 3 / 144, rel=0.03)
    assert null.reach_of_gaps(3, 1) == pytest.approx(stats.t.ppf(0.975, 2), rel=0.03)


def test_the_slope_is_by_decade_with_a_t_interval() -> None:
    # Slopes of the three seeds: .1, .45, .1 points a decade.
    found = verdict([[0.1, 0.2, 0.3], [0.0, 0.45, 0.9], [1.0, 1.1, 1.2]])
    slopes = np.array([0.1, 0.45, 0.1])
    assert found.slope == pytest.approx(slopes.mean())
    reach = (found.slope_high - found.slope_low) / 2 / (slopes.std(ddof=1) / math.sqrt(3))
    # A little more than Student's t, since the seeds choose for each other.
    assert stats.t.ppf(0.975, 2) < reach < 1.6 * stats.t.ppf(0.975, 2)


def test_a_falling_gap_is_not_reproduced() -> None:
    found = verdict([[0.3, 0.2, 0.1], [0.9, 0.5, 0.0], [1.2, 1.1, 1.0]])
    assert found.answer == "not reproduced"
    assert "shrinks" in found.reason


FLAT = [[0.10, 0.11, 0.10], [0.11, 0.10, 0.11], [0.10, 0.10, 0.11], [0.11, 0.11, 0.10]]


def test_a_flat_gap_whose_interval_excludes_the_published_slope_is_not_reproduced() -> None:
    found = verdict(FLAT, target=0.2)
    assert found.answer == "not reproduced"
    assert "excludes the published 0.2" in found.reason


def test_a_flat_gap_whose_interval_holds_the_published_slope_is_inconclusive() -> None:
    assert verdict(FLAT, target=0.0).answer == "inconclusive"
    assert verdict(FLAT).answer == "inconclusive"


def test_a_steeper_gap_than_published_is_reproduced() -> None:
    assert verdict([[0, 1, 2], [0, 1.1, 2], [0, 1, 2.1]], target=0.1).answer == "reproduced"


@pytest.mark.parametrize("shape", [(1, 3), (3, 2), (3, 1)])
def test_too_little_is_inconclusive(shape: tuple[int, int]) -> None:
    values = pd.DataFrame(np.arange(np.prod(shape)).reshape(shape))
    found = judge("", values, X[: shape[1]], "params_total", "loso", 3, math.nan)
    assert found.answer == "inconclusive"
    assert f"there are {shape[0]} and {shape[1]}" in found.reason


def test_cells_are_put_in_order_of_size() -> None:
    # Width 3 first in the table; the gap grows with size all the same.
    found = gaps(table(lambda w, rho, seed: 0.9 + (0.01 * w if rho else 0) + 0.0001 * seed, widths=[3, 1, 2]))
    assert verdicts(found, "params_total", None, None)[0].answer == "reproduced"


def rising(width: float, rho: float, seed: int) -> float:
    return 0.9 + (0.01 * width if rho else 0) + 0.0001 * seed


def names(found: Gaps, x: str, over: list[str] | None = None) -> list[str]:
    return [words(axes) for axes, _ in series(found, x, over)]


def test_series_are_made_of_what_the_horizontal_axis_does_not_stand_for() -> None:
    found = gaps(table(rising, extra={"pruner.sparsity": [0, 0.5]}))
    assert names(found, "params_total") == ["pruner.sparsity=0", "pruner.sparsity=0.5"]
    assert names(found, "params_live") == [""]
    assert names(found, "pruner.sparsity") == ["model.width=1", "model.width=2", "model.width=3"]
    # Cells in which width and sparsity move together are one series when asked for.
    assert names(found, "pruner.sparsity", []) == [""]


def test_the_reason_names_the_axis() -> None:
    found = gaps(table(rising, widths=[1], extra={"pruner.sparsity": [0, 0.5, 0.9]}))
    [one] = verdicts(found, "pruner.sparsity", None, None)
    assert "either way" in one.reason
    found = gaps(table(lambda w, rho, seed: rising(w, rho, seed), extra={"pruner.sparsity": [0, 0.5]}))
    assert "the gap grows with size" in verdicts(found, "params_total", None, None)[0].reason


def test_only_plain_nets_are_held_against_the_published_slope() -> None:
    found = gaps(table(rising, extra={"pruner.sparsity": [0, 0.5]}))
    targets = [v.published_slope for v in verdicts(found, "params_total", None, published.load("fig8"))]
    assert targets[0] == pytest.approx(0.2149, abs=1e-3)
    assert math.isnan(targets[1])
    assert math.isnan(verdicts(found, "pruner.sparsity", None, published.load("fig8"))[0].published_slope)


def test_the_published_slopes() -> None:
    # About a quarter of a point a decade on CIFAR-10, from the published table.
    table8 = published.load("fig8")
    found = slope(position("params", table8["params"]), table8["gap"])
    assert found == pytest.approx(np.polyfit(np.log10(table8["params"]), table8["gap"], 1)[0])
    assert 0.2 < found < 0.3


NULL_STUDIES = 60


def study(random: np.random.Generator, cells: int, rhos: int, seeds: int, holdout: bool, rise: float) -> str:
    """The verdict on a study of pure noise whose true gap is `rise` points more in each cell."""

    def noise(width: float, rho: float, seed: int) -> float:
        return 0.9 + 0.003 * random.standard_normal() + (0.01 * rise * width if rho else 0)

    runs: dict[tuple[float, float, int], float] = {}

    def test(width: float, rho: float, seed: int) -> float:
        return runs.setdefault((width, rho, seed), noise(width, rho, seed))

    def held(width: float, rho: float, seed: int) -> float:
        # Mostly the run's own luck, as measured on the smoke figures: correlation .95.
        return test(width, rho, seed) + 0.001 * random.standard_normal()

    widths, grid = list(PARAMS)[:cells], [0.05 * k for k in range(rhos + 1)]
    found = gaps(table(test, widths, grid, range(seeds), holdout=held if holdout else None))
    return verdicts(found, "params_total", None, None)[0].answer


@pytest.mark.parametrize(("cells", "rhos", "seeds", "holdout"), [(5, 5, 3, False), (5, 4, 8, True), (4, 3, 5, False)])
def test_two_equal_arms_are_seldom_called_a_reproduction(cells: int, rhos: int, seeds: int, holdout: bool) -> None:
    # Both arms are the same noise, so a reproduction is an error of the first kind: at most 5 % of studies.
    random = np.random.default_rng(0)
    answers = [study(random, cells, rhos, seeds, holdout, rise=0.0) for _ in range(NULL_STUDIES)]
    assert answers.count("reproduced") <= stats.binom.ppf(0.99, NULL_STUDIES, 0.05)


def test_a_true_rise_is_found() -> None:
    random = np.random.default_rng(0)
    answers = [study(random, 5, 5, 5, False, rise=0.3) for _ in range(30)]
    assert answers.count("reproduced") >= 27


def test_published_rows_are_those_of_the_same_cells() -> None:
    clean, noisy = published.load("fig8"), published.load("label_noise_cifar10")
    assert (
        len(published_for(clean, {}, "params_total"))
        == len(published_for(clean, {"pruner.sparsity": 0}, "params_live"))
        == len(clean)
    )
    assert (
        len(published_for(clean, {"pruner.sparsity": 0.5}, "params_total"))
        == len(published_for(clean, {"data.label_noise": 0.5}, "params_total"))
        == 0
    )
    half = published_for(noisy, {"data.label_noise": 0.5}, "params_total")
    assert half["gap"].tolist() == [1.68, 20.92, 38.74, 39.6]
    assert half["params"].tolist() == half["x"].tolist() == [44622, 701466, 2797610, 11173962]
    assert (
        len(published_for(noisy, {}, "params_total"))
        == len(published_for(noisy, {"data.label_noise": 0}, "params_total"))
        == 0
    )
    assert len(published_for(noisy, {"data.label_noise": 0.5, "pruner.sparsity": 0.9}, "params_total")) == 0


def test_published_rows_on_an_axis_of_their_own() -> None:
    sparse = published.load("fig10_mnist").drop(columns="pruner.name")
    rows = published_for(sparse, {}, "pruner.sparsity")
    assert rows["x"].tolist() == [0, 0.52, 0.77, 0.96]
    found = published_slope(sparse, {}, "pruner.sparsity")
    assert found == pytest.approx(np.polyfit(rows["x"], rows["gap"], 1)[0])
    # A dense table has nothing to say about sparsity, and a sparse one nothing about dense nets of several widths.
    assert math.isnan(published_slope(published.load("fig7"), {}, "pruner.sparsity"))
    assert published_for(sparse, {}, "params_total")["width"].tolist() == [0.25]


THIN = {1: 0.0, 2: 0.5, 3: 0.9}


def thin(extra: dict[str, Any] | None = None, missing: Any = ()) -> Gaps:
    """Three widths, each with the sparsity that leaves as many parameters as the first has."""
    asked = table(rising, extra={"pruner.sparsity": [0], **(extra or {})}, missing=missing)
    asked.runs["pruner.sparsity"] = asked.runs["model.width"].map(THIN)
    return gaps(asked)


def test_widths_thinned_out_to_one_count_are_one_series_on_every_axis() -> None:
    for x in ("params_total", "params_live", "pruner.sparsity"):
        assert names(thin(), x) == [""]
        # A further axis makes series, as anywhere.
        assert names(thin({"data.label_noise": [0, 0.5]}), x) == ["data.label_noise=0", "data.label_noise=0.5"]


def test_two_budgets_are_two_series() -> None:
    budgets = table(rising, extra={"pruner.live_params": [1000, 2000], "pruner.sparsity": [0]})
    place = budgets.runs["model.width"].map(THIN)
    budgets.runs["pruner.sparsity"] = place - 0.01 * (budgets.runs["pruner.live_params"] - 1000) / 1000
    assert names(gaps(budgets), "pruner.sparsity") == ["pruner.live_params=1000", "pruner.live_params=2000"]


def test_a_grid_of_sparsities_is_not_taken_for_one_while_it_fills_up() -> None:
    grid = {"pruner.sparsity": [0, 0.5]}
    asked = table(rising, extra=grid)
    asked.runs.loc[(asked.runs["model.width"] == 2) & (asked.runs["pruner.sparsity"] == 0), "status"] = "missing"
    asked.runs.loc[(asked.runs["model.width"] != 2) & (asked.runs["pruner.sparsity"] > 0), "status"] = "missing"
    assert len(gaps(asked).cells) == 3
    assert names(gaps(asked), "params_total") == ["pruner.sparsity=0", "pruner.sparsity=0.5"]


def test_thinned_nets_are_not_held_against_dense_ones() -> None:
    [one] = verdicts(thin(), "params_total", None, published.load("fig7"))
    assert math.isnan(one.published_slope)

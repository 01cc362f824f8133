import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.figures import published
from samgap.figures.gap import null
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.power import Phrases, answer_and_reason
from samgap.figures.gap.series import Question, Series, published_for
from samgap.figures.gap.slopes import Published, published_slope, slopes, spreads
from samgap.figures.gap.trend import Sample, Verdict, judge, power_curve, verdicts
from samgap.figures.significance import detectable, pages_l
from tests.figures.tables import PARAMS, table

X = np.log10([1e3, 1e4, 1e5])


def verdict(rows: list[list[float]], target: float = math.nan, error: float = 0.0, places: Any = X) -> Verdict:
    theirs = Published(target, error, tuple(range(len(rows[0]))))
    return judge(Sample("", np.array(rows), places, "params_total", "loso", 3, theirs))


def test_page_s_l_by_hand() -> None:
    # Three seeds in perfect order: L = 3 (1 + 4 + 9) = 42.
    found = verdict([[0.1, 0.2, 0.3], [0.0, 0.5, 0.9], [1.0, 1.1, 1.2]])
    assert found.trend_l == 42
    assert found.p_down == pytest.approx(1)
    assert found.answer == "reproduced"
    # Independent seeds reach it in 1 of 6^3 studies; dependent ones more often.
    assert 1 / 216 < found.p_up < 0.03


def test_cells_of_one_size_have_no_order() -> None:
    rising = [[0.1, 0.2, 0.3], [0.0, 0.5, 0.9], [1.0, 1.1, 1.2]]
    for places in ([3.0, 3.0, 4.0], [3.0, 3.0, 3.0]):
        found = verdict(rising, places=np.array(places))
        assert (found.answer, found.reason[:39]) == ("inconclusive", "two cells have the same params_total: s")
        assert math.isnan(found.p_up)


def test_a_search_for_a_detectable_effect_ends_without_a_scale() -> None:
    assert math.isnan(detectable(lambda effect: 0.0, math.nan, math.nan))


def test_cells_and_seeds_that_are_in_no_trend_are_named() -> None:
    def test(width: float, rho: float, seed: int) -> float | None:
        lost = (width, rho, seed) in ((1, 0.4, 0), (2, 0, 1))
        return None if lost else 0.8 + 0.01 * width * (rho > 0) + 0.0001 * seed * rho * width

    found = gaps(table(test, (1, 2, 3, 4), (0, 0.05, 0.1, 0.2, 0.4), range(4)), 0.1, "quadratic")
    (chosen, _) = verdicts(Question(found, "params_total"))
    assert (chosen.cells, chosen.seeds) == (3, 3)
    by, equal = "in the trend by protocol=quadratic", "in the trend by protocol=fixed"
    assert found.notes[-3:] == [
        f"model.width=1: not {by}, no such gap", f"seed 1: not {by}, which needs seeds with all cells",
        f"seed 1: not {equal}, which needs seeds with all cells",
    ]  # fmt: skip


def test_page_s_l_of_the_null_studies_varies_more_than_independent_seeds_would() -> None:
    # Page 1963: mean n k (k + 1)^2 / 4, variance n k^2 (k + 1)^2 (k - 1) / 144.
    seeds, cells = 3, 4
    studies = pages_l(null.gaps(seeds, cells, 4))
    assert studies.mean() == pytest.approx(seeds * cells * (cells + 1) ** 2 / 4, abs=0.2)
    assert studies.var() > 1.1 * seeds * cells**2 * (cells + 1) ** 2 * (cells - 1) / 144


@pytest.mark.parametrize(("seeds", "error", "covered"), [(3, 0.07, 0.93), (8, 0.08, 0.89)])
def test_what_independence_would_have_promised(seeds: int, error: float, covered: float) -> None:
    # The numbers of docs/statistics.md: rejections by Page's p and Student's t if seeds choose rho for each other.
    l_values, independent = pages_l(null.gaps(seeds, 5, 5)), np.sort(pages_l(null.gaps(seeds, 5, 1)))
    p = 1 - np.searchsorted(independent, l_values) / len(independent)
    assert (p < 0.05).mean() == pytest.approx(error, abs=0.01)
    gaps = null.gaps(seeds, 1, 5)[..., 0]
    half_width = stats.t.ppf(0.975, seeds - 1) * gaps.std(axis=1, ddof=1) / math.sqrt(seeds)
    assert (np.abs(gaps.mean(axis=1)) <= half_width).mean() == pytest.approx(covered, abs=0.01)


def test_with_one_rho_there_is_nothing_to_choose_and_seeds_are_independent() -> None:
    studies = pages_l(null.gaps(3, 4, 1))
    assert studies.var() == pytest.approx(3 * 16 * 25 * 3 / 144, rel=0.03)
    assert null.gap_half_width(3, 1) == pytest.approx(stats.t.ppf(0.975, 2), rel=0.03)


def test_the_slope_is_weighted_by_the_cells_variances() -> None:
    gaps_ = np.array([[5.0, 0.2, 0.3, 0.5], [-9.0, 0.1, 0.4, 0.6], [2.0, 0.2, 0.2, 0.4]])
    places = np.array([3.0, 4, 5, 6])
    spread = spreads(gaps_)
    expected = [np.polyfit(places, row, 1, w=1 / spread)[0] for row in gaps_]
    assert slopes(places, gaps_) == pytest.approx(expected)
    # Each cell's deviation is shrunk halfway to the mean, in logarithms, since three seeds estimate it badly.
    logs = np.log(gaps_.std(axis=0, ddof=1))
    assert np.log(spread) == pytest.approx((logs + logs.mean()) / 2)
    # Two seeds give no estimate of it, and neither do equal gaps.
    assert np.ptp(spreads(gaps_[:2])) == pytest.approx(0)
    assert spreads(np.ones((3, 4))).tolist() == [1] * 4


def test_the_slope_is_by_decade_with_an_interval() -> None:
    rows = [[0.1, 0.2, 0.3], [0.0, 0.45, 0.9], [1.0, 1.1, 1.2]]
    found, mine = verdict(rows), slopes(X, np.array(rows))
    assert found.slope == pytest.approx(mine.mean())
    half_width = (found.slope_high - found.slope_low) / 2 / (mine.std(ddof=1) / math.sqrt(3))
    # Wider than by Student's t, since the seeds choose rho for each other and determine the weights.
    assert stats.t.ppf(0.975, 2) < half_width < 2 * stats.t.ppf(0.975, 2)


def test_a_falling_gap_is_not_reproduced() -> None:
    found = verdict([[0.3, 0.2, 0.1], [0.9, 0.5, 0.0], [1.2, 1.1, 1.0]])
    assert found.answer == "not reproduced"
    assert "shrinks" in found.reason


FLAT = [[0.10, 0.11, 0.10], [0.11, 0.10, 0.11], [0.10, 0.10, 0.11], [0.11, 0.11, 0.10]]


def test_a_flat_gap_whose_interval_excludes_the_published_slope_is_not_reproduced() -> None:
    found = verdict(FLAT, target=0.2)
    assert found.answer == "not reproduced"
    assert "slopes like the published 0.2 are excluded" in found.reason
    # Not if the published slope is as uncertain.
    assert verdict(FLAT, target=0.2, error=0.1).answer == "inconclusive"


@pytest.mark.parametrize(("effect", "answer"), [(0.2, "not reproduced"), (0.001, "inconclusive")])
def test_where_a_smallest_slope_of_interest_was_registered_it_decides_in_place_of_the_published(
    effect: float, answer: str
) -> None:
    theirs = Published(0.3, 0.5, (0, 1, 2))
    found = judge(Sample("", np.array(FLAT), X, "params_total", "loso", 3, theirs, effect=effect))
    assert found.answer == answer
    assert (f"slopes of {effect:g}, the smallest of interest, are excluded" in found.reason) == (effect == 0.2)
    share = {0.2: "100 %, and 2 seeds", 0.001: ""}[effect]
    assert f", the smallest of interest, {effect:g}, in {share}" in found.reason
    assert found.reason.endswith(" seeds would in 80 %")


def test_a_flat_gap_whose_interval_holds_the_published_slope_is_inconclusive() -> None:
    assert verdict(FLAT, target=0.0).answer == "inconclusive"
    assert verdict(FLAT).answer == "inconclusive"


def test_a_rise_that_is_steeper_than_the_published_one_does_not_count_against_it() -> None:
    # If the smallest net collapses, ranks show no trend although the slope is far above the published one.
    rows = [[-10 + e, 1 - e, 0.9 - e] for e in (0, 0.01, 0.02, 0.03)]
    found = verdict(rows, target=0.066)
    assert found.slope_low > 0.066
    assert found.p_up > 0.05
    assert found.answer == "inconclusive"


@pytest.mark.parametrize(
    ("name", "width", "expected", "error"),
    [("fig8", [2, 4, 8, 16], 0.067, 0.170), ("fig7", [0.05, 0.25, 0.5, 1, 4], 0.098, 0.033)],
)
def test_the_published_slope_is_that_of_the_sizes_in_common(
    name: str, width: list[float], expected: float, error: float
) -> None:
    theirs = published.load(name)
    params = {row.width: row.params for row in theirs.itertuples()}
    cells = pd.DataFrame({"model.width": width, "params_total": [params.get(w, 1e4) for w in width]})
    series = Series(gaps=gaps(table(rising)), x="params_total", axes={}, cells=cells, published=theirs)
    shared = published_slope(series, cells, np.ones(len(width)))
    rows = theirs[theirs["width"].isin(width)]
    x = np.log10(rows["params"])
    assert shared.slope == pytest.approx(np.polyfit(x, rows["gap"], 1)[0])
    assert shared.slope == pytest.approx(expected, abs=1e-3)
    across = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    assert shared.error == pytest.approx(math.sqrt(((across * rows["gap_band"]) ** 2).sum()))
    assert shared.error == pytest.approx(error, abs=1e-3)
    assert shared.shared == tuple(range(1, len(width)))
    # Without common sizes it is the slope of all published sizes, and ours is not compared with it.
    other = published_slope(series, cells.assign(**{"model.width": 99}), np.ones(len(width)))
    assert (other.shared, "of other sizes" in str(other)) == ((), True)
    assert other.slope == pytest.approx(np.polyfit(np.log10(theirs["params"]), theirs["gap"], 1)[0])


def test_near_the_level_more_studies_are_drawn_and_borderline_is_said() -> None:
    def studies(part: int) -> np.ndarray:
        return np.random.default_rng(part).standard_normal(null.STUDIES)

    far = null.p_values(1.0, studies)
    assert far.up == pytest.approx(stats.norm.sf(1), abs=4 * far.error)
    near = null.p_values(stats.norm.isf(0.05), studies)
    assert near.error == pytest.approx(math.sqrt(0.05 * 0.95 / (null.PARTS * null.STUDIES)), rel=0.05)
    assert near.error < far.error / 5
    assert (far.borderline, near.borderline) == (False, True)
    phrases = Phrases("rises", "falls", "neither", "test")
    answer, reason = answer_and_reason(near, phrases, "")
    assert (answer, reason.startswith("borderline"), "± 0.0003 up" in reason) == ("inconclusive", True, True)
    assert answer_and_reason(far, phrases, "")[1].startswith("neither (one-sided p = 0.1")


def test_page_s_l_with_ties_is_that_of_mean_ranks() -> None:
    values = np.random.default_rng(3).integers(0, 4, (5, 6, 5)).astype(float)
    weights = np.arange(1, 6)
    assert pages_l(values).tolist() == [(stats.rankdata(one, axis=1) @ weights).sum() for one in values]


def test_noise_that_differs_from_cell_to_cell_does_not_make_a_trend() -> None:
    # Noise as in figure 7, whose smallest net is 50 times noisier than the largest. Null studies with equal noise would
    # find a rise in 8 % of studies without effect.
    spread = np.array([6.0, 0.9, 0.5, 0.4, 0.35, 0.3, 0.25])
    count, seeds, rhos = 800, 8, 4
    studies = null.gaps(seeds, 7, rhos, 1)[:count] * spread
    unit = null.gaps(seeds, 7, rhos)[:2000]
    equal = p = 0
    for one in studies:
        found = pages_l(one)
        p += (pages_l(unit * spreads(one).astype(np.float32)) >= found).mean() < 0.05
        equal += (pages_l(unit) >= found).mean() < 0.05
    limit = stats.binom.ppf(0.99, count, 0.05)
    assert p <= limit < equal


def test_what_a_study_could_have_found() -> None:
    seeds, places = 5, np.array([3.0, 4, 5, 6])
    rows = np.random.default_rng(4).normal(size=(seeds, 4))
    found = verdict(rows.tolist(), target=0.4, error=0.02, places=places)
    for said in ("seeds find a slope of", "the published 0.4 ± 0.02 in", "seeds would in 80 %", "are excluded"):
        assert said in found.reason
    # 80 % of other studies with this noise find that slope; with the stated number of seeds, the published one.
    spread = spreads(rows)

    def share(seeds: int, slope: float) -> float:
        return power_curve((null.gaps(seeds, 4, 3, 1) * spread)[:4000], places)(slope)

    # L is a whole number, so in other draws the critical value may differ by one.
    assert share(seeds, found.detectable) == pytest.approx(0.8, abs=0.06)
    assert share(seeds, 0.4) == pytest.approx(found.power, abs=0.06)
    assert found.seeds_wanted > 2 * seeds
    assert share(int(found.seeds_wanted), 0.4) == pytest.approx(0.8, abs=0.06)
    assert found.slope < found.excluded < found.slope_high


def test_every_verdict_says_what_it_could_have_found() -> None:
    for one in verdicts(Question(gaps(table(rising)), "params_total", None, published.load("fig8"))):
        assert "of other sizes" in one.reason
        assert "80 % of such studies" in one.reason
        assert "are excluded" in one.reason


def test_a_steeper_gap_than_published_is_reproduced() -> None:
    assert verdict([[0, 1, 2], [0, 1.1, 2], [0, 1, 2.1]], target=0.1).answer == "reproduced"


@pytest.mark.parametrize("shape", [(1, 3), (3, 2), (3, 1)])
def test_too_little_is_inconclusive(shape: tuple[int, int]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    found = judge(Sample("", values, X[: shape[1]], "params_total", "loso", 3))
    assert found.answer == "inconclusive"
    assert f"there are {shape[0]} and {shape[1]}" in found.reason


def test_cells_are_put_in_order_of_size() -> None:
    # Width 3 comes first in the table, but sizes are sorted.
    found = gaps(table(lambda w, rho, seed: 0.9 + (0.01 * w if rho else 0) + 0.0001 * seed, widths=[3, 1, 2]))
    assert verdicts(Question(found, "params_total"))[0].answer == "reproduced"


def rising(width: float, rho: float, seed: int) -> float:
    return 0.9 + ((0.01 + 0.0001 * seed) * width if rho else 0)


def names(found: Gaps, x: str, over: list[str] | None = None) -> list[str]:
    return [series.label for series in Question(found, x, over).series()]


def test_series_are_made_of_what_the_horizontal_axis_does_not_stand_for() -> None:
    found = gaps(table(rising, extra={"pruner.sparsity": [0, 0.5]}))
    assert names(found, "params_total") == ["pruner.sparsity=0", "pruner.sparsity=0.5"]
    assert names(found, "params_live") == [""]
    assert names(found, "pruner.sparsity") == ["model.width=1", "model.width=2", "model.width=3"]
    # Cells in which width and sparsity change together are one series on request.
    assert names(found, "pruner.sparsity", []) == [""]


def test_the_reason_names_the_axis() -> None:
    found = gaps(table(rising, widths=[1], extra={"pruner.sparsity": [0, 0.5, 0.9]}))
    one, equal = verdicts(Question(found, "pruner.sparsity"))
    assert "either way" in one.reason
    named = "model.width=1", "model.width=1, at equal rho (0.2)"
    assert ((one.series, equal.series), equal.protocol) == (named, "fixed")
    found = gaps(table(lambda w, rho, seed: rising(w, rho, seed), extra={"pruner.sparsity": [0, 0.5]}))
    assert "the gap grows with size" in verdicts(Question(found, "params_total"))[0].reason


def test_only_plain_nets_are_compared_with_the_published_slope() -> None:
    found = gaps(table(rising, extra={"pruner.sparsity": [0, 0.5]}))
    targets = [v.published_slope for v in verdicts(Question(found, "params_total", None, published.load("fig8")))]
    assert targets == pytest.approx([0.2149, math.nan] * 2, abs=1e-3, nan_ok=True)
    assert math.isnan(verdicts(Question(found, "pruner.sparsity", None, published.load("fig8")))[0].published_slope)


NULL_STUDIES = 40


def study(random: np.random.Generator, cells: int, rhos: int, seeds: int, holdout: bool, rise: float) -> str:
    """Return the verdict on a study of noise with a true gap that grows by `rise` points from cell to cell."""

    def noise(width: float, rho: float, seed: int) -> float:
        return 0.9 + 0.003 * random.standard_normal() + (0.01 * rise * width if rho else 0)

    runs: dict[tuple[float, float, int], float] = {}

    def test(width: float, rho: float, seed: int) -> float:
        return runs.setdefault((width, rho, seed), noise(width, rho, seed))

    def holdout_acc(width: float, rho: float, seed: int) -> float:
        # Test set and holdout have a correlation of .95, as measured in the smoke figures.
        return test(width, rho, seed) + 0.001 * random.standard_normal()

    widths, grid = list(PARAMS)[:cells], [0.05 * k for k in range(rhos + 1)]
    found = gaps(table(test, widths, grid, range(seeds), holdout=holdout_acc if holdout else None))
    return verdicts(Question(found, "params_total"))[0].answer


@pytest.mark.parametrize(("cells", "rhos", "seeds", "holdout"), [(5, 5, 3, False), (4, 4, 8, True)])
def test_two_equal_arms_are_seldom_called_a_reproduction(cells: int, rhos: int, seeds: int, holdout: bool) -> None:
    # Both arms have the same distribution, so a reproduction is an error of the first kind: at most 5 % of studies.
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
    assert [*published_for(published.load("fig7"), {}, "model.width")["x"]] == [0.25, 0.5, 1, 4, 10]
    rows = published_for(sparse, {}, "pruner.sparsity")
    assert rows["x"].tolist() == [0, 0.52, 0.77, 0.96]
    cells = pd.DataFrame({"model.width": [0.25, 0.5, 1, 4], "pruner.sparsity": [0, 0.5157, 0.7723, 0.9583]})

    def theirs(reference: pd.DataFrame) -> float:
        series = Series(gaps=thin(), x="pruner.sparsity", axes={}, cells=cells, published=reference)
        return published_slope(series, cells, np.ones(4)).slope

    assert theirs(sparse) == pytest.approx(np.polyfit(cells["pruner.sparsity"], rows["gap"], 1)[0])
    # A table of dense nets has no rows for a sparsity axis, and one of sparse nets has none for dense nets.
    assert math.isnan(theirs(published.load("fig7")))
    assert published_for(sparse, {}, "params_total")["width"].tolist() == [0.25]


THIN = {1: 0.0, 2: 0.5, 3: 0.9}


def thin(extra: dict[str, Any] | None = None, missing: Any = ()) -> Gaps:
    """Return cells of three widths, each with the sparsity that leaves as many parameters as the first width has."""
    whole = table(rising, extra={"pruner.sparsity": [0], **(extra or {})}, missing=missing)
    whole.runs["pruner.sparsity"] = whole.runs["model.width"].map(THIN)
    return gaps(whole)


def test_widths_thinned_out_to_one_count_are_one_series_on_every_axis() -> None:
    for x in ("params_total", "params_live", "pruner.sparsity"):
        assert names(thin(), x) == [""]
        # Another axis gives one series for each of its values.
        assert names(thin({"data.label_noise": [0, 0.5]}), x) == ["data.label_noise=0", "data.label_noise=0.5"]


def test_two_budgets_are_two_series() -> None:
    budgets = table(rising, extra={"pruner.live_params": [1000, 2000], "pruner.sparsity": [0]})
    place = budgets.runs["model.width"].map(THIN)
    budgets.runs["pruner.sparsity"] = place - 0.01 * (budgets.runs["pruner.live_params"] - 1000) / 1000
    assert names(gaps(budgets), "pruner.sparsity") == ["pruner.live_params=1000", "pruner.live_params=2000"]


def test_a_grid_of_sparsities_is_not_taken_for_one_while_it_fills_up() -> None:
    grid = {"pruner.sparsity": [0, 0.5]}
    whole = table(rising, extra=grid)
    middle = whole.runs["model.width"] == 2
    whole.runs.loc[middle != (whole.runs["pruner.sparsity"] > 0), "status"] = "missing"
    assert len(gaps(whole).cells) == 3
    assert names(gaps(whole), "params_total") == ["pruner.sparsity=0", "pruner.sparsity=0.5"]


def test_thinned_nets_are_not_compared_with_dense_ones() -> None:
    one, _ = verdicts(Question(thin(), "params_total", None, published.load("fig7")))
    assert math.isnan(one.published_slope)

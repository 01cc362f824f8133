import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.results import published
from samgap.results.gaps import gaps
from samgap.results.verdict import Verdict, judge, null_distribution, position, slope, verdicts
from tests.results.tables import PARAMS, table

X = np.log10([1e3, 1e4, 1e5])


def verdict(rows: list[list[float]], target: float = math.nan) -> Verdict:
    return judge("", pd.DataFrame(rows), X, "holdout", 3, target)


def test_page_s_l_by_hand() -> None:
    # Three blocks in perfect order: L = 3 (1 + 4 + 9) = 42, and one arrangement of 6^3 reaches it.
    found = verdict([[0.1, 0.2, 0.3], [0.0, 0.5, 0.9], [1.0, 1.1, 1.2]])
    assert found.trend_l == 42
    assert found.p_up == pytest.approx(1 / 216)
    assert found.p_down == 1
    assert found.answer == "reproduced"


def test_leaving_one_seed_out_is_judged_by_its_own_null() -> None:
    # Perfect order is the extreme of either; how often it comes without effect differs.
    rows = pd.DataFrame([[0.1, 0.2, 0.3, 0.4]] * 3)
    x = np.arange(4.0)
    page, own = (judge("", rows, x, protocol, 4, math.nan) for protocol in ("holdout", "loso"))
    assert page.trend_l == own.trend_l == 90
    assert page.p_up == pytest.approx(1 / 24**3)
    assert page.p_up < own.p_up < 0.001
    assert (page.p_down, own.p_down) == (1, 1)
    null = null_distribution(3, 4, 4)
    # Independent blocks would have the variance of Page 1963, n k^2 (k + 1)^2 (k - 1) / 144; these vary more.
    assert null.mean() == pytest.approx(75, abs=0.2)
    assert null.var() > 1.1 * 3 * 16 * 25 * 3 / 144


def test_the_slope_is_by_decade_with_a_t_interval() -> None:
    # Slopes of the three seeds: .1, .45, .1 points a decade.
    found = verdict([[0.1, 0.2, 0.3], [0.0, 0.45, 0.9], [1.0, 1.1, 1.2]])
    slopes = np.array([0.1, 0.45, 0.1])
    assert found.slope == pytest.approx(slopes.mean())
    reach = stats.t.ppf(0.975, 2) * slopes.std(ddof=1) / math.sqrt(3)
    assert (found.slope_low, found.slope_high) == pytest.approx((slopes.mean() - reach, slopes.mean() + reach))


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
    found = judge("", pd.DataFrame(np.arange(np.prod(shape)).reshape(shape)), X[: shape[1]], "holdout", 3, math.nan)
    assert found.answer == "inconclusive"
    assert f"there are {shape[0]} and {shape[1]}" in found.reason


def test_cells_are_put_in_order_of_size() -> None:
    # Width 3 first in the table; the gap grows with size all the same.
    found = gaps(table(lambda w, rho, seed: 0.9 + (0.01 * w if rho else 0) + 0.0001 * seed, widths=[3, 1, 2]))
    assert verdicts(found, "params_total", None)[0].answer == "reproduced"


def test_the_published_slopes() -> None:
    # About a quarter of a point a decade on CIFAR-10, from the published table.
    table8 = published.load("fig8")
    found = slope(position("params", table8["params"]), table8["gap"])
    assert found == pytest.approx(np.polyfit(np.log10(table8["params"]), table8["gap"], 1)[0])
    assert 0.2 < found < 0.3


NULL_STUDIES = 120


def study(random: np.random.Generator, cells: int, rhos: int, seeds: int, holdout: bool, rise: float) -> str:
    """The verdict on a study of pure noise whose true gap is `rise` points more in each cell."""

    def noise(width: float, rho: float, seed: int) -> float:
        return 0.9 + 0.003 * random.standard_normal() + (0.01 * rise * width if rho else 0)

    options: dict[str, Any] = {"holdout": noise} if holdout else {}
    widths, grid = list(PARAMS)[:cells], [0.05 * k for k in range(rhos + 1)]
    return verdicts(gaps(table(noise, widths, grid, range(seeds), **options)), "params_total", None)[0].answer


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

"""Which of two settings gives accuracies nearer to the published ones."""

import math

import numpy as np
import pytest
from scipy import stats

from samgap.errors import SettingError
from samgap.figures import published
from samgap.figures.gap.choices import Number, judge, verdicts
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.series import Question
from tests.figures.tables import PARAMS, table

NAMED, AXIS = ("a", "b"), "schedule.milestones"


def rows(*means: float, std: float = 0.1, seeds: int = 8) -> np.ndarray:
    return np.array([[mean, std, seeds] for mean in means])


def numbers(*values: float) -> list[Number]:
    return [Number(61_035, "SGD", value) for value in values]


def test_one_number_by_hand() -> None:
    found = judge(NAMED, rows(98.0), rows(98.4), numbers(98.1))
    v = 0.01 * (1 / 3 + 1 / 8)
    assert found.far_first == pytest.approx(0.1**2 / v)
    assert found.far_second == pytest.approx(0.3**2 / v)
    assert found.p_first == pytest.approx(2 * stats.t.sf(math.sqrt(found.far_first), 14), abs=0.02)
    assert found.p_second == pytest.approx(2 * stats.t.sf(math.sqrt(found.far_second), 14), abs=0.005)
    assert (found.answer, found.series) == ("reproduced", "a against b")
    assert "a fits the 1 published accuracies (p = " in found.reason
    critical, apart = stats.t.ppf(0.975, 14), 0.4 / math.sqrt(v)
    assert found.power == pytest.approx(stats.t.sf(critical - apart, 14) + stats.t.cdf(-critical - apart, 14), abs=0.01)
    assert f"; such studies reject the wrong one in {100 * found.power:.0f} %" in found.reason
    (row,) = found.detail()
    half = stats.t.ppf(0.975, 14) * math.sqrt(v)
    assert row == {"params": "61k", "": "SGD", "published": "98.100", "a": f"98.000 [{98 - half:.3f}, {98 + half:.3f}]",
                   "b": f"98.400 [{98.4 - half:.3f}, {98.4 + half:.3f}]"}  # fmt: skip
    back = judge(NAMED, rows(98.4), rows(98.0), numbers(98.1))
    assert (back.answer, back.p_first, back.p_second) == ("not reproduced", found.p_second, found.p_first)
    # Both are rejected, or none.
    assert judge(NAMED, rows(98.0), rows(98.4), numbers(97.0)).answer == "inconclusive"
    assert judge(NAMED, rows(98.0), rows(98.05), numbers(98.02)).answer == "inconclusive"


def test_too_few_runs_are_inconclusive() -> None:
    few, none, nan = rows(98.0, seeds=1), rows(98.0, std=0), rows(math.nan)
    pairs = [(few, rows(98.1)), (rows(98.1), few), (rows(98.1), nan), (none, none)]
    results = [judge(NAMED, first, second, numbers(98.0)) for first, second in pairs]
    for found in (*results, judge(NAMED, rows(), rows(), [])):
        assert (found.answer, math.isnan(found.p_first)) == ("inconclusive", True)


@pytest.mark.parametrize("seeds", [(8, 8), (8, 2)])
def test_each_is_refused_in_as_few_studies_as_stated(seeds: tuple[int, int]) -> None:
    random, wrong = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        both = []
        for n in seeds:  # both choices are the truth
            ours = 98 + 0.1 * random.standard_normal((4, n))
            both.append(np.stack([ours.mean(axis=1), ours.std(axis=1, ddof=1), np.full(4, n)], axis=1))
        theirs = 98 + 0.1 * random.standard_normal((4, 3))
        found = judge(NAMED, both[0], both[1], numbers(*theirs.mean(axis=1)))
        wrong += [found.p_first < 0.05, found.p_second < 0.05]
    assert wrong / 400 == pytest.approx(0.05, abs=0.03)


def test_numbers_are_those_of_the_same_size_and_rho(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).standard_normal(100)
    for width, params in ((1, 266_610), (4, 1_426_410)):
        monkeypatch.setitem(PARAMS, width, params)  # type: ignore[arg-type]

    def accuracy(width: float, rho: float, seed: int) -> float:
        return 0.98 + 0.01 * width + 0.001 * rho + 0.0001 * noise[seed + 10 * int(width)]

    swept = {AXIS: ["[0.5, 0.75]", "[0.25, 0.5, 0.75]"]}
    made = table(accuracy, (1, 4), (0, 0.2), range(3), extra=swept)
    (answer,) = verdicts(Question(gaps(made, 0.2), "params_total", [AXIS], published.load("fig7")))
    # SGD and SAM of both sizes; the first choice is the one that was typed first.
    assert (answer.numbers, answer.series) == (4, "[0.5, 0.75] against [0.25, 0.5, 0.75]")
    # A part of the grid in which the width is not an axis.
    one = table(accuracy, (1,), (0, 0.2), range(3), extra=swept)
    one.sweep.axes.remove("model.width")
    (answer,) = verdicts(Question(gaps(one, 0.2), "params_total", [AXIS], published.load("fig7")))
    assert answer.numbers == 2
    with pytest.raises(SettingError, match="sweep two, got 0"):
        verdicts(Question(gaps(table(accuracy, (1, 4)), 0.2), "params_total", None, published.load("fig7")))
    with pytest.raises(SettingError, match="which was not swept"):
        verdicts(Question(gaps(made, 0.3), "params_total", [AXIS], published.load("fig7")))

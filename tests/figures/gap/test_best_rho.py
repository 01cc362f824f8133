"""Whether the best rho grows: a trend test with ties, and its figure."""

import numpy as np
import pytest
from scipy import stats

from samgap import style
from samgap.errors import SettingError
from samgap.figures import output, published
from samgap.figures.gap import best_rho
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.kinds import BestRho
from samgap.figures.gap.series import Question
from samgap.figures.gap.study import study as study_of
from samgap.figures.table import Table
from tests.figures.tables import table
from tests.runs.test_records import make

KIND = BestRho(title="The best rho", published_data="MNIST")
GROWS = {1: 0.05, 2: 0.1, 3: 0.2}
RHOS = (0, 0.05, 0.1, 0.2)  # width -> best rho


def runs(best: dict[float, float]) -> Table:
    return table(lambda width, rho, seed: 0.9 - abs(rho - best[width]) + 1e-4 * seed, rhos=RHOS)


def found(best: dict[float, float]) -> Gaps:
    return gaps(runs(best))


def test_a_best_rho_that_grows_is_reproduced() -> None:
    known = found(GROWS)
    (verdict,) = best_rho.verdicts(Question(known, "params_total", None, published.load("fig7")))
    assert known.best.groupby("model.width")["rho"].unique().explode().to_dict() == GROWS
    assert verdict.answer == "reproduced"
    assert verdict.reason.startswith("the best rho grows with size")
    # Each of three seeds has the best one of 6 orders: probability 1 / 6^3.
    assert verdict.p_up == pytest.approx(1 / 216, abs=0.002)
    assert verdict.p_down == pytest.approx(1, abs=0.001)
    # All seeds agree, so nothing is known about the noise.
    assert "all seeds have the same slope, which leaves no interval" in verdict.reason
    assert np.isnan([verdict.slope_low, verdict.excluded, verdict.detectable, verdict.power]).all()
    (falling,) = best_rho.verdicts(Question(found({1: 0.2, 2: 0.1, 3: 0.05}), "params_total"))
    assert falling.answer == "not reproduced"
    table_of_noise = table(lambda width, rho, seed: 0.9 - abs(rho - GROWS[max(width - (seed == 1), 1)]), rhos=RHOS)
    question = Question(gaps(table_of_noise), "params_total", None, published.load("fig7"))
    (noisy,) = best_rho.verdicts(question)
    assert noisy.published_slope > 0
    assert "seeds find a slope of" in noisy.reason


def test_a_published_table_without_a_best_rho_is_refused() -> None:
    with pytest.raises(SettingError, match=r"draw\.published must be a table with a best rho"):
        best_rho.verdicts(Question(found(GROWS), "params_total", None, published.load("label_noise_cifar10")))


def test_a_best_rho_that_stays_shows_nothing() -> None:
    (verdict,) = best_rho.verdicts(Question(found(dict.fromkeys(GROWS, 0.1)), "params_total"))
    assert (verdict.answer, verdict.slope, verdict.p_up) == ("inconclusive", 0, 1)


def test_without_an_effect_one_study_in_twenty_says_so() -> None:
    draw_ = np.random.default_rng(1)
    grid = np.log10([0.02, 0.05, 0.1, 0.2])
    p = [best_rho.trend(draw_.choice(grid, (5, 4)))[1].up for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array(p) < 0.5) > 0.35


def test_without_ties_it_is_page_s_test() -> None:
    values = np.random.default_rng(2).standard_normal((4, 4)) + 0.3 * np.arange(4)
    expected = stats.page_trend_test(values)
    statistic, tail = best_rho.trend(values)
    assert statistic == expected.statistic
    assert tail.up == pytest.approx(expected.pvalue, abs=0.01)


def test_the_figure_marks_the_best_and_draws_the_published() -> None:
    full_table = runs(GROWS)
    full_table.records.append(make())
    known = gaps(full_table)
    theirs = published.load("fig7")
    question = Question(known, "params_total", None, theirs)
    study = study_of(full_table, question, best_rho.verdicts(question), "paper")
    with style.style():
        left, right = KIND.draw(study.frame, output.report(study)).axes
    (stars,) = (line for line in left.lines if line.get_marker() == "*")
    assert [RHOS[1:][int(at)] for at in stars.get_xdata()] == list(GROWS.values())  # type: ignore[union-attr]
    # The gap is the gain at the rho that is best in the mean over seeds.
    assert list(stars.get_ydata()) == pytest.approx(known.cells["paper_gap"].tolist())  # type: ignore[arg-type]
    (alone,) = right.collections
    sizes = alone.get_sizes()  # type: ignore[attr-defined]
    assert (alone.get_offsets()[:, 1].tolist(), sizes.tolist()) == (list(GROWS.values()), [18 * 3] * 3)  # type: ignore[index]
    assert [tick.get_text() for tick in left.get_xticklabels()] == [f"{rho:g}" for rho in RHOS[1:]]
    ours, published_ = right.lines[:2]
    assert list(ours.get_ydata()) == list(GROWS.values())  # type: ignore[arg-type]
    assert list(published_.get_ydata()) == theirs["best_rho"].tolist()  # type: ignore[arg-type]

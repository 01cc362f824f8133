from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samgap.figures.gap.doses import verdicts
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.kinds import Doses
from samgap.figures.gap.series import Question
from samgap.figures.gap.study import study as study_of
from samgap.figures.gap.trend import Verdict
from tests.figures.tables import PARAMS, table
from tests.runs.test_records import make

DOSES = (0, 0.1, 0.5)
NOISE = "data.label_noise"


def study(slope: dict[float, float], noise: float = 0.05, seed: int = 0, axis: str = NOISE) -> tuple[Any, Gaps]:
    """Return a study with four seeds and three sizes; `slope` has the true slope per decade at each dose."""
    random = np.random.default_rng(seed)
    found = table(lambda width, rho, s: 0.0, seeds=range(4), extra={axis: slope})
    for label, row in found.runs.iterrows():
        gain = slope[row[axis]] * np.log10(PARAMS[row["model.width"]] / 1000) if row["ascent.rho"] else 0
        found.runs.loc[label, "scored_acc_final"] = 0.8 + (gain + noise * random.standard_normal()) / 100
    return found, gaps(found)


def last(slope: dict[float, float], **options: Any) -> Verdict:
    return verdicts(Question(study(slope, **options)[1], "params_total"))[-1]


def test_slopes_that_grow_with_the_dose_are_found_and_measured() -> None:
    found = last({0: 0.1, 0.1: 0.6, 0.5: 2.6})
    assert (found.series, found.answer, found.cells) == (f"slope over {NOISE}", "reproduced", 3)
    assert found.reason.startswith(f"the slope over size grows with {NOISE} (trend test")
    assert found.slope == pytest.approx(5, abs=0.2)
    assert last({0: 0.1, 0.1: 0.05, 0.5: -2.4}).answer == "not reproduced"


def test_equal_slopes_are_seldom_distinguished() -> None:
    p = [last(dict.fromkeys(DOSES, 1.0), seed=seed).p_up for seed in range(10)]
    assert sum(value < 0.05 for value in p) <= 2  # more than that has probability 1 %
    assert np.mean(p) == pytest.approx(0.5, abs=0.25)


@pytest.mark.parametrize("axis", ["", "pruner.name"])
def test_doses_need_series_that_differ_in_a_number(axis: str) -> None:
    found = gaps(table(lambda width, rho, s: 0.8, extra={axis: ["random", "snip"]} if axis else {}))
    one = verdicts(Question(found, "params_total"))[-1]
    assert (one.series, one.answer) == ("slope over dose", "inconclusive")
    assert one.reason.startswith("doses need series that differ in one number alone")


def test_the_chart_has_the_slope_of_each_dose(tmp_path: Path) -> None:
    found, known = study({0: 0.1, 0.1: 0.6, 0.5: 2.6})
    found.records.append(make())
    kind = Doses(title="Doses")
    question = Question(known, "params_total")
    of = study_of(found, question, kind.verdicts(question), "paper")
    chart = kind.charts(of.frame, of.statistics)[-1]
    assert [line.label for line in chart.lines] == [
        "ours ± s.e., ρ chosen on the other seeds", "ours ± s.e., ρ = 0.2 for all",
    ]  # fmt: skip
    for line in chart.lines:
        assert line.points["x"].tolist() == [*DOSES]
        assert line.points["y"].to_numpy() == pytest.approx([0.1, 0.6, 2.6], abs=0.1)
        assert line.points["n"].tolist() == [4, 4, 4]

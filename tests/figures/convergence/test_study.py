import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from samgap.errors import SettingError
from samgap.figures.convergence.curves import fit, rate, reference, settled, straightness
from samgap.figures.convergence.study import _cells
from samgap.figures.convergence.verdict import Verdict, judge
from samgap.figures.significance import above
from samgap.runs.sweeps import RHO, SEED
from tests.conftest import config

KEYS = ["rule", RHO, "model.width", "params_total"]
EPOCHS = np.arange(1, 101)
Command = Callable[..., tuple[int, str, str]]


def test_the_rate_of_an_exponential_is_its_own() -> None:
    assert rate(EPOCHS, 3 * np.exp(-0.07 * EPOCHS)) == pytest.approx(0.07, rel=1e-12)
    assert rate(EPOCHS, np.full(100, 0.5)) == pytest.approx(0, abs=1e-15)


def test_straightness_tells_an_exponential_from_a_power_law() -> None:
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=100))
    line, power = np.exp(-0.05 * EPOCHS), EPOCHS**-1.0
    assert straightness(EPOCHS, line) > 10
    assert straightness(EPOCHS, power) < -10
    # By hand: both residual sums of squares.
    y = np.log(line * noise)
    sums = [stats.linregress(x, y) for x in (np.log(EPOCHS), EPOCHS)]
    ratio = (1 - sums[0].rvalue ** 2) / (1 - sums[1].rvalue ** 2)
    assert straightness(EPOCHS, line * noise) == pytest.approx(math.log(ratio))
    assert straightness(EPOCHS, power * noise) < -2
    assert straightness(EPOCHS, np.full(100, 0.5)) == pytest.approx(0, abs=1e-3)


def test_the_first_quarter_is_left_out() -> None:
    late = settled(pd.DataFrame({"epoch": EPOCHS, "loss": 1.0}))
    assert (late["epoch"].min(), late["epoch"].max()) == (26, 100)


def test_p_values_are_student_s() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 7)
    assert above(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert above([1.0, 1.0]) == 0
    assert above([-1.0, -1.0]) == 1
    assert math.isnan(above([1.0]))


def judged(
    curves: dict[float, Callable[[np.random.Generator], np.ndarray]],
    seeds: int = 5,
    start: int = 0,
    only_one: set[float] = set(),  # noqa: B006
    lost: dict[tuple[str, float], int] = {},  # noqa: B006
) -> Verdict:
    """The verdict on curves by width; nets interpolate from width 6 on. Those of `only_one` have one seed."""
    parts = []
    for width, curve in curves.items():
        for seed in range(1 if width in only_one else seeds):
            loss = curve(np.random.default_rng([start, int(width), seed]))
            context = {"rule": "sam", RHO: 0.1, "model.width": width, "params_total": int(16 * width), SEED: seed}
            parts.append(pd.DataFrame({"epoch": EPOCHS, "loss": loss}).assign(acc=None, width=width, **context))
    fits = fit(pd.concat(parts), KEYS, 6)
    return judge(_cells(fits, KEYS, None), fits, KEYS, lost)


def exponential(speed: float, noise: float = 0.05, spread: float = 0.1) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda draw: np.exp(-speed * EPOCHS * (1 + spread * draw.normal()) + noise * draw.normal(size=100))


def power(speed: float) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda draw: EPOCHS ** (-speed * (1 + 0.1 * draw.normal())) * np.exp(0.05 * draw.normal(size=100))


def test_a_claim_that_is_right_is_reproduced() -> None:
    found = judged({4: power(0.5), 10: exponential(0.08), 20: exponential(0.1)})
    assert found.answer == "reproduced"
    assert (found.interpolating, found.others, found.seeds) == (2, 1, 5)
    assert found.series == "SAM at rho=0.1"
    assert found.linear_p < 0.01
    assert found.slower_p < 0.01


def test_a_claim_that_is_wrong_is_not() -> None:
    assert "power law fits better" in judged({4: power(0.5), 10: power(2)}).reason
    assert judged({4: power(0.5), 10: power(2)}).answer == "not reproduced"
    # One that falls sublinearly is enough, whatever the others do.
    assert judged({4: power(0.5), 10: exponential(0.08), 20: power(2)}).answer == "not reproduced"
    faster = judged({4: exponential(0.2), 10: exponential(0.05)})
    assert (faster.answer, faster.slower_p > 0.9) == ("not reproduced", True)
    assert "falls faster where nets do not interpolate" in faster.reason


def test_what_cannot_be_told_is_inconclusive() -> None:
    assert "no net interpolates" in judged({4: exponential(0.1)}).reason
    assert "none is left to compare" in judged({10: exponential(0.1)}).reason
    assert judged({4: exponential(0.08), 10: exponential(0.08, noise=0.5)}, start=1).answer == "inconclusive"
    one = judged({4: power(0.5), 10: exponential(0.08)}, seeds=1)
    assert (one.answer, one.reason) == ("inconclusive", "a test wants 2 seeds in every cell, and one has 1")


@pytest.mark.parametrize("width", [10, 20])
def test_a_cell_with_one_seed_decides_nothing_and_hides_nothing(width: int) -> None:
    right = judged({4: power(0.5), 10: exponential(0.08), 20: exponential(0.1)}, only_one={width})
    assert (right.answer, math.isnan(right.linear_p), right.seeds) == ("inconclusive", True, 1)
    other = 30 - width
    wrong = judged({4: power(0.5), width: exponential(0.1), other: power(2)}, only_one={width})
    assert wrong.answer == "not reproduced"


def test_a_rule_of_which_a_run_diverged_is_not_judged_by_the_others() -> None:
    found = judged({4: power(0.5), 10: exponential(0.08)}, lost={("sam", 0.1): 2, ("sgd", 0): 1})
    assert (found.answer, found.diverged) == ("inconclusive", 2)
    assert found.reason.startswith("2 run(s) diverged")


def test_cells_that_are_not_faster_are_seldom_called_so_whatever_their_noise() -> None:
    # One of two is faster for certain; the other is as fast as the cell that does not interpolate, and noisy.
    curves = {4: exponential(0.05, spread=0.01), 10: exponential(0.06, spread=0.01), 20: exponential(0.05, spread=0.6)}
    answers = [judged(curves, start=start).answer for start in range(60)]
    assert answers.count("reproduced") <= 8  # 5 % of 60 is 3


def test_equal_rates_are_seldom_called_different() -> None:
    answers = [
        judged({4: exponential(0.05, 0.3), 10: exponential(0.05, 0.3)}, start=start).answer for start in range(100)
    ]
    # 5 % either way: 5 of 100, and a standard deviation of 2.2.
    assert answers.count("reproduced") <= 12
    assert answers.count("not reproduced") <= 12


def test_a_loss_of_zero_has_no_rate() -> None:
    with pytest.raises(SettingError, match=r"The loss of a run \(rule=sam, .*\) reached 0"):
        judged({10: lambda draw: np.where(EPOCHS > 90, 0.0, 1.0)})


def test_published_curves_count_epochs_that_were_done() -> None:
    for name, first in (("fig1", 1), ("fig2", 1), ("fig3", 1)):
        theirs = reference(name)
        assert theirs is not None
        assert theirs["epoch"].min() == first
    assert reference(None) is None
    with pytest.raises(SettingError, match=r"draw\.published wants a table of losses by width and epoch, and 'fig8'"):
        reference("fig8")


def test_a_study_of_curves_from_sweep_to_verdict(command: Command, tmp_path: Path) -> None:
    grid = ["figure=fig1/smoke", "epochs=12", "data.train_size=300", "seed=0,1", f"root={tmp_path}"]
    assert command("train", "-m", *grid)[0] == 0
    code, out, err = command("draw", "figure=fig1/smoke", f"root={tmp_path}")
    assert (code, err) == (0, "")
    assert "fig1/smoke, factorization (300 images): training loss" in out
    assert out.count("fig1/smoke on factorization (300 images), ") == 3
    folder = tmp_path / "fig1" / "smoke"
    assert (folder / "fig1.png").stat().st_size > 10_000
    report = json.loads((folder / "fig1.json").read_text())
    assert report["about"] == config("figure=fig1/smoke")["about"]
    assert f"The paper leaves open: {report['about']['left_open']}" in out
    assert [cell["interpolates"] for cell in report["cells"]] == [False, True] * 3
    assert [cell["rule"] for cell in report["cells"]] == ["sgd"] * 2 + ["sam"] * 2 + ["sam_unnormalized"] * 2
    assert [verdict["series"].split(" at")[0] for verdict in report["verdicts"]][:2] == ["SGD", "SAM"]
    frame = pd.read_csv(folder / "fig1.csv")
    ours = frame[(frame["who"] == "ours") & (frame["rule"] == "sgd") & (frame["model.width"] == 4)]
    assert (ours["n"] == 2).all()
    losses = [
        pd.read_csv(path / "metrics.csv")["train_loss"]
        for path in (tmp_path / "runs").glob("*-w4-sgd-*")
        if path.is_dir()
    ]
    np.testing.assert_allclose(ours["loss"], np.exp(np.mean(np.log(losses), axis=0)), rtol=1e-5)
    assert (ours["loss_low"] < ours["loss"]).all()
    record = json.loads(next((tmp_path / "runs").glob("*-w4-sgd-*/record.json")).read_text())
    assert record["test_acc_final"] is record["train_acc_final"] is record["test_acc_best"] is None
    assert record["train_loss_final"] > 0
    # A gap has nothing to say here, and curves of the ascent's own settings are refused.
    code, _, err = command("draw", "name=fig1", "scale=smoke", grid[-1])
    assert (code, "a regression has none" in err) == (1, True)
    code, _, err = command("draw", *grid[:1], grid[-1], "draw.interpolates_from=foo")
    assert (code, err) == (1, "samgap: draw.interpolates_from must be a number, or null, got 'foo'.\n")
    code, _, err = command("draw", *grid[:1], grid[-1], "draw.interpolates_from=null")
    assert (code, err) == (
        1, "samgap: A regression has no accuracy that tells whether it interpolates: set draw.interpolates_from.\n",
    )  # fmt: skip
    curve = next((tmp_path / "runs").glob("*-w4-sgd-*/metrics.csv"))
    curve.unlink()
    code, _, err = command("draw", *grid[:1], grid[-1])
    assert (code, f"{curve} is the curve of a run that is done, and cannot be read" in err) == (1, True)
    command("train", "-m", "name=m", "data.train_size=96", "ascent.m=16,32", "ascent.rho=0,0.1", "epochs=8", grid[-1])
    code, _, err = command("draw", "name=m", grid[-1], "draw=convergence")
    assert (code, "ascent.m cannot be an axis of a figure of curves" in err) == (1, True)


def test_a_single_regression_says_its_losses(command: Command, tmp_path: Path) -> None:
    settings = ("data=factorization", "model=factorization", "loss=squared", "epochs=2", f"root={tmp_path}")
    code, out, _ = command("train", *settings)
    assert code == 0
    assert "parameters, test loss " in out
    code, _, err = command("train", *settings, "loss=cross_entropy")
    assert (code, "set loss=squared" in err) == (1, True)
    code, _, err = command("train", *settings, "data.label_noise=0.5")
    assert (code, "this data set is a regression: set it to 0" in err) == (1, True)


def test_verdicts_are_plain_values() -> None:
    values: dict[str, Any] = dataclasses.asdict(judged({4: power(0.5), 10: exponential(0.08)}))
    assert {"series", "answer", "reason", "linear_p", "slower_p"} <= values.keys()


def test_a_rule_of_which_all_runs_diverged_has_a_verdict_too(command: Command, tmp_path: Path) -> None:
    grid = ["figure=fig1/smoke", "epochs=8", "data.train_size=300", "seed=0,1", "ascent=sam_unnormalized"]
    command("train", "-m", *grid, "ascent.rho=0,1e4", f"root={tmp_path}")
    code, out, err = command("draw", "figure=fig1/smoke", f"root={tmp_path}")
    assert (code, err) == (0, "")
    assert "un-normalized SAM (the theory's) at rho=10000: all 4 run(s) diverged." in out
    verdicts = json.loads((tmp_path / "fig1" / "smoke" / "fig1.json").read_text())["verdicts"]
    assert [verdict["diverged"] for verdict in verdicts] == [0, 4]

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
from samgap.figures.convergence.arm import Arm
from samgap.figures.convergence.contrast import Growth, excluded, power, trend
from samgap.figures.convergence.curves import fit, has_stopped, late, means, quarters, rate, reference, warmed_up
from samgap.figures.convergence.linear import Linear, linear
from samgap.figures.convergence.verdict import judge
from samgap.figures.significance import p_above_0
from samgap.runs.sweeps import RHO, SEED
from tests.conftest import config

KEYS = ["rule", RHO, "model.width", "params_total"]
EPOCHS = np.arange(1, 101)
Command = Callable[..., tuple[int, str, str]]


def test_the_rate_of_an_exponential_is_its_own() -> None:
    assert rate(EPOCHS, 3 * np.exp(-0.07 * EPOCHS)) == pytest.approx(0.07, rel=1e-12)
    assert rate(EPOCHS, np.full(100, 0.5)) == pytest.approx(0, abs=1e-15)


def test_a_line_falls_late_as_in_the_middle_and_1_over_t_does_not() -> None:
    line, slow = np.arange(1, 2001), np.arange(1, 1_000_001)
    assert late(line, 3 * np.exp(-0.02 * line)) == pytest.approx(
        (1, math.log(691 / 576) / math.log(460 / 345)), abs=0.01
    )
    # In closed form, for 1/t from 100 to 10^6: log(4/3) / log(2).
    assert late(slow, 1 / slow) == pytest.approx(2 * [math.log(4 / 3) / math.log(2)], abs=0.01)
    # The fast one of two exponentials has died out before the quarters that are compared.
    assert late(line, np.exp(-0.5 * line) + 5e-3 * np.exp(-0.02 * line))[0] == pytest.approx(1, abs=1e-3)
    assert late(line, np.exp(-0.5 * line) + 1e-4 * np.exp(-0.02 * line))[0] == pytest.approx(1, abs=1e-3)
    both = np.exp(-0.06 * line) + 1e-4 * np.exp(-0.02 * line)
    assert 0.3 < late(line, both)[0] < 0.9


def test_a_curve_that_ends_above_a_millionth_says_nothing_of_its_late_rate() -> None:
    floor = np.exp(-0.2 * EPOCHS) + 1e-5
    assert np.isnan(late(EPOCHS, floor)).all()
    assert np.isnan(late(EPOCHS, np.exp(-3.0 * EPOCHS))).all()  # there are five epochs in the window
    assert np.isnan(quarters(EPOCHS, np.ones(100)))


@pytest.mark.parametrize("speed", [0.2, 0.5, 5.0])
def test_a_curve_has_stopped_however_early_it_fell(speed: float) -> None:
    draw = np.random.default_rng(0)
    floors = [(np.exp(-speed * EPOCHS) + 1e-5) * np.exp(0.02 * draw.normal(size=100)) for _ in range(20)]
    assert all(has_stopped(EPOCHS, floor) for floor in floors)
    assert not has_stopped(EPOCHS, 1 / EPOCHS)
    assert not has_stopped(EPOCHS, np.exp(-speed * EPOCHS))
    assert not has_stopped(EPOCHS, np.exp(0.02 * EPOCHS))


def test_the_first_quarter_is_left_out() -> None:
    late = warmed_up(pd.DataFrame({"epoch": EPOCHS, "loss": 1.0}))
    assert (late["epoch"].min(), late["epoch"].max()) == (26, 100)


def test_p_values_are_student_s() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 7)
    assert p_above_0(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert p_above_0([1.0, 1.0]) == 0
    assert p_above_0([-1.0, -1.0]) == 1
    assert math.isnan(p_above_0([1.0]))


Curve = Callable[[np.random.Generator], np.ndarray]
SQUARED = {
    "loss": {"name": "squared"}, "optimizer": {"momentum": 0, "weight_decay": 0}, "schedule": {"name": "constant"},
}  # fmt: skip


def judged(
    curves: dict[float, Curve],
    seeds: int = 5,
    start: int = 0,
    rule: str = "sam_unnormalized",
    lost: dict[tuple[str, float], int] = {},  # noqa: B006
    settings: dict[str, Any] = SQUARED,
) -> tuple[Growth, Linear]:
    """Return both verdicts on curves by width; nets interpolate from width 6 on."""
    parts = []
    for width, curve in curves.items():
        for seed in range(seeds):
            loss = curve(np.random.default_rng([start, int(width), seed]))
            context = {"rule": rule, RHO: 0.1, "model.width": width, "params_total": int(16 * width), SEED: seed}
            epochs = np.arange(1, 1 + len(loss))
            parts.append(pd.DataFrame({"epoch": epochs, "loss": loss}).assign(acc=None, width=width, **context))
    together = pd.concat(parts)
    found = judge(
        fit(together, KEYS, 6), KEYS, means(together, KEYS), reference("fig1"), [SQUARED, settings], 0.8, lost
    )
    first, second = found
    assert isinstance(first, Growth)
    assert isinstance(second, Linear)
    return first, second


def exponential(speed: float, noise: float = 0.05, spread: float = 0.1, floor: float = 0) -> Curve:
    return lambda draw: (
        (np.exp(-speed * EPOCHS * (1 + spread * draw.normal())) + floor) * np.exp(noise * draw.normal(size=100))
    )


def bent(speed: float) -> Curve:
    return lambda draw: EPOCHS ** (-speed * (1 + 0.1 * draw.normal())) * np.exp(0.05 * draw.normal(size=100))


def test_rates_that_grow_with_size_and_stay_are_both_reproduced() -> None:
    grows, stays = judged({4: bent(0.5), 10: exponential(0.2), 20: exponential(0.4)})
    assert (grows.answer, stays.answer) == ("reproduced", "reproduced")
    assert (grows.interpolating, grows.others, grows.seeds, grows.diverged) == (2, 1, 5, 0)
    assert grows.series == "un-normalized SAM (the theory's) at rho=0.1"
    assert grows.p < 0.001
    assert stays.late == pytest.approx(1, abs=0.1)
    assert "find a growth by" in grows.reason
    assert "find a line in" in stays.reason


def test_the_ratio_is_of_the_published_ranks_and_stands_beside_theirs() -> None:
    constant = {4: exponential(0.05, 0, 0), 6: exponential(0.3, 0, 0.1), 10: exponential(0.2, 0, 0), 20: bent(9)}
    found, _ = judged(constant)
    assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((4, 4, 4))
    assert f", growths by more than {found.excluded:.3g} are excluded" in found.reason
    assert found.published_ratio == pytest.approx(2.1, abs=0.01)  # the published rates are .0264 and .0126
    # The ratio of ranks 4 and 20 is that of ranks 4 and 10.
    assert found.growth == pytest.approx(found.published_ratio ** (math.log(5) / math.log(2.5)))


def test_rates_that_fall_with_size_are_not_reproduced() -> None:
    found, _ = judged({4: exponential(0.2), 10: exponential(0.05)})
    assert (found.answer, found.p > 0.9) == ("not reproduced", True)
    assert "the rate falls with size" in found.reason
    rises, _ = judged({4: exponential(-0.01), 10: exponential(0.05)})
    assert (rises.answer, "which leaves no ratio" in rises.reason) == ("reproduced", True)


def test_a_power_law_is_no_line_and_a_sum_of_exponentials_is_open() -> None:
    long = np.arange(1, 4001)

    def made(loss: np.ndarray) -> Curve:
        return lambda draw: loss * np.exp(0.05 * draw.normal(size=len(loss)))

    _, law = judged({4: bent(1), 10: made(long**-2.0)})
    assert law.answer == "not reproduced"
    assert "no straighter than a power of the epochs" in law.reason
    _, between = judged({4: bent(1), 10: made(np.exp(-0.01 * long) + 1e-2 * np.exp(-0.006 * long))})
    assert between.answer == "inconclusive"
    assert between.late < 0.8


def test_a_linear_rate_is_tested_only_where_theorem_6_says_something() -> None:
    curves = {4: bent(0.5), 10: exponential(0.2)}
    reasons = {}
    for change, rule in (
        ({"loss": {"name": "cross_entropy"}}, "sgd"),
        ({"optimizer": {"momentum": 0.9, "weight_decay": 0}}, "sgd"),
        ({"schedule": {"name": "step"}}, "sgd"),
        ({}, "sam"),
    ):
        grows, stays = judged(curves, rule=rule, settings=SQUARED | change)  # of one run; the others are as in SQUARED
        assert (grows.answer, stays.answer) == ("reproduced", "void")
        reasons[" ".join(change) or rule] = stays.reason
    assert "cross-entropy is not PL" in reasons["loss"]
    assert "without momentum" in reasons["optimizer"]
    assert "of a constant learning rate" in reasons["schedule"]
    assert "un-normalized ascent" in reasons["sam"]
    assert judged(curves, rule="sgd")[1].answer == "reproduced"


def test_what_has_stopped_at_the_floor_of_normalized_sam_is_left_out() -> None:
    curves = {4: exponential(0.02), 10: exponential(0.05), 20: exponential(0.8, floor=1e-6)}
    above_it, _ = judged(curves, rule="sam")
    assert above_it.answer == "reproduced"
    assert "without 320 parameters" in above_it.reason
    nothing, _ = judged({4: exponential(0.02), 20: exponential(0.8, floor=1e-6)}, rule="sam")
    assert "what interpolates (320 parameters) has stopped at SAM's floor" in nothing.reason
    alone, _ = judged({20: exponential(0.8, floor=1e-6)}, rule="sam")
    assert alone.reason == nothing.reason
    # The un-normalized ascent has no such floor, so a rate that drops counts against it.
    assert judged(curves)[0].answer == "inconclusive"


def test_what_is_unknown_is_inconclusive() -> None:
    for curves, seeds, reason in (
        ({4: exponential(0.1)}, 5, "no net interpolates"),
        ({10: exponential(0.1)}, 5, "none is left to compare"),
        ({4: bent(0.5), 10: exponential(0.2)}, 1, "2 seeds in every cell"),
    ):
        found, _ = judged(curves, seeds)
        assert (found.answer, reason in found.reason) == ("inconclusive", True)
    _, short = judged({4: bent(0.5), 10: exponential(0.05)})
    assert (short.answer, "5 of 5 runs do not come down to 1e-06" in short.reason) == ("inconclusive", True)
    for found in judged({4: bent(0.5), 10: exponential(0.2)}, lost={("sam_unnormalized", 0.1): 2}):
        assert (found.answer, found.diverged, "2 run(s) diverged" in found.reason) == ("inconclusive", 2, True)


@pytest.mark.parametrize("spreads", [(0.2, 0.2, 0.2, 0.2), (0.8, 0.4, 0.1, 0.1), (0.1, 0.1, 0.1, 0.8)])
def test_equal_rates_are_seldom_called_different_whatever_their_noise(spreads: tuple[float, ...]) -> None:
    draw = np.random.default_rng(0)
    answers = [trend(1 + np.array(spreads) * draw.normal(size=(5, 4)), 1000)[0] for _ in range(300)]
    # 5 % on either side is 15 of 300, with a standard deviation of 4; p must be below the level by its own error.
    assert 0 < answers.count("reproduced") <= 26
    assert 0 < answers.count("not reproduced") <= 26


def test_a_growth_is_found_as_often_as_said() -> None:
    draw, sizes = np.random.default_rng(0), np.array([1.0, 3.0, 10.0])
    numbers = power(1 + 0.2 * draw.normal(size=(4000, 5, 3)), sizes, np.array([1.0, math.nan, 1.5]))
    assert numbers["growth"] == pytest.approx(1.5)
    for growth, share in ((numbers["detectable"], 0.8), (1.5, numbers["power"])):
        rates = growth ** np.log10(sizes) * (1 + 0.2 * draw.normal(size=(150, 5, 3)))
        found = [trend(each, 3000)[0] for each in rates].count("reproduced") / 150
        assert found == pytest.approx(share, abs=0.1)


def test_growths_above_the_limit_are_wrongly_excluded_in_5_percent() -> None:
    draw, sizes = np.random.default_rng(0), np.array([1.0, 3.0, 10.0])
    limits = [
        excluded(1.5 ** np.log10(sizes) * np.exp(0.2 * draw.normal(size=(5, 3))), sizes)["excluded"]
        for _ in range(1000)
    ]
    assert np.mean(np.array(limits) < 1.5) == pytest.approx(0.05, abs=0.025)
    assert excluded(np.array([[1.0, 0.0, 2.0]] * 3), sizes) == {}


def test_a_rate_at_the_bound_is_seldom_called_linear_and_a_line_as_often_as_said() -> None:
    def found(late: float, seed: int) -> Linear:
        values = late + 0.2 * np.random.default_rng(seed).normal(size=8)
        runs = pd.DataFrame({"late": values, "late_power": 0.5, "params_total": 96, "interpolates": True})
        return linear(Arm("sgd", 0, [runs], [], 0), [SQUARED], 0.8)

    bound, line = ([found(late, seed) for seed in range(300)] for late in (0.8, 1.0))
    assert 3 <= sum(one.answer == "reproduced" for one in bound) <= 27  # 5 % of 300 is 15, with a deviation of 4
    share, said = np.mean([one.answer == "reproduced" for one in line]), np.mean([one.power for one in line])
    assert share == pytest.approx(said, abs=0.06)


def test_a_loss_of_zero_has_no_rate() -> None:
    with pytest.raises(SettingError, match=r"The loss of a run \(rule=sam, .*\) reached 0"):
        judged({10: lambda draw: np.where(EPOCHS > 90, 0.0, 1.0)}, rule="sam")


def test_published_curves_count_epochs_that_were_done() -> None:
    for name, first in (("fig1", 1), ("fig2", 1), ("fig3", 1)):
        theirs = reference(name)
        assert theirs is not None
        assert theirs["epoch"].min() == first
    assert reference(None) is None
    with pytest.raises(SettingError, match=r"draw\.published needs a table of losses by width and epoch, and 'fig8'"):
        reference("fig8")


def test_a_study_of_curves_from_sweep_to_verdict(command: Command, tmp_path: Path) -> None:
    grid = ["figure=fig1/smoke", "epochs=12", "data.train_size=300", "seed=0,1", f"root={tmp_path}"]
    assert command("train", "-m", *grid)[0] == 0
    code, out, err = command("draw", "figure=fig1/smoke", f"root={tmp_path}")
    assert (code, err) == (0, "")
    assert "fig1/smoke, factorization (300 images): training loss" in out
    assert out.count("fig1/smoke on factorization (300 images), ") == 6
    folder = tmp_path / "fig1" / "smoke"
    assert (folder / "fig1.png").stat().st_size > 10_000
    report = json.loads((folder / "fig1.json").read_text())
    assert report["about"] == config("figure=fig1/smoke")["about"]
    assert f"The paper leaves open: {report['about']['left_open']}" in out
    assert [cell["interpolates"] for cell in report["cells"]] == [False, True] * 3
    assert [cell["rule"] for cell in report["cells"]] == ["sgd"] * 2 + ["sam"] * 2 + ["sam_unnormalized"] * 2
    asked = [(verdict["series"].split(" at")[0], verdict["claim"][:10]) for verdict in report["verdicts"]]
    assert asked[:4] == [(rule, claim) for rule in ("SGD", "SAM") for claim in ("the rate g", "the loss f")]
    assert [verdict["answer"] for verdict in report["verdicts"]][3] == "void"
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
    # These runs have no gap, and curves over settings of the ascent are refused.
    code, _, err = command("draw", "name=fig1", "scale=smoke", grid[-1])
    assert (code, "a regression has none" in err) == (1, True)
    code, _, err = command("draw", *grid[:1], grid[-1], "draw.interpolates_from=foo")
    assert (code, err) == (1, 'samgap: draw.interpolates_from must be a number, or null, got "foo".\n')
    code, _, err = command("draw", *grid[:1], grid[-1], "draw.linear_from=1")
    assert (code, err) == (1, "samgap: draw.linear_from must be a number above 0 and below 1, got 1.\n")
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


def test_a_rule_of_which_all_runs_diverged_has_a_verdict_too(command: Command, tmp_path: Path) -> None:
    grid = ["figure=fig1/smoke", "epochs=8", "data.train_size=300", "seed=0,1", "ascent=sam_unnormalized"]
    command("train", "-m", *grid, "ascent.rho=0,1e4", f"root={tmp_path}")
    code, out, err = command("draw", "figure=fig1/smoke", f"root={tmp_path}")
    assert (code, err) == (0, "")
    assert "un-normalized SAM (the theory's) at rho=10000: all 4 run(s) diverged." in out
    verdicts = json.loads((tmp_path / "fig1" / "smoke" / "fig1.json").read_text())["verdicts"]
    assert [verdict["diverged"] for verdict in verdicts] == [0, 0, 4]

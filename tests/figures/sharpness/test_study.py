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
from samgap.figures import output
from samgap.figures.output import Study
from samgap.figures.sharpness.kinds import Sharpness, Surfaces
from samgap.figures.sharpness.probed import limit, references, series
from samgap.figures.sharpness.verdict import Flatness, falling, flatter
from samgap.theory.stability import largest_curvature
from tests.figures.probed import write

Command = Callable[..., tuple[int, str, str]]
KIND = Sharpness(title="", published=["fig6", "fig4_fig5"])


def fall(rho: float, seed: int) -> float:
    return 16 - 40 * rho + (seed % 3) * (1 + rho)


def study(root: Path, *arguments: Any, **changes: Any) -> Study:
    return KIND.evaluate(write(root, *(arguments or (fall,)), **changes), "mine", "own", "paper")


def cells(found: Study) -> pd.DataFrame:
    return pd.DataFrame(found.statistics["cells"])


def verdicts(root: Path, *arguments: Any, **changes: Any) -> tuple[Flatness, Flatness, Flatness]:
    first, second, third = study(root, *arguments, **changes).verdicts
    return first, second, third


def test_a_claim_that_is_right_is_reproduced(tmp_path: Path) -> None:
    flatter, falling, allowed = verdicts(tmp_path)
    assert [one.answer for one in (flatter, falling)] == ["reproduced"] * 2
    # SGD's three are below 20; 14 (1 + 0.05 x 14) and 8 (1 + 0.2 x 8) are above.
    assert (allowed.answer, allowed.within) == ("not reproduced", 3)
    gains = [fall(0, seed) - np.mean([fall(rho, seed) for rho in (0.05, 0.2)]) for seed in range(3)]
    assert flatter.p == pytest.approx(stats.ttest_1samp(gains, 0, alternative="greater").pvalue)
    assert f"by {np.mean(gains):.3g} in the mean over rho and 3 seeds" in flatter.reason
    # All three seeds have the same one of 6 orders.
    assert falling.p == pytest.approx(1 / 6**3)
    assert falling.other_p == 1
    assert falling.seeds == 3


def test_a_claim_that_is_wrong_is_not(tmp_path: Path) -> None:
    flatter, falling, _ = verdicts(tmp_path, lambda rho, seed: 10 + 40 * rho + seed * rho, lambda rho, seed: 10 + rho)
    assert (flatter.answer, falling.answer) == ("not reproduced", "not reproduced")
    assert "SAM's lambda_max is larger, by 5.12" in flatter.reason
    assert falling.other_p == pytest.approx(1 / 6**3)
    assert "s_2 rises as rho grows, from 10 at rho=0 to 10.2 at rho=0.2" in falling.reason


def test_what_may_be_chance_is_inconclusive(tmp_path: Path) -> None:
    flatter, falling, _ = verdicts(
        tmp_path, lambda rho, seed: 10 + (seed - 1) * 50 * rho, lambda rho, seed: 10 + (seed - 1) * rho
    )
    assert (flatter.answer, falling.answer) == ("inconclusive", "inconclusive")
    assert flatter.p > 0.05
    assert "may be chance" in flatter.reason


@pytest.mark.parametrize(
    ("tops", "answer", "within"),
    [((9, 9, 7), "reproduced", 9), ((9, 9, 9), "inconclusive", 6), ((9, 21, 9), "not reproduced", 3)],
)
def test_what_stability_allows(tmp_path: Path, tops: tuple[float, ...], answer: str, within: int) -> None:
    # Learning rate 0.1: 9 (1 + 0.05 x 9) = 13 and 7 (1 + 0.2 x 7) = 17 are below 20, 9 (1 + 0.2 x 9) = 25 is above.
    by_rho = dict(zip((0, 0.05, 0.2), tops, strict=True))
    allowed = verdicts(tmp_path, lambda rho, seed: by_rho[rho])[2]
    assert (allowed.answer, allowed.within, allowed.runs) == (answer, within, 9)
    assert f"{within} of 9 runs end where" in allowed.reason


def test_the_limit_of_curvature_is_the_theory_s(tmp_path: Path) -> None:
    found = study(tmp_path, lambda rho, seed: largest_curvature(0.1, rho) * (1 - 1e-9))
    assert cells(found)["largest"].tolist() == pytest.approx([20, 12.3607, 7.8078], rel=1e-5)
    assert (found.verdicts[2].answer, cells(found)["within"].tolist()) == ("reproduced", [1, 1, 1])
    found = study(tmp_path / "b", lambda rho, seed: largest_curvature(0.1, rho) * (1 + 1e-9))
    assert (found.verdicts[2].answer, found.verdicts[2].within) == ("not reproduced", 0)
    assert found.verdicts[2].reason.startswith("0 of 9 runs end where")


def test_bounds_are_roots_and_void_where_they_say_nothing(tmp_path: Path) -> None:
    assert limit(2, 0.1, 0) == pytest.approx(10)
    assert limit(2, 0.1, 0.02) == pytest.approx((0.1 * 0.06) ** -0.5)
    assert limit(3, 0.1, 0.02) == pytest.approx((2 * 0.01 * 0.02) ** (-1 / 3))
    assert limit(4, 0.1, 0.02) == pytest.approx((0.1 * 0.02) ** -0.5)
    assert math.isnan(limit(3, 0.1, 0))
    assert all(math.isnan(limit(order, 0.1, rho)) for order in (2, 3, 4) for rho in (0.05, 0.2))
    text = output.as_text(study(tmp_path))
    assert "void" in text
    assert (
        "bounds those of its batches of one example; these runs have ascent sam, momentum 0 and batches of 32" in text
    )
    assert "the mean over 10 outputs; curvature of the sum is larger by that factor" in text


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda settings: settings["optimizer"].update(momentum=0.9), "no momentum, and here it is 0.9"),
        (lambda settings: settings["schedule"].update(name="cosine"), "and here the schedule is cosine"),
    ],
)
def test_the_limit_is_not_applied_to_other_steps(tmp_path: Path, change: Any, part: str) -> None:
    allowed = verdicts(tmp_path, change=change)[2]
    assert (allowed.answer, part in allowed.reason) == ("inconclusive", True)


def test_a_stop_rule_is_a_series_of_its_own(tmp_path: Path) -> None:
    found = study(tmp_path, stops=(None, 0.01), ends_at=0.02)
    named = ["equal epochs", "equal training loss (stop_loss=0.01)"]
    assert list(dict.fromkeys(cells(found)["series"])) == named
    assert [one.series for one in found.verdicts] == [named[0]] * 3 + [named[1]] * 3
    # No run came down to 0.01 within 30 epochs.
    assert cells(found)["missed"].tolist() == [0] * 3 + [3] * 3
    assert found.verdicts[3].reason.endswith(", though 9 of 9 runs did not come down to that loss")
    assert "though" not in found.verdicts[0].reason
    assert "9 run(s) ended without reaching stop_loss" in "\n".join(found.remarks)
    assert cells(study(tmp_path / "b", stops=(None, 0.01), ends_at=0.01))["missed"].sum() == 0
    assert series({"stop_loss": "null", "model.width": 4}) == "equal epochs, model.width=4"


def test_a_run_without_its_probes_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        study(tmp_path, unseen={(0.05, 1), (0.2, 0)})
    assert str(caught.value).startswith("2 run(s) of mine/own, digits-mlp-w0.3-sam0.05-seed1-")
    assert "carry out the sweep again with probe=[hessian,moments]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_probes_that_differ_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"probe\.moments\.examples varies among the runs \(50 and 51\)"):
        study(tmp_path, examples=lambda seed: 50 + (seed > 0))


def test_a_probe_of_another_run_is_refused(tmp_path: Path) -> None:
    write(tmp_path, fall)
    path = next(tmp_path.glob("runs/*/probes/hessian.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"identity": "0"}))
    with pytest.raises(SettingError, match="is not of this run: move it away"):
        KIND.evaluate(tmp_path, "mine", "own", "paper")


def test_what_is_not_converged_is_counted_and_named(tmp_path: Path) -> None:
    notes = "\n".join(study(tmp_path, not_converged={(0.2, 1)}).remarks)
    assert "1 number(s) are not converged, and used as they are: lambda_max of digits-mlp-w0.3-sam0.2-seed1-" in notes


def test_a_number_that_was_not_found_decides_nothing(tmp_path: Path) -> None:
    flatter, falling, allowed = verdicts(tmp_path, lambda rho, seed: None if (rho, seed) == (0.2, 1) else 5 - rho)
    assert "2 seeds (without seed 1, which lacks a run or its lambda_max)" in flatter.reason
    assert falling.seeds == 3
    assert (allowed.answer, "1 run(s) have no lambda_max" in allowed.reason) == ("inconclusive", True)


def test_a_seed_that_lacks_a_run_waits(tmp_path: Path) -> None:
    found = study(tmp_path, missing={(0.05, 0)})
    assert [one.seeds for one in found.verdicts[:2]] == [2, 2]
    assert "Provisional: 1 runs are missing" in output.verdict_line(found.table, found.verdicts[0])
    flatter, falling, _ = verdicts(tmp_path / "b", missing={(0.05, 0), (0.05, 1)})
    assert [one.answer for one in (flatter, falling)] == ["inconclusive"] * 2
    assert "needs 2 seeds that lack no run and no s_2, and there is 1" in falling.reason


def test_a_series_of_which_a_run_diverged_is_not_judged_by_the_others(tmp_path: Path) -> None:
    found = study(tmp_path, diverged={(0.2, 2)})
    assert {one.answer for one in found.verdicts} == {"inconclusive"}
    assert all("1 run(s) diverged (digits-mlp-w0.3-sam0.2-seed2-" in one.reason for one in found.verdicts)
    assert cells(found)["diverged"].tolist() == [0, 0, 1]
    assert cells(found)["n"].tolist() == [3, 3, 2]
    # If all runs diverged, nothing was measured, and that is no error.
    every = study(tmp_path / "b", diverged={(rho, seed) for rho in (0, 0.05, 0.2) for seed in range(3)})
    assert {one.diverged for one in every.verdicts} == {9}
    output.write(every.frame, output.report(every), tmp_path)


def test_too_few_rhos_have_no_trend_and_no_pairs(tmp_path: Path) -> None:
    assert "needs 3 values of rho, and there are 2" in verdicts(tmp_path, rhos=(0, 0.2))[1].reason
    assert "needs runs with rho 0 and with rho above 0" in verdicts(tmp_path / "c", rhos=(0.05, 0.1, 0.2))[0].reason


def test_equal_arms_are_seldom_called_different() -> None:
    draw, rhos = np.random.default_rng(0), [0, 0.05, 0.1, 0.2]
    grid = [
        {"ascent.rho": rho, "seed": seed, "series": "", "status": "done", "missed": False}
        for rho in rhos
        for seed in range(4)
    ]
    answers: list[str] = []
    for _ in range(100):
        noise = {name: 9 + draw.normal(size=len(grid)) for name in ("lambda_max", "s_2")}
        runs = pd.DataFrame(grid).assign(folder="", **noise)
        answers += [flatter(runs, rhos).answer, falling(runs, rhos).answer]
    # 5 % on either side: 10 of 200, with a standard deviation of 3.1.
    assert answers.count("reproduced") <= 19
    assert answers.count("not reproduced") <= 19


def test_published_numbers_stand_beside(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert cells(found)["published_s_2"].tolist() == [28.98, 18.28, 11.97]
    assert found.frame["published_lambda_max"].tolist() == [16.05, 3.71, 3.71]
    assert "Published lambda_max: SGD 16.05, SAM 3.71; the rho of SAM's is not said." in found.remarks
    with pytest.raises(SettingError, match=r"draw\.published needs tables of s_2 by rho or of lambda_max, and 'fig8'"):
        references("fig8")
    assert references(None) == (None, {})


def test_everything_is_written(tmp_path: Path) -> None:
    found = study(tmp_path, stops=(None, 0.01))
    assert isinstance(dataclasses.asdict(found.verdicts[0]), dict)
    output.write(found.frame, output.report(found), tmp_path)
    report = json.loads((tmp_path / "mine.json").read_text())
    assert {"cells", "measured", "notes", "verdicts", "provenance"} <= report.keys()
    assert len(report["measured"]) == 18
    assert report["measured"][0]["lambda_max"] == 16
    assert output.as_text(found).count("mine/own on digits (500 images), equal") == 6


def test_surfaces_are_of_the_smallest_seed_with_both_nets(tmp_path: Path) -> None:
    write(tmp_path, fall, missing={(0, 0)}, hole=True)
    found = Surfaces(title="", published="fig4_fig5").evaluate(tmp_path, "mine", "own", "paper")
    frame = found.frame
    assert frame[["ascent.rho", "seed"]].drop_duplicates().to_numpy().tolist() == [[0, 1], [0.2, 1]]
    losses = frame.set_index(["ascent.rho", "directions", "x", "y"])["loss"]
    # The curvature along the second direction is twice as large.
    assert losses[0, "raw", -0.1, 0] == pytest.approx(0.01 + 9 * 0.01)
    assert losses[0, "raw", 0, -0.1] == pytest.approx(0.01 + 9 * 0.02)
    assert np.isnan(losses[0.2, "filter", -0.1, -0.1])
    assert "At 2 point(s) the loss is not finite" in "\n".join(found.remarks)
    assert [one.claim for one in found.verdicts] == ["SAM's lambda_max is smaller"]
    assert len(frame) == 2 * 2 * 9
    output.write(found.frame, output.report(found), tmp_path)
    write(tmp_path / "b", fall, missing={(0, seed) for seed in range(3)})
    with pytest.raises(SettingError, match="No seed of mine/own has its SGD run and that of the largest rho done"):
        Surfaces(title="").evaluate(tmp_path / "b", "mine", "own", "paper")


TINY = ("model.width=0.02", "data.train_size=32", "batch_size=16", "epochs=2", "eval_every=2", "seed=0,1")


def test_figures_from_sweep_to_verdict(command: Command, tmp_path: Path) -> None:
    root = f"root={tmp_path}"
    grid = ("ascent.rho=0,0.05,0.2", "stop_loss=null,0.03", "probe.moments.examples=4")
    code, _, err = command("train", "-m", "figure=fig6/smoke", *TINY, *grid, root)
    assert (code, "12/12 done" in err) == (0, True), err
    code, out, err = command("draw", "figure=fig6/smoke", root, "logger=wandb")
    assert (code, err) == (0, "")
    assert out.count("fig6/smoke on digits (32 images), equal epochs: ") == 3
    assert out.count("fig6/smoke on digits (32 images), equal training loss (stop_loss=0.03): ") == 3
    report = json.loads((tmp_path / "fig6" / "smoke" / "fig6.json").read_text())
    assert len(report["cells"]) == 6
    assert report["runs"]["missing"] == {}
    # The surfaces are of existing runs, which only need another probe.
    before = {path.name for path in (tmp_path / "runs").iterdir()}
    surface = (*TINY, "ascent.rho=0,0.2", "probe.landscape.points=3", root)
    code, _, err = command("train", "-m", "figure=fig4/smoke", *surface)
    assert (code, "4 unfinished" in err) == (0, True), err
    assert {path.name for path in (tmp_path / "runs").iterdir()} == before
    assert command("train", "-m", "figure=fig5/smoke", *surface)[0] == 0
    code, out, err = command("draw", "figure=fig5/smoke", root, "logger=wandb")
    assert (code, err) == (0, "")
    assert "fig4/smoke on digits (32 images): " in out
    assert (tmp_path / "fig4" / "smoke" / "fig4.png").stat().st_size > 10_000
    # A sweep without probes gets an error.
    code, _, err = command("train", "-m", "name=bare", "data.train_size=32", "epochs=1", "ascent.rho=0,0.1", root)
    code, _, err = command("draw", "name=bare", "draw=sharpness", root)
    assert (code, "were not measured by the probes hessian and moments" in err) == (1, True), err

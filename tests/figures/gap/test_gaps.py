"""Gaps equal numbers that were computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from samgap.errors import SettingError
from samgap.figures.gap import charts, null, parabola
from samgap.figures.gap.beside import tabled
from samgap.figures.gap.gaps import Gaps, gaps
from samgap.figures.gap.series import Question
from samgap.figures.significance import pages_l
from samgap.figures.table import Table
from samgap.runs.sweeps import REPLICATE, RHO, SEED
from tests.figures.tables import table

# One width; for each seed the accuracies of SGD, rho .1, rho .2.
HAND = {(0, 0): 0.90, (0.1, 0): 0.91, (0.2, 0): 0.93, (0, 1): 0.92, (0.1, 1): 0.95, (0.2, 1): 0.94, (0, 2): 0.91,
        (0.1, 2): 0.92, (0.2, 2): 0.90}  # fmt: skip


def hand(width: float, rho: float, seed: int) -> float:
    return HAND[rho, seed]


def test_the_paper_s_rule() -> None:
    # Means over seeds: rho .1 92.667, rho .2 92.333; so rho* = .1 and gaps 1, 3, 1.
    cell = gaps(table(hand, widths=[1])).cells.iloc[0]
    assert cell["paper_rho"] == 0.1
    assert cell["paper_gap"] == pytest.approx(5 / 3)
    # Standard deviation of 1, 3, 1 is 1.1547; Student's t for two degrees of freedom is 4.3027.
    assert cell["paper_se"] == pytest.approx(2 / 3)
    assert cell["paper_low"] == pytest.approx(5 / 3 - 4.302653 * 2 / 3)
    assert cell["paper_high"] == pytest.approx(5 / 3 + 4.302653 * 2 / 3)
    assert (cell["sgd_acc"], cell["paper_acc"]) == pytest.approx((91.0, 278 / 3))
    assert (cell["sgd_std"], cell["n"]) == (pytest.approx(1.0), 3)


def test_leaving_one_seed_out() -> None:
    # Seed 0: others' means .1 93.5, .2 92 -> .1, gap 1. Seed 1: .1 91.5, .2 91.5, a tie -> the smaller, gap 3.
    # Seed 2: .1 93, .2 93.5 -> .2, gap -1.
    found = gaps(table(hand, widths=[1]))
    mine = found.by_seed[found.by_seed["protocol"] == "loso"]
    assert mine["rho"].tolist() == [0.1, 0.1, 0.2]
    assert mine["gap"].tolist() == pytest.approx([1, 3, -1])
    assert found.cells.iloc[0]["loso_gap"] == pytest.approx(1)
    assert found.unbiased == "loso"


def test_a_holdout_chooses_and_the_test_set_only_reports() -> None:
    found = gaps(table(hand, widths=[1], holdout=lambda width, rho, seed: 0.5 + rho))
    cell = found.cells.iloc[0]
    assert found.unbiased == "holdout"
    assert cell["holdout_rho"] == 0.2
    assert cell["holdout_gap"] == pytest.approx((3 + 2 - 1) / 3)
    assert cell["paper_rho"] == 0.1
    # The accuracies in the table are those of the same runs.
    assert cell["holdout_acc"] - cell["sgd_acc"] == pytest.approx(cell["holdout_gap"])


def test_the_holdout_of_a_seed_does_not_choose_for_that_seed() -> None:
    # Only seed 0 is good at .2 on its holdout: the others choose .1 for it, and it makes them choose .2.
    holdout_acc = {(0.1, 0): 0.5, (0.2, 0): 0.9, (0.1, 1): 0.6, (0.2, 1): 0.5, (0.1, 2): 0.6, (0.2, 2): 0.5}
    found = gaps(table(hand, widths=[1], holdout=lambda w, rho, seed: holdout_acc.get((rho, seed), 0)))
    mine = found.by_seed[found.by_seed["protocol"] == "holdout"]
    assert mine["rho"].tolist() == [0.1, 0.2, 0.2]


def test_a_fixed_rho_is_the_same_in_all_cells() -> None:
    found = gaps(table(hand), fixed_rho=0.2)
    assert found.cells["fixed_gap"].tolist() == pytest.approx([4 / 3] * 3)
    assert gaps(table(hand)).fixed_rho == 0.2  # the default is the median of the swept rhos, the upper of two


def test_leaving_one_seed_out_widens_the_interval() -> None:
    cell = gaps(table(hand, widths=[1])).cells.iloc[0]
    half_width = (cell["loso_high"] - cell["loso_low"]) / 2 / cell["loso_se"]
    # Student's t would be 4.30 for three independent seeds; these seeds are not independent.
    assert half_width == pytest.approx(null.gap_half_width(3, 2))
    assert 4.4 < half_width < 7


def test_choosing_on_the_test_set_is_biased_upward_and_the_others_are_less() -> None:
    # All runs are noise around the same accuracy: the true gap is 0 in every cell.
    random = np.random.default_rng(0)
    noise = {}

    def test(width: float, rho: float, seed: int) -> float:
        return noise.setdefault((width, rho, seed), 0.9 + 0.01 * random.standard_normal())

    def holdout(width: float, rho: float, seed: int) -> float:
        # Noise of a run is partly the same on test set and holdout.
        return test(width, rho, seed) + 0.002 * random.standard_normal()

    rhos = [0, *(round(0.01 * k, 2) for k in range(1, 10))]
    found = gaps(table(test, widths=[1, 2, 3, 4, 5], rhos=rhos, seeds=range(40), holdout=holdout)).cells
    assert found["paper_gap"].mean() > 0.2
    for unbiased in ("loso", "holdout", "quadratic"):
        assert abs(found[f"{unbiased}_gap"].mean()) < 3 * found[f"{unbiased}_se"].mean() / math.sqrt(5)


def test_one_seed_gives_a_gap_without_an_interval() -> None:
    cell = gaps(table(hand, widths=[1], seeds=[1])).cells.iloc[0]
    assert cell["paper_gap"] == pytest.approx(3)
    assert math.isnan(cell["paper_se"])
    assert math.isnan(cell["paper_low"])
    assert "loso_gap" not in cell


def test_a_seed_that_lacks_a_run_waits() -> None:
    found = gaps(table(hand, missing=[(2, 0.2, 1)]))
    assert found.cells["n"].tolist() == [3, 2, 3]
    assert found.notes == ["model.width=2: seed 1 left out, runs are missing"]


def test_a_cell_without_any_whole_seed_is_left_out_and_named() -> None:
    for absent in ([(2, 0, seed) for seed in range(3)], [(2, rho, seed) for rho in (0.1, 0.2) for seed in range(3)]):
        found = gaps(table(hand, missing=absent))
        assert found.cells["model.width"].tolist() == [1, 3]
        assert found.notes == [
            "model.width=2: seed 0, 1, 2 left out, runs are missing",
            "model.width=2: left out, no run of SAM can be compared",
        ]  # fmt: skip


def test_a_rho_that_some_seeds_were_not_asked_for_cannot_be_chosen() -> None:
    whole = table(hand)
    runs = whole.runs[~((whole.runs["seed"] == 1) & (whole.runs["ascent.rho"] == 0.2))]
    found = gaps(replace(whole, runs=runs))
    assert found.notes == [f"model.width={width}: rho 0.2 left out, since not all seeds have it" for width in (1, 2, 3)]
    assert found.cells["n"].tolist() == [3, 3, 3]
    assert found.cells["paper_rho"].tolist() == [0.1] * 3
    assert found.by_seed["gap"].notna().all()


def test_large_seeds_keep_their_digits_in_notes() -> None:
    found = gaps(table(lambda width, rho, seed: 0.9, seeds=[1000001, 1000002], missing=[(2, 0.2, 1000002)]))
    assert found.notes == ["model.width=2: seed 1000002 left out, runs are missing"]


def test_a_seed_that_is_wholly_absent_is_named() -> None:
    found = gaps(table(hand, missing=[(2, rho, 1) for rho in (0, 0.1, 0.2)]))
    assert found.cells["n"].tolist() == [3, 2, 3]
    assert found.notes == ["model.width=2: seed 1 left out, runs are missing"]


def test_axes_of_text_and_null_keep_their_cells() -> None:
    found = gaps(table(hand, widths=[1], extra={"data.train_size": [96, "null"], "model.name": ["mlp", "vgg"]}))
    assert len(found.cells) == 4
    assert set(found.cells["data.train_size"]) == {96, "null"}


def test_a_diverged_sam_run_bars_its_rho() -> None:
    found = gaps(table(lambda w, rho, seed: None if (w, rho, seed) == (1, 0.1, 2) else hand(w, rho, seed)))
    first = found.cells.iloc[0]
    assert (first["n"], first["paper_rho"]) == (3, 0.2)
    assert found.notes == ["model.width=1: rho 0.1 cannot be chosen, SAM diverged"]
    assert found.cells.iloc[1]["paper_rho"] == 0.1


def collapsing(noise: float = 0.0) -> Gaps:
    """At width 1 a SAM run (rho .1, seed 2) fits less than half of what SGD fits; at width 2 one (rho .2) fits nothing.
    At width 3 even SGD has learned little.
    """
    fits = {(1, 0.1, 2): 0.45, (2, 0.2, 1): 0.12, (3, 0.1, 0): 0.1}
    full_table = table(hand, train=lambda w, rho, seed: fits.get((w, rho, seed), 0.4 if w == 3 else 0.95))
    return gaps(Table(full_table.sweep, full_table.runs.assign(rightly=1 - noise), [], {}), 0.1)


def test_a_collapsed_run_counts_as_lost_and_is_kept_out_of_choice_and_slopes() -> None:
    found = collapsing()
    assert found.notes == [
        "model.width=1: rho 0.1 cannot be chosen, SAM collapsed",
        "model.width=2: rho 0.2 cannot be chosen, SAM collapsed",
    ]
    assert found.cells["paper_rho"].tolist() == [0.2, 0.1, 0.1]
    assert found.cells[["sam_lost", "sam_runs"]].to_numpy().tolist() == [[1, 6], [1, 6], [0, 6]]
    assert tabled(found.cells, "paper", "loso")["SAM lost"].tolist() == ["1/6", "1/6", ""]
    settings = {"x": None, "series": None}
    (chart,) = charts.lost(found.cells, {}, settings)
    assert chart.lines[0].points["y"].tolist() == pytest.approx([100 / 6, 100 / 6, 0])
    assert charts.lost(found.cells.assign(sam_lost=0), {}, settings) == []
    # At equal rho, a cell with a collapsed run at that rho is excluded from the slope.
    assert found.cells["fixed_gap"].notna().tolist() == [False, True, True]
    (series,) = Question(found, "params_total", []).series()
    values, places, cells = series.by_seed("fixed")
    assert (values.shape, cells["model.width"].tolist(), places.tolist()) == ((3, 2), [2, 3], [4, 5])


def test_not_to_fit_wrong_labels_is_no_collapse() -> None:
    # With half of the labels wrong, a net that fits only the correct ones fits half of what SGD fits.
    assert "model.width=1: rho 0.1 cannot be chosen, SAM collapsed" not in collapsing(noise=0.5).notes


def test_a_study_that_diverged_says_so() -> None:
    with pytest.raises(SettingError, match=r"model\.width=1: seed 0, 1, 2 left out, SGD diverged"):
        gaps(table(lambda *run: None))


def test_a_diverged_sgd_run_takes_its_seed_out() -> None:
    found = gaps(table(lambda w, rho, seed: None if (w, rho, seed) == (1, 0, 0) else hand(w, rho, seed)))
    assert found.cells.iloc[0]["n"] == 2
    assert found.notes == ["model.width=1: seed 0 left out, SGD diverged"]
    assert found.cells.iloc[0]["sgd_acc"] == pytest.approx(91.5)


def bent(width: float, rho: float, seed: int) -> float:
    """Accuracy is a parabola in log rho with maximum .9 at .08 in even seeds and at .12 in odd ones; SGD has .88."""
    return 0.9 - 0.01 * math.log(rho / (0.12 if seed % 2 else 0.08)) ** 2 if rho else 0.88


def test_a_parabola_reports_between_the_radii_that_were_swept() -> None:
    found = gaps(table(bent, widths=[1], rhos=(0, 0.02, 0.05, 0.1, 0.2), seeds=range(2)), rule="quadratic")
    mine = found.by_seed[found.by_seed["protocol"] == "quadratic"]
    assert mine["rho"].tolist() == pytest.approx([0.12, 0.08])  # the rho of each seed is that of the other
    assert mine["gap"].tolist() == pytest.approx([2 - math.log(1.5) ** 2] * 2)
    assert (found.unbiased, found.choice) == ("quadratic", (0.02, 0.05, 0.1, 0.2))
    assert found.cells.iloc[0]["quadratic_rho"] == pytest.approx(0.1)


def test_a_parabola_needs_four_radii() -> None:
    found = gaps(table(hand), rule="quadratic")
    assert "quadratic_gap" not in found.cells
    assert found.notes == ["no unbiased gap, no interval and no verdict, which need two seeds and 4 radii"]


def test_a_parabola_ends_where_the_radii_do() -> None:
    # Rising, falling, and convex parabolas, which are largest at an end.
    rhos, places = (0.1, 0.2, 0.4, 0.8), np.log((0.1, 0.2, 0.4, 0.8))
    values = np.stack([places, -places, (places - math.log(0.2)) ** 2, -((places - math.log(0.3)) ** 2)])
    tops = np.exp(parabola.top(rhos, parabola.fit(rhos, values)))
    assert tops.tolist() == pytest.approx([0.8, 0.1, 0.8, 0.3])
    assert np.allclose(parabola.at(parabola.fit(rhos, values), places[:, None]).T, values)


def test_a_seed_has_no_part_in_the_parabola_that_chooses_for_it() -> None:
    rhos, tops = (0.1, 0.2, 0.4, 0.8), np.log((0.2, 0.25, 0.3, 0.35, 0.4))
    values = -((np.log(rhos) - tops[:, None]) ** 2)
    before, _ = parabola.left_out(rhos, values)
    values[2] += (0, 0, 0.1, 0)
    after, _ = parabola.left_out(rhos, values)
    assert np.isclose(after, before, rtol=1e-12).tolist() == [False, False, True, False, False]


def test_the_sgd_runs_of_a_seed_are_averaged() -> None:
    # Four SGD runs per seed, which differ from the first by .3, .1, -.1 and -.5 points; one SAM run.
    made = table(hand, widths=[1], extra={REPLICATE: range(4)})
    runs = made.runs[(made.runs[RHO] == 0) | (made.runs[REPLICATE] == 0)].copy()
    sgd = runs[RHO] == 0
    runs.loc[sgd, "scored_acc_final"] += runs.loc[sgd, REPLICATE].map([0.003, 0.001, -0.001, -0.005].__getitem__)
    found = gaps(replace(made, runs=runs))
    mine = found.by_seed[found.by_seed["protocol"] == "paper"]
    assert mine["gap"].tolist() == pytest.approx([1.05, 3.05, 1.05])
    assert found.cells.iloc[0]["n"] == 3
    assert (found.axes, found.sgd_runs) == (["model.width"], 4)
    assert found.cells.iloc[0]["loso_high"] - found.cells.iloc[0]["loso_gap"] == pytest.approx(
        found.cells.iloc[0]["loso_se"] * null.gap_half_width(3, 2, 4)
    )
    # A seed with a missing replicate is left out.
    runs.loc[sgd & (runs[REPLICATE] == 2) & (runs[SEED] == 1), "status"] = "missing"
    assert gaps(replace(made, runs=runs)).cells.iloc[0]["n"] == 2


def test_more_sgd_runs_let_seeds_agree_more_by_chance() -> None:
    # The share of a gap's variance that comes from the common choice of rho grows; without a choice it is 0.
    agree = {}
    for rhos in (1, 4):
        for sgd_runs in (1, 4):
            both = null.gaps(8, 1, rhos, sgd_runs=sgd_runs)[:, :2, 0].T
            assert both.std() == pytest.approx(1, abs=0.06)
            agree[rhos, sgd_runs] = np.corrcoef(both)[0, 1]
    assert agree[4, 4] > agree[4, 1] + 0.03
    assert agree[1, 4] == pytest.approx(0, abs=0.02)
    # If these were treated as studies with one run, 6 to 7 % instead of 5 would be called a rise.
    found = [np.sort(pages_l(null.gaps(8, 6, 4, 0, sgd_runs))) for sgd_runs in (1, 4)]
    assert (found[1] > found[0][-1000]).mean() > 0.057


def test_gaps_are_of_what_is_scored() -> None:
    made = table(hand, widths=[1])
    runs = made.runs.assign(scored_acc_final=made.runs["test_acc_final"] / 2)
    assert gaps(replace(made, runs=runs)).cells.iloc[0]["paper_gap"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("rhos", [[0], [0.1, 0.2]])
def test_a_gap_needs_both_arms(rhos: list[float]) -> None:
    with pytest.raises(SettingError, match=r"sweep ascent\.rho over 0 and at least one other value"):
        gaps(table(hand, rhos=rhos))


def test_a_fixed_rho_that_was_not_swept_has_no_gap() -> None:
    found = gaps(table(hand), fixed_rho=0.3)
    assert "fixed_gap" not in found.cells
    assert found.notes == ["no gap at the fixed rho = 0.3 (draw.fixed_rho), which was not swept"]


def test_interpolation_is_said_from_final_training_accuracy() -> None:
    assert gaps(table(hand)).cells["interpolates"].all()
    assert not gaps(table(hand, train=lambda *run: 0.99)).cells["interpolates"].any()


def test_training_accuracy_is_that_of_the_runs_that_are_shown() -> None:
    # The rho of the diverged run and the excluded seed do not count.
    def train(width: float, rho: float, seed: int) -> float:
        return {0: 0.8, 0.1: 0.9, 0.2: 0.1}[rho] if seed else 0.2

    found = gaps(table(hand, widths=[1], train=train, missing=[(1, 0.2, 0)])).cells.iloc[0]
    assert (found["sgd_train_acc"], found["paper_rho"], found["sam_train_acc"]) == (pytest.approx(80), 0.1, 90)


def test_seconds_of_both_arms_are_kept() -> None:
    # T50: the SAM runs of this table take twice as long.
    cell = gaps(table(hand)).cells.iloc[0]
    assert (cell["sgd_seconds"], cell["sam_seconds"]) == (1, 2)

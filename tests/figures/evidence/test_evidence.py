"""The evidence of all studies: means in closed form, alternative analyses, size and power of tests, charts."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import stats

from samgap import evidence, style
from samgap.figures import archive, kind, output, picture
from samgap.figures.archive import REFERENCE
from samgap.figures.chart import point_labels
from samgap.figures.evidence import charts, results, rules, sizes, slopes, specifications, tables
from samgap.figures.evidence.results import Series
from samgap.figures.gap import null
from samgap.figures.gap.gaps import gaps
from samgap.figures.gap.kinds import Gap
from samgap.figures.gap.series import Question
from samgap.figures.gap.slopes import spreads
from samgap.figures.significance import pages_l
from samgap.report import vega
from tests.figures.tables import table
from tests.figures.test_charts import of_page, of_picture
from tests.runs.test_records import make

Command = Callable[..., tuple[int, str, str]]
SETTINGS = {"data.name": "fashion_mnist", "data.train_size": 500}
TOP = Path(__file__).parents[3]
FOLDER = Path("/nowhere/fig7/cpu")  # has no runs


def noise(width: float, rho: float, seed: int, scale: float = 0.001) -> float:
    return float(scale * np.random.default_rng([int(10 * width), round(100 * rho), seed, 1]).standard_normal())


def one(
    effect: Callable[[float], float] = lambda width: 0.01 * width, widths: Any = (1, 2, 3, 4), seeds: Any = range(6),
    folder: Path = FOLDER, settings: dict[str, Any] = SETTINGS, **more: Any,
) -> Series:  # fmt: skip
    """Return a study of made-up runs, in which SAM gains `effect(width)` at every rho."""

    def test(width: float, rho: float, seed: int) -> float:
        return 0.8 + noise(width, rho, seed) + (effect(width) if rho else 0)

    found = gaps(table(test, widths, seeds=seeds, **more), 0.1)
    (series,) = Question(found, "params_total").series()
    return Series(folder=folder, settings=settings, **vars(series))


def test_of_studies_with_common_runs_the_one_with_more_sizes_counts() -> None:
    few, many = one(widths=(1, 2, 3, 4, 5), seeds=range(3)), one(widths=(1, 2, 3), seeds=range(8))
    other = one(lambda width: 0.02 * width, widths=(1, 2, 3), seeds=range(8))
    assert results.same_runs([many, other, few]) == {many: few}


def test_runs_count_once_also_where_another_mean_of_sgd_changes_every_gap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grids = {"fig7": ((1, 2, 3, 4), range(6)), "noise": ((1, 2, 3), range(4)), "rho": ((1, 2, 3), range(6, 9))}
    sweeps, several = {}, []
    for step, (name, (widths, seeds)) in enumerate(grids.items()):
        series = one(lambda width, step=step: 0.01 * (step + width), widths, seeds, folder=tmp_path / name / "own")
        (series.folder / archive.FOLDER).mkdir(parents=True)
        sweeps[series.folder] = table(lambda width, rho, seed: 0.8, widths, seeds=seeds).sweep
        several.append(series)
    monkeypatch.setattr(archive, "read", lambda folder: (sweeps[folder], []))
    many, few, others = several
    assert not few.signature & many.signature
    assert results.same_runs([others, few, many]) == {few: many}


# The BCG trials of Colditz et al. (1994), the standard example: (cases, others) of the vaccinated and of the others.
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip


def test_a_random_effects_mean_by_the_book() -> None:
    cases, others, without, healthy = BCG.T
    ratios = np.log(cases / (cases + others) * (without + healthy) / without)
    variances = 1 / cases - 1 / (cases + others) + 1 / without - 1 / (without + healthy)
    found = slopes.pooled(ratios, np.sqrt(variances))
    # The result of the R package metafor with method="DL".
    assert (found.q, found.tau**2, found.mean) == pytest.approx((152.2330, 0.3088, -0.7141), abs=1e-4)
    # By the formula of Hartung and Knapp.
    weights = 1 / (variances + found.tau**2)
    error = math.sqrt((weights * (ratios - found.mean) ** 2).sum() / 12 / weights.sum())
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 12) * max(error, weights.sum() ** -0.5))
    assert found.p == pytest.approx(stats.chi2.sf(found.q, 12))


def test_equal_effects_have_nothing_between_them() -> None:
    errors = np.array([0.1, 0.2, 0.4])
    found = slopes.pooled(np.full(3, 0.3), errors)
    assert (found.q, found.tau, found.p) == pytest.approx((0, 0, 1))
    assert found.mean == pytest.approx(0.3)
    # Without heterogeneity, the interval is that of the weighted mean, with Student's t for three studies.
    assert found.high - 0.3 == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt((errors**-2).sum()))


def test_a_mean_counts_no_runs_twice_no_noise_and_no_two_sizes() -> None:
    first, other = one(), one(seeds=range(10, 16), folder=Path("/nowhere/fig8/cpu"))
    again = one(widths=(1, 2, 3), folder=Path("/nowhere/noise/cpu"))  # its runs are a part of the first study's
    noisy = one(seeds=range(20, 26), settings=SETTINGS | {"data.label_noise": 0.2}, folder=Path("/nowhere/more/own"))
    small = one(widths=(1, 2), seeds=range(30, 36), folder=Path("/nowhere/small/own"))
    frame = slopes.table([again, first, other, noisy, small])
    ours = frame[frame["unbiased"] & (frame["study"] != slopes.MEAN)]
    why = {"noise/cpu": "the runs of fig7/cpu", "more/own": "data.label_noise=0.2", "small/own": "two sizes"}
    assert dict(zip(ours["study"], ours["left_out"], strict=True)) == why | {"fig7/cpu": "", "fig8/cpu": ""}
    assert set(ours["study"][ours["in_mean"]]) == {"fig7/cpu", "fig8/cpu"}
    means = frame[frame["study"] == slopes.MEAN].set_index("rule")
    assert set(means.index) == {"unbiased", "published", *first.rules}
    assert means.loc["unbiased", "sizes"] == 2
    # The gap rises by a percentage point per width, and a width is a decade of parameters.
    assert means.loc["unbiased", "slope"] == pytest.approx(1, abs=0.1)
    assert frame[frame["study"] == "published fig7"]["slope"].item() == pytest.approx(0.066, abs=1e-3)


@pytest.mark.parametrize(
    ("axes", "widths", "x", "cells"),
    [({}, (1,), [], 0), ({"pruner.sparsity": [0, 0.5, 0.9]}, (1,), ["pruner.sparsity"], 3),
     ({"pruner.sparsity": [0.5]}, (1, 2, 3), ["params_total"], 3), ({"optimizer.lr": [0.1, 0.2]}, (1, 2, 3), [], 0)],
)  # fmt: skip
def test_studies_of_every_shape_are_read(
    tmp_path: Path, axes: dict[str, list[float]], widths: tuple[int, ...], x: list[str], cells: int
) -> None:
    made_up = table(lambda width, rho, seed: 0.8 + noise(width, rho, seed), widths, extra=axes)
    if len(widths) == 1:
        made_up.sweep.axes.remove("model.width")
    made_up.records.append(make())
    figure = Gap(title="made up", series=[])  # learning rates are in one series, with two cells of each size
    report = output.report(figure.study(made_up, tmp_path, "paper")) | {"draw": figure.settings}
    report["draw"]["_target_"] = "samgap.figures.gap.kinds.Gap"
    path = tmp_path / "mine" / "own" / "mine.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(output.clean(report)))
    found = results.read([tmp_path])
    assert [series.x for series in found] == (x or ["params_total"] * (not axes))
    assert sum(len(series.cells) for series in found) == (cells or not axes)


def test_sparsities_that_follow_from_the_size_are_no_dense_nets() -> None:
    thinned = one()
    cells = thinned.cells.assign(**{"pruner.sparsity": [0, 0.5, 0.9, 0.99]})
    everything = dataclasses.replace(thinned.gaps, axes=[*thinned.gaps.axes, "pruner.sparsity"])
    thinned = dataclasses.replace(thinned, gaps=everything, cells=cells)
    assert thinned.conditions == "pruner.sparsity=several"
    dense = dataclasses.replace(thinned, cells=cells.assign(**{"pruner.sparsity": 0}))
    assert dense.conditions == ""


def test_a_registered_result_is_judged_again_by_its_smallest_effect() -> None:
    path = REFERENCE / "fig8" / "registered" / "fig8.json"
    report = json.loads(path.read_text())
    again = kind.from_settings(report["draw"]).judge_again(report, pd.DataFrame())
    assert [verdict.answer for verdict in again] == [verdict["answer"] for verdict in report["verdicts"]]


def test_all_rules_that_the_runs_allow_are_there() -> None:
    frame = slopes.table([one(widths=(1, 2, 3), seeds=range(3), rhos=(0, 0.05, 0.1, 0.2, 0.4))])
    assert frame[frame["study"] == "fig7/cpu"]["rule"].tolist() == ["paper", "loso", "quadratic", "fixed"]


def test_every_way_of_asking_is_used_once() -> None:
    series = one(train=lambda width, rho, seed: 1.0 if width > 2 else 0.9, widths=(1, 2, 3, 4, 5))
    frame = specifications.table(series)
    # All five sizes, four, and the three that interpolate; three rules; three statistics; none is published.
    assert len(frame) == 3 * len(series.rules) * 3 == len(frame.drop_duplicates([*specifications.CHOICES]))
    assert set(frame["cells"]) == {5, 4, 3}
    assert frame["says_yes"].all()
    assert frame["slope"].is_monotonic_increasing
    counts = pd.DataFrame(specifications.counts(frame))
    assert (counts.groupby("choice")["of"].sum() == len(frame)).all()
    # If all sizes interpolate, these are not another set of cells.
    assert set(specifications.table(one())["sizes"]) == {"all sizes", "without the smallest"}


def test_without_an_effect_few_ways_of_asking_find_one() -> None:
    frames = [specifications.table(one(lambda width: 0, seeds=range(10 * n, 10 * n + 4))) for n in range(2)]
    assert pd.concat(frames)["says_yes"].mean() < 0.2


def test_the_best_epoch_is_used_where_runs_were_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def grows(width: float) -> float:
        return 0.01 * width

    series = one(lambda width: 0, folder=tmp_path / "fig7" / "cpu")
    (series.folder / archive.FOLDER).mkdir(parents=True)
    kept = table(lambda width, rho, seed: 0.8 + noise(width, rho, seed), (1, 2, 3, 4), seeds=range(6))
    best = kept.runs["test_acc_final"] + kept.runs["model.width"].map(grows) * (kept.runs["ascent.rho"] > 0)
    kept = dataclasses.replace(kept, runs=kept.runs.assign(test_acc_best=best))
    monkeypatch.setattr(archive, "restore", lambda folder, root: (kept.sweep, 0))
    monkeypatch.setattr(specifications, "collect", lambda sweep, root: kept)
    frame = specifications.table(series)
    yes = frame.groupby("epoch")["says_yes"].mean()
    assert yes["best epoch"] == 1 > yes["last epoch"]
    assert (frame["epoch"] == "best epoch").sum() == (frame["epoch"] == "last epoch").sum()
    # A rho that was not swept gives no "fixed" gap, at any epoch.
    without = series.gaps.by_seed[series.gaps.by_seed["protocol"] != "fixed"]
    unswept = dataclasses.replace(series, gaps=dataclasses.replace(series.gaps, by_seed=without, fixed_rho=None))
    assert set(specifications.table(unswept)["rule"]) == {"paper", "loso"}
    # Runs that evaluate the last epoch alone have no other.
    last = kept.runs["test_acc_final"].where(kept.runs["ascent.rho"] < 0.2)  # the others diverged
    kept = dataclasses.replace(kept, runs=kept.runs.assign(test_acc_best=last, test_acc_final=last))
    assert set(specifications.table(series)["epoch"]) == {"last epoch"}


def test_a_borderline_p_is_no_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(null, "p_values", lambda *_: null.PValues(0.0495, 0.95, 0.0003))
    assert not specifications.table(one())["says_yes"].any()
    monkeypatch.setattr(null, "p_values", lambda *_: null.PValues(0.0490, 0.95, 0.0003))
    assert specifications.table(one())["says_yes"].all()


def test_the_paper_s_rule_has_studies_of_its_own_without_effect() -> None:
    own = null.gaps(4, 3, 5, joint=True)
    sam = np.random.default_rng(0).standard_normal((null.STUDIES // null.BLOCKS, 4, 3, 5), dtype=np.float32)
    # The expected maximum of five means is 1.163 of their standard deviations.
    assert own.mean() == pytest.approx(1.163 / 2 / math.sqrt(2), abs=0.01)
    assert np.abs(null.gaps(4, 3, 5).mean()) < 0.01
    assert sam.mean(axis=1).max(axis=-1).mean() == pytest.approx(own.mean() * math.sqrt(2), abs=0.03)


def test_the_size_and_power_of_a_rule() -> None:
    places = np.array([3.0, 4, 5, 6])
    # With one rho and equal noise the size is 5 %, and p is that of each study's trend test.
    noise_, unit = null.gaps(5, 4, 1, 1)[:1500], null.gaps(5, 4, 1)[:1500]
    studies = rules.Studies(noise_, unit)
    three = 3.5 * math.sqrt(0.05 * 0.95 / 1500)
    assert studies.rise(places, 0) == pytest.approx(0.05, abs=0.01 + three)
    assert studies.fall() == pytest.approx(0.05, abs=0.01 + three)
    for n in range(20):
        p = (1 + (pages_l(unit * spreads(noise_[n])) >= pages_l(noise_[n])).sum()) / (1 + len(unit))
        assert (pages_l(noise_[n]) > studies.high[n]) == (p < 0.05)
    slope = studies.detectable_slope(places)
    assert studies.rise(places, slope) == pytest.approx(0.8, abs=0.02)
    assert studies.rise(places, slope / 2) < 0.8 < studies.rise(places, 2 * slope)


def test_parameters_are_also_counted_per_training_image() -> None:
    frame = sizes.table([one(), one(settings=SETTINGS | {"data.label_noise": 0.2}, seeds=range(9, 15))])
    ours, theirs = frame[~frame["published"]], frame[frame["published"]]
    assert ours["per_image"].tolist() == [2, 20, 200, 2000]
    # The paper's MLPs have 61,035 to 5,366,010 parameters for 60,000 images.
    assert theirs[theirs["study"] == "fig7"]["per_image"].agg(["min", "max"]).tolist() == pytest.approx(
        [1.017, 89.43], 1e-3
    )
    whole = one(settings={"data.name": "mnist", "data.train_size": None, "data.holdout": 10_000})
    assert whole.images == 50_000
    assert math.isnan(one(settings={"data.name": "mine"}).images)


@pytest.fixture(scope="module")
def made() -> tables.Tables:
    """Return the evidence of two made-up studies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "STUDIES", 200)
        return tables.make([one(), one(seeds=range(10, 16), folder=Path("/nowhere/fig8/cpu"))])


def test_pictures_and_page_show_the_same_of_the_tables_as_they_are_kept(made: tables.Tables, tmp_path: Path) -> None:
    tables.write(made, tmp_path, ["fig7/cpu", "fig8/cpu"])
    kept = tables.read(tmp_path)
    assert [*made.charts()] == ["slopes", "specifications-cpu", "gaps"]
    for name, several in made.charts().items():
        with style.style():
            panels = picture.draw(several, name, "", stacked=name.startswith("specifications")).axes
        specs = [vega.spec(chart) for chart in several]
        assert specs == [vega.spec(chart) for chart in kept.charts()[name]]
        for axes, chart, spec in zip(panels, several, specs, strict=True):
            assert json.dumps(spec, allow_nan=False)
            assert of_picture(axes) == of_page(spec)
            assert len(of_page(spec)[0]) == len(chart.lines) > 0
    (tmp_path / "slopes.csv").write_text("")
    with pytest.raises(Exception, match="is damaged"):
        tables.read(tmp_path)


def test_intervals_of_slopes_lie_across(made: tables.Tables) -> None:
    chart = charts.slopes(made.slopes)[0]
    with style.style():
        axes = picture.draw([chart], "slopes", "").axes[0]
    segments = [one for bar in axes.collections if isinstance(bar, LineCollection) for one in bar.get_segments()]
    bars = [ends for ends in segments if len(ends)]
    assert bars
    assert all(left[1] == right[1] and left[0] < right[0] for left, right in bars)
    layer = next(each for each in vega.spec(chart)["layer"] if "x2" in each["encoding"])
    assert (layer["encoding"]["x"]["field"], layer["encoding"]["x2"]["field"]) == ("low", "high")
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[:3] == ["fig7/cpu", "fig8/cpu", "mean of ours"]
    mine = made.slopes[(made.slopes["study"] == "fig7/cpu") & made.slopes["unbiased"]].iloc[0]
    text = point_labels(chart, chart.lines[0])[0]
    assert f": {mine['slope']:.4g} [{mine['low']:.4g}, {mine['high']:.4g}] (95 % interval), n = 6" in text


def test_the_command_writes_what_the_page_shows(
    command: Command, made: tables.Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Path]] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: Path(path).touch())
    monkeypatch.setattr(results, "read", lambda folders: asked.append([*folders]) or [one()])
    monkeypatch.setattr(tables, "make", lambda several: made)
    code, out, err = command("evidence", f"root={tmp_path}")
    assert code == 0, err
    assert asked == [[REFERENCE, tmp_path]]
    assert "18 of 18 ways of asking say that the gap grows" in out
    written = {path.name for path in (tmp_path / "evidence").iterdir()}
    assert written == {
        f"{name}.{ending}" for name in ("slopes", "specifications-cpu", "gaps") for ending in ("pdf", "png")
    } | {f"{name}.csv" for name in ("slopes", "specifications", "rules", "gaps")} | {tables.MADE}
    assert evidence.TITLES.keys() == {name.partition("-")[0] for name in made.charts()}


def test_what_came_with_samgap_is_of_the_results_that_came() -> None:
    kept, made_ = tables.read(REFERENCE / "evidence"), slopes.table(results.read([REFERENCE])).round(6)
    # If a result is new or has changed: make evidence, and copy its csv, json and png to the folder REFERENCE.
    pd.testing.assert_frame_equal(kept.slopes, made_, check_dtype=False, rtol=1e-4, atol=1e-5)
    facts = json.loads((REFERENCE / "evidence" / tables.MADE).read_text())
    assert not facts["dirty"]
    # The slopes are those of the verdicts.
    report = json.loads((REFERENCE / "fig7" / "cpu" / "fig7.json").read_text())
    for verdict in report["verdicts"]:
        rows = kept.slopes[(kept.slopes["study"] == "fig7/cpu") & (kept.slopes["rule"] == verdict["protocol"])]
        assert rows["slope"].item() == pytest.approx(verdict["slope"], abs=1e-5)
        assert rows["high"].item() == pytest.approx(verdict["slope_high"], rel=1e-3)
    # The page of results has these numbers.
    page = " ".join((TOP / "docs" / "results.md").read_text().split())
    means = kept.slopes[kept.slopes["study"] == slopes.MEAN].set_index("rule")[["slope", "low", "high"]]
    for rule in ("unbiased", "fixed", "published"):
        assert "{:.2f} [{:.2f}, {:.2f}]".format(*means.loc[rule]).replace("0.", ".") in page
    yes = kept.specifications["says_yes"]
    assert f"{yes.sum()} of {len(yes)} ways of asking say that the gap grows" in page
    # The page of statistics has the rates of false positives.
    rises = 100 * kept.rules["rise"][kept.rules["unbiased"]]
    page = " ".join((TOP / "docs" / "statistics.md").read_text().split())
    assert f"By the rule of the verdict, {rises.min():.1f} to {rises.max():.1f} % of them are called a rise" in page
    # Runs with one evaluation have no best epoch.
    ways = kept.specifications.groupby("study")["epoch"].unique()
    assert (set(ways["fig7/registered"]), set(ways["fig7/paper"])) == ({"last epoch"}, {"last epoch", "best epoch"})

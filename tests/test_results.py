"""The numbers of README.md and docs/results.md are those of the committed reference results, which are complete."""

import json
import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from samgap import provenance
from samgap.figures import archive
from samgap.report.collected import Collected, StudyEntry
from samgap.style import compact
from samgap.theory.suite import PUBLISHED

TOP = Path(__file__).parents[1]
RESULTS = TOP / "src/samgap/reference/results"
RESULTS_PAGE = TOP / "docs/results.md"
FIGURES = sorted((path.parent.parent.name for path in RESULTS.glob("*/cpu/*.json")), key=lambda name: (len(name), name))


def load(figure: str, scale: str = "cpu") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / figure / scale / f"{figure}.json").read_text())
    return found


RATES = [figure for figure in FIGURES if "fits" in load(figure)]
CONVERGENCE = [(figure, scale) for figure in RATES for scale in ("cpu", "long") if (RESULTS / figure / scale).exists()]
CURVED = [figure for figure in FIGURES if "published_lambda_max" in load(figure)]
GAPS = [figure for figure in FIGURES if figure not in (*RATES, *CURVED, "rho")]
HEAD = """\
| series | sizes | paper's rho | unbiased | bias | slope, 95 % | published | found in | excluded | verdict |
|---|---|---|---|---|---|---|---|---|---|
"""

CURVES = """\
| figure | step | sizes | halves in | ratio | published | found in | grows with size | linear or faster |
|---|---|---|---|---|---|---|---|---|
"""


CURVATURE = """\
| rho | loss, equal epochs | lambda_max | s_2 | epochs, equal loss | lambda_max | s_2 | allowed | published s_2 |
|---|---|---|---|---|---|---|---|---|
"""


def rows(figure: str, scale: str = "cpu") -> list[str]:
    """Return a row of docs/results.md for each verdict on gaps."""
    report = load(figure, scale)
    made = []
    cells = pd.DataFrame(report["cells"])
    for verdict in report["verdicts"]:
        theirs, power = verdict["published_slope"], verdict["power"]
        published = "" if theirs is None else f"{theirs:+.2f}" + ("" if verdict["shared"] else " of other sizes")
        series = verdict["series"].removeprefix("data.").replace("pruner.name=", "")
        slope = (
            f"{verdict['slope']:+.2f} [{verdict['slope_low']:+.2f}, {verdict['slope_high']:+.2f}] | {published} | "
            f"{'' if power is None else f'{100 * power:.0f} %'} | {verdict['excluded']:+.2f} | "
            f"{verdict['answer']}, p = {verdict['p_up']:.2g} |"
        )
        if " against " in series or "at equal rho" in series:
            made.append(f"| {series} | | | | | {slope}")
            continue
        pairs = [pair.split("=") for pair in verdict["series"].split(", ") if pair]
        mine = cells
        for axis, value in pairs:
            mine = mine[mine[axis].map(lambda v, value=value: (v if isinstance(v, str) else f"{v:g}") == value)]
        mine = mine.sort_values("params_total")
        paper, unbiased = mine["paper_gap"], mine[f"{report['protocol_verdict']}_gap"]
        ends = [f"{compact(mine['params_total'].iloc[end])}" for end in (0, -1)]
        made.append(
            f"| {series or 'best rho'} | {' to '.join(ends)} | "
            + " | ".join(f"{column.iloc[0]:+.2f} to {column.iloc[-1]:+.2f}" for column in (paper, unbiased))
            + f" | {(paper - unbiased).mean():+.2f} | {slope}"
        )
    return made


def curve_rows(figure: str, scale: str) -> list[str]:
    """Return a row of the table of convergence for SGD, SAM and un-normalized SAM."""
    report = load(figure, scale)
    cells, verdicts = pd.DataFrame(report["cells"]).groupby(["rule", "ascent.rho"], sort=False), report["verdicts"]
    made = []
    for grows, linear, (_, mine) in zip(verdicts[::2], verdicts[1::2], cells, strict=True):
        sizes = " ".join(
            compact(params) + "*" * inside for params, inside in mine[["params_total", "interpolates"]].to_numpy()
        )
        halves = " ".join(f"{math.log(2) / rate:.1f}" if rate > 0 else "never" for rate in mine["rate"])
        names = ("ratio", "ratio_low", "ratio_high", "published_ratio")
        known = {name: "" if grows[name] is None else f"{grows[name]:.2g}" for name in names}
        ratio = f"{known['ratio']} [{known['ratio_low']}, {known['ratio_high']}]" if known["ratio"] else ""
        power = "" if grows["power"] is None else f"{100 * grows['power']:.0f} %"
        answers = (
            verdict["answer"] + (f", p = {verdict['p']:.2g}" if verdict["p"] is not None else "")
            for verdict in (grows, linear)
        )
        name = figure.removeprefix("fig") + f", {scale}" * (scale != "cpu")
        made.append(
            f"| {name} | {grows['series']} | {sizes} | {halves} | {ratio} | {known['published_ratio']} | {power} | "
            f"{' | '.join(answers)} |"
        )
    return made


def curvature_rows() -> list[str]:
    """Return a row of the table of curvature for each rho of figure 6: equal epochs, then equal training loss."""
    made = []
    for rho, cells in pd.DataFrame(load("fig6")["cells"]).groupby("ascent.rho"):
        fields = [f"{rho:g}" if rho else "SGD"]
        for stop, first in (("null", "train_loss"), (None, "epochs")):
            cell = cells[(cells["stop_loss"] == "null") == (stop == "null")].iloc[0]
            fields.append(f"{cell[first]:.2g}")
            fields += [f"{cell[name]:.3g} ± {cell[f'{name}_se']:.2g}" for name in ("lambda_max", "s_2")]
        fields += [f"{cell['largest']:.3g}", f"{cell['published_s_2']:g}"]
        made.append(f"| {' | '.join(fields)} |")
    return made


def claims() -> list[str]:
    """Return a line for each verdict of figures 4 and 6."""
    return [
        f"- {verdict['series'] or 'figures 4 and 5'}: {verdict['claim']}: {verdict['answer']}"
        + (f", p = {verdict['p']:.2g}" if verdict["p"] is not None else "")
        for figure in ("fig6", "fig4")
        for verdict in load(figure)["verdicts"]
    ]


def tables() -> dict[str, str]:
    """Return the tables of docs/results.md by figure."""
    rates = CURVES + "\n".join(row for figure, scale in CONVERGENCE for row in curve_rows(figure, scale)) + "\n"
    curvature = CURVATURE + "\n".join(curvature_rows()) + "\n\n" + "\n".join(claims()) + "\n"
    gaps = {figure: HEAD + "\n".join(rows(figure)) + "\n" for figure in GAPS}
    gaps["wide"] = HEAD + "\n".join(rows("fig11", "cpu_wide")) + "\n"
    return gaps | {"rates": rates, "curvature": curvature}


@pytest.mark.parametrize("figure", [*GAPS, "wide", "rates", "curvature"])
def test_the_tables_of_the_results_are_those_of_the_reference_results(figure: str) -> None:
    table = tables()[figure]
    assert table in RESULTS_PAGE.read_text(), "docs/results.md must have:\n" + table


def test_the_page_of_results_names_the_rules_that_gave_each_verdict() -> None:
    page = RESULTS_PAGE.read_text().replace("\n", " ")
    for figures in (GAPS, RATES):
        (commit,) = {load(figure)["provenance"].get("judged_by_commit") for figure in figures} - {None}
        assert f"by the rules of commit {commit[:7]}" in page


STATEMENTS = """\
| statement | here | one number | command | core hours |
|---|---|---|---|---|
"""


def slope(figure: str, series: str = "", scale: str = "cpu") -> tuple[str, str]:
    """Return a verdict on gaps, and the slope."""
    (verdict,) = [verdict for verdict in load(figure, scale)["verdicts"] if verdict["series"] == series]
    return verdict["answer"], f"{verdict['slope']:+.2f} [{verdict['slope_low']:+.2f}, {verdict['slope_high']:+.2f}]"


def ends(figure: str, series: str = "", scale: str = "cpu") -> tuple[str, str]:
    """Return a verdict, and the gaps of the first and the last net."""
    axis, _, value = series.partition("=")
    cells = pd.DataFrame(load(figure, scale)["cells"])
    cells = cells[cells[axis].astype(str) == value] if series else cells
    first, last = cells.sort_values("params_total")["paper_gap"].iloc[[0, -1]]
    return slope(figure, series, scale)[0], f"{first:+.2f} to {last:+.2f} points"


def faster(figure: str) -> tuple[str, str]:
    """Return whether SAM's rate grows with size, and the ratio of rates of nets that interpolate to others."""
    (verdict,) = [each for each in load(figure)["verdicts"][::2] if each["series"].startswith("SAM")]
    ratio = "{ratio:.1f} [{ratio_low:.1f}, {ratio_high:.1f}] times".format(**verdict)
    return verdict["answer"], f"{ratio}, published {verdict['published_ratio']:.1f}"


def statements() -> list[str]:
    """Return the rows of README.md's table."""
    (linear,) = {verdict["answer"] for verdict in load("fig1", "long")["verdicts"][1::2]}
    flat = [verdict["answer"] for figure in ("fig4", "fig6") for verdict in load(figure)["verdicts"]]
    curvature = pd.DataFrame(load("fig6")["cells"])
    largest = curvature[curvature["stop_loss"] == "null"].set_index("ascent.rho")["lambda_max"]
    equal, half = "at equal rho (0.1)", "data.label_noise=0.5"
    made = [
        ("The gain grows with the size of an MLP (fig. 7)", *slope("fig7"), "fig7/cpu"),
        ("the same, with one rho for all sizes", *slope("fig7", equal), ""),
        ("the same, by a study that was written down before³", *slope("fig7", scale="registered"), "fig7/registered"),
        ("... with one rho for all sizes", *slope("fig7", equal, "registered"), ""),
        ("... of a ResNet-18 (fig. 8)", *slope("fig8"), "fig8/cpu"),
        ("... with a fifth of the labels wrong, by a study that was written down before³",
         *slope("fig8", scale="registered"), "fig8/registered"),
        ("... with one rho for all sizes", *slope("fig8", equal, "registered"), ""),
        ("... of a ResNet-50 (fig. 9)", *slope("fig9"), "fig9/cpu"),
        ("With equally many weights, sparse nets gain more than dense (fig. 10)", *ends("fig10", scale="cpu_wide"),
         "fig10/cpu_wide"),
        ("... with one rho for all sparsities", *slope("fig10", equal, "cpu_wide"), ""),
        ("... more so with the pruner SNIP than at random (fig. 11)",
         *slope("fig11", "pruner.name=snip against pruner.name=random", "cpu_wide"), "fig11/cpu_wide"),
        ("The gain of an MLP grows with size if half of the labels are wrong", *ends("noise", half), "noise/cpu"),
        ("... with one rho for all sizes", *slope("noise", f"{half}, {equal}"), ""),
        ("... if a fifth are, by a study that was written down before³", *slope("noise", scale="registered"),
         "noise/registered"),
        ("... with one rho for all sizes", *slope("noise", equal, "registered"), ""),
        ("... the more steeply, the more labels are wrong³", *slope("noise", "slope over data.label_noise", "doses"),
         "noise/doses"),
        ("The loss falls faster in larger nets (fig. 1, SAM)", *faster("fig1"), "fig1/cpu"),
        ("... in an MLP (fig. 2, SAM)", *faster("fig2"), "fig2/cpu"),
        ("... in a ResNet-18 (fig. 3, SAM)", load("fig3")["verdicts"][2]["answer"],
         "only one net interpolates, and it stopped at SAM's floor", "fig3/cpu"),
        ("It falls at a linear rate or faster where the theory says so (fig. 1)", linear,
         f"p = {max(verdict['p'] for verdict in load('fig1', 'long')['verdicts'][1::2]):.2g}", "fig1/long"),
        ("The loss is flatter where SAM ends (fig. 4 to 6)", *set(flat),
         f"largest eigenvalue {largest.iloc[0]:.1f} to {largest.iloc[-1]:.2f}", "fig6/cpu"),
    ]  # fmt: skip
    return [f"| {what} | {answer} | {number} | {command(study)} |" for what, answer, number, study in made]


def command(study: str) -> str:
    """Return the name and scale of a study as options of make, and the time that its runs took."""
    name, _, scale = study.partition("/")
    hours = load(name, scale)["provenance"]["core_seconds"] / 3600 if study else 0
    return f"`{name} SCALE={scale}` | {hours:.1f}" if study else " | "


def test_the_readme_shows_what_the_first_command_prints() -> None:
    report = json.loads((RESULTS / "fig8" / "smoke" / "fig8.json").read_text())
    readme = (TOP / "README.md").read_text()
    for row in report["table"]["rows"][: report["verdicts"][0]["cells"]]:
        assert re.search(rf"^ *{' +'.join(map(re.escape, row[:8]))}", readme, re.MULTILINE), row
    assert report["verdicts"][0]["text"].partition(" up,")[0] in readme


@pytest.mark.parametrize("scale", ["fig7/registered", "fig8/registered", "noise/registered", "noise/doses"])
def test_the_docs_have_the_slopes_of_registered_studies(scale: str) -> None:
    figure, _, name = scale.partition("/")
    docs = (TOP / "docs" / "results.md").read_text()
    for series in (verdict["series"] for verdict in load(figure, name)["verdicts"]):
        if name == "doses" and "equal rho" in series:  # there the docs have the p values alone
            continue
        answer, text = slope(figure, series, name)
        assert f"| {text} | {answer}" in docs, (series, text)


def corrected() -> list[str]:
    """Return a row of docs/results.md for each claim that one p value reproduces, and the number of questions."""
    entries = [
        StudyEntry(path.stem, path.parent.name, False, path.parent, "", {}, json.loads(path.read_text()), [])
        for path in RESULTS.glob("*/*/*.json")
        if path.stem == path.parent.parent.name
    ]
    adjusted, questions = Collected(entries, *[None] * 5).corrected()  # type: ignore[arg-type]
    found = []
    for entry in sorted(entries, key=lambda entry: (len(entry.name), entry.name, entry.scale)):
        for place, verdict in enumerate(entry.report["verdicts"] if entry.report else ()):
            p = adjusted.get((entry.anchor, place))
            if p is not None and verdict["answer"] == "reproduced":
                series = verdict["series"].replace("data.", "").replace("pruner.name=", "")
                subject = "best rho" if entry.name == "rho" else "gap"
                claim = verdict.get("claim") or f"the {subject} grows" * ("slope over" not in series)
                question = ", ".join(filter(None, (claim, series)))
                own = verdict.get("p_up", verdict.get("p"))
                found.append((own, f"| {entry.name}/{entry.scale} | {question} | {own:.2g} | {p:.2g} |"))
    return [*(row for _, row in sorted(found)), f"Holm's correction for all {questions} questions"]


def test_the_docs_have_every_claim_with_its_p_value_corrected_for_all_questions() -> None:
    *table, questions = corrected()
    page = RESULTS_PAGE.read_text()
    assert "| corrected |\n|---|---|---|---|\n" + "\n".join(table) + "\n\n" in page, "\n".join(table)
    assert questions in " ".join(page.split())


def test_the_readme_s_table_of_statements_is_that_of_the_reference_results() -> None:
    table = STATEMENTS + "\n".join(statements()) + "\n"
    readme = (TOP / "README.md").read_text()
    assert table in readme, "README.md must have:\n" + table
    rho = load("rho", "paper")["verdicts"][0]
    assert (rho["answer"], f"p = {rho['p_up']:.2g} (`make reproduce-rho SCALE=paper`" in readme) == ("reproduced", True)


@pytest.mark.parametrize("figure", GAPS)
def test_no_verdict_on_gaps_is_silent_about_what_it_could_have_found(figure: str) -> None:
    for verdict in load(figure)["verdicts"]:
        assert "slopes above" in verdict["reason"]
        assert "80 %" in verdict["reason"]


OTHERS = [("fig1", "long"), ("fig10", "cpu_wide"), ("fig11", "cpu_wide")]


@pytest.mark.parametrize(("figure", "scale"), [*((figure, "cpu") for figure in FIGURES), *OTHERS])
def test_reference_results_are_whole(figure: str, scale: str) -> None:
    report = load(figure, scale)
    assert report["runs"]["missing"] == {}
    assert report["runs"]["with_record"] == report["runs"]["asked"]
    provenance = report["provenance"]
    assert all("+changes" not in commit for commit in provenance["commits"])
    assert datetime.fromisoformat(provenance["first_started"]) < datetime.fromisoformat(provenance["last_finished"])
    assert report["command"].startswith("python -m samgap.train -m figure=")
    for ending in ("csv", "png"):
        assert (RESULTS / figure / scale / f"{figure}.{ending}").stat().st_size > 1000


REGISTERED = [path for path in RESULTS.glob("*/*/*.json") if '"registered": {' in path.read_text()]


@pytest.mark.parametrize("path", REGISTERED, ids=lambda path: f"{path.stem}/{path.parent.name}")
def test_a_registered_result_is_of_runs_that_began_after_its_commit(path: Path) -> None:
    report, file = json.loads(path.read_text()), f"conf/figure/{path.stem}/{path.parent.name}.yaml"
    found, block, (_, runs) = report["registered"], report["draw"]["registered"], archive.read(path.parent)
    assert (found["beforehand"], found["departs"]) == (True, "")
    assert found["committed"] < min(record.started for record in runs)
    assert yaml.safe_load((TOP / file).read_text())["draw"]["registered"] == block
    history = provenance.history(file)
    if history is not None:  # not in a shallow clone
        ((time, text),) = [(time, text) for commit, time, text in history if commit == found["commit"]]
        assert (time, yaml.safe_load(text)["draw"]["registered"]) == (found["committed"], block)


@pytest.mark.parametrize("scale", ["paper", "paper_three"])
def test_the_published_points_are_those_of_the_reference_results(scale: str) -> None:
    report = json.loads((RESULTS / "fig7" / scale / "fig7.json").read_text())
    (verdict,) = [verdict for verdict in report["verdicts"] if "points" in verdict]
    points, agreeing = verdict["points"], f"{verdict['agree']} of {verdict['numbers']}"
    page, readme = RESULTS_PAGE.read_text(), (TOP / "README.md").read_text()
    named = {"SGD": "SGD", "SAM": "SAM, best rho", "gap": "gap"}
    for point in points:
        if (quantity := point["quantity"]) in named:
            sign = "+" if quantity == "gap" else ""
            numbers = [f"{point[key]:{sign}.3f}" for key in ("published", "center", "low", "high")]
            row = "{} | {} [{}, {}] |".format(*numbers)
            assert f"| {named[quantity]} | {row}" in page, row
            assert scale != "paper" or "{} ({})".format(*numbers[1::-1]) in readme, numbers
    assert f"{agreeing} published numbers lie" in page
    assert scale != "paper" or f"{agreeing} published numbers agree" in readme


@pytest.mark.parametrize(
    ("figure", "agreeing"), [("fig10", "all 9 of figure 10"), ("fig11", "14 of 15 published numbers")]
)
def test_the_published_points_of_sparse_nets_are_those_of_the_reference_results(figure: str, agreeing: str) -> None:
    (verdict,) = [verdict for verdict in load(figure, "paper_mnist_three")["verdicts"] if "points" in verdict]
    page = RESULTS_PAGE.read_text()
    for point in verdict["points"]:
        if point["quantity"] != "best rho":
            sign = "+" if point["quantity"] == "gap" else ""
            numbers = [f"{point[key]:{sign}.3f}" for key in ("published", "center", "low", "high")]
            assert "| {} | {} [{}, {}] |".format(*numbers) in page, numbers
    counts = {str(verdict["agree"]), str(verdict["numbers"])}
    assert counts <= {*re.findall(r"\d+", agreeing)}
    assert agreeing in page


def test_the_page_has_each_number_that_two_schedules_are_compared_with() -> None:
    (verdict,) = load("decay", "paper")["verdicts"]
    for row in verdict["detail"]:
        assert f"| {' | '.join(row.values())} |" in RESULTS_PAGE.read_text(), row
    assert f"p = {verdict['p_first']:.2f} (text) and {verdict['p_second']:.2f} (code)".replace("0.", ".") in (
        RESULTS_PAGE.read_text()
    )


def test_the_reference_of_the_theory_is_what_is_published() -> None:
    report = json.loads((RESULTS / "theory" / "theory.json").read_text())
    assert {row["name"]: row["verdict"] for row in report["rows"]} == PUBLISHED
    assert not report["provenance"]["dirty"]
    assert (RESULTS / "theory" / "theory.png").stat().st_size > 10_000

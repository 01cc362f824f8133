"""The charts of the tables that combine all studies."""

from dataclasses import replace

import pandas as pd

from samgap import style
from samgap.figures.chart import DASHED, Axis, Chart, Line, gap_axis, points
from samgap.figures.evidence.results import DECADE
from samgap.figures.evidence.slopes import MEAN
from samgap.figures.evidence.specifications import CHOICES, counts, said
from samgap.style import Look

ENDS = ("low", "high")
KINDS = {
    "unbiased": ("ours by the verdict's rule for ρ*, 95 % interval", style.SERIES[1], 0.16),
    "fixed": ("ours at equal ρ, 95 % interval", style.SERIES[2], -0.16),
    "published": ("published, 95 % interval by its bands", Look(style.PUBLISHED, "x"), 0.0),
}


def slopes(frame: pd.DataFrame) -> list[Chart]:
    """Return a forest plot for each unit of slopes; ours above the published, each with its mean."""
    return [_forest(str(unit), rows) for unit, rows in frame.groupby("unit", sort=False)]


def _forest(unit: str, frame: pd.DataFrame) -> Chart:
    kinds = frame["rule"].where(~frame["unbiased"], "unbiased")
    frame = frame.assign(kind=kinds)[kinds.isin(KINDS)]
    published, mean = frame["kind"].eq("published"), frame["study"].eq(MEAN)
    frame["name"] = frame["study"].where(~mean, published.map({False: "mean of ours", True: "mean of the published"}))
    left_out = frame["left_out"]
    frame["name"] = (
        frame["name"]
        .where(left_out.eq("") | (not mean.any()), "(" + frame["name"] + ")")
        .str.replace("label_noise", "noise")
    )
    ordered = frame.assign(theirs=published, mean=mean).sort_values(["theirs", "mean"], kind="stable")["name"]
    rows = {name: -row for row, name in enumerate(dict.fromkeys(ordered))}
    frame["row"] = frame["name"].map(rows) + frame["kind"].map({kind: aside for kind, (*_, aside) in KINDS.items()})
    lines = []
    for kind, (text, look, _) in KINDS.items():
        rows_of_kind = frame[(frame["kind"] == kind) & ~mean].rename(columns={"seeds": "n"})
        if len(rows_of_kind):
            marks = points(rows_of_kind, "slope", "row", ends=ENDS, note=left_out[rows_of_kind.index])
            lines.append(Line(text, marks, look, None, across=True, spread="95 % interval"))
    if (means := frame[mean]).size:
        note = "heterogeneity p = " + means["q_p"].map("{:.2g}".format)
        marks = points(means, "slope", "row", ends=ENDS, note=note)
        text = "random-effects mean of those without brackets"
        lines.append(Line(text, marks, Look("#000000", "D"), None, across=True, spread="95 % interval"))
    across = gap_axis(lines)
    per, title = "decade", "larger nets"
    if unit != DECADE:
        per, title = f"{unit.rpartition('.')[2]} of 1", f"more {unit.rpartition('.')[2]}"
    x = replace(
        across, title=f"slope, points per {per}" + ", logarithmic beyond 1" * (across.scale == "symlog"), name="slope"
    )
    if unit == DECADE and (known := means[means["unbiased"]]).size:
        title += ": ours in the mean {slope:+.2f} [{low:+.2f}, {high:+.2f}]".format(**known.iloc[0])
    return Chart(title, x, Axis("", "study", ticks=tuple((row, name) for name, row in rows.items())), lines)


def specifications(frame: pd.DataFrame) -> list[Chart]:
    """Return charts of the slopes of a study's specifications in ascending order, and of the choices of each."""
    frame = frame.assign(place=range(1, len(frame) + 1))
    x = Axis("way of asking, in the order of slopes", "way of asking")
    texts = {(count["choice"], count["value"]): said(count) for count in counts(frame)}
    rows = {pair: -row for row, pair in enumerate(texts)}
    notes = frame[[*CHOICES]].agg(", ".join, axis=1) + frame["p"].map(", p = {:.2g}".format)
    frame = frame.assign(note=notes, n=frame["seeds"])
    made = pd.concat([frame.assign(row=[rows[choice, value] for value in frame[choice]]) for choice in CHOICES])
    upper, lower = [], []
    for says_yes, text, look in ((True, "p < .05 for a rise", style.SERIES[0]), (False, "no", style.SERIES[4])):
        chosen, dots = (part[part["says_yes"] == says_yes] for part in (frame, made))
        slopes = points(chosen, "place", "slope", ends=ENDS, note=chosen["note"])
        line = Line(text, slopes, look, None, 4, says_yes, bars=True, spread="95 % interval")
        upper.append(line)
        lower.append(replace(line, points=points(dots, "place", "row", note=dots["note"]), bars=False, spread=""))
    axis = gap_axis(upper)
    name = "slope, points per decade" + ",\nlogarithmic beyond 1" * (axis.scale == "symlog")
    ticks = tuple((row, texts[pair]) for pair, row in rows.items())
    share = f"{frame['says_yes'].sum()} of {len(frame)} say yes"
    return [Chart(f"what each way of asking says: {share}", x, replace(axis, title=name, name="slope"), upper),
            Chart("which choices it makes: how many say yes", x, Axis("", "choice", ticks=ticks), lower)]  # fmt: skip


def gaps(frame: pd.DataFrame) -> list[Chart]:
    """Return charts of gaps over parameters, and over parameters per training image."""
    sizes = (
        ("params", "over parameters", Axis("parameters", "parameters", "log", "parameters")),
        ("per_image", "over parameters per training image",
         Axis("parameters per training image", "parameters an image", "log", "parameters")),
    )  # fmt: skip
    charts = []
    for x, title, axis in sizes:
        lines: list[Line] = []
        groups = [*frame.dropna(subset=x).groupby(["published", "study"], sort=False)]
        ours = style.looks(sum(not published for (published, _), _ in groups))
        looks = [*ours, *(Look(style.PUBLISHED, look.marker) for look in style.looks(len(groups) - len(ours)))]
        for ((published, _), rows), look in zip(groups, looks, strict=True):
            text = f"{'published ' * published}{rows['study'].iloc[0]}, {rows['data'].iloc[0]}"
            marks = points(rows.sort_values(x), x, "gap", ends=ENDS)
            spread = "as drawn in the paper" if published else "95 % interval"
            line = Line(text, marks, look, DASHED if published else (), filled=not published, bars=True, spread=spread)
            lines.append(line)
        charts.append(Chart(title, axis, gap_axis(lines), lines))
    return charts

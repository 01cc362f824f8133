"""The panels of a sweep's W&B dashboard, as a saved view and as a report. This module does not contact W&B."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wandb_workspaces import expr
from wandb_workspaces.reports.v2 import interface as wr
from wandb_workspaces.workspaces import interface as ws

from samgap.errors import SettingError
from samgap.figures.kind import from_settings as kind_of
from samgap.tracking import session
from samgap.tracking.gap_run import id_of

# Keys that a run logs in each epoch, and keys of its summary.
HISTORY = ("epoch", "lr", "train_loss", "train_acc", "test_loss", "test_acc", "holdout_loss", "holdout_acc",
           "grad_norm", "eps_norm", "loss_rise", "cosine", "sam_active")  # fmt: skip
SUMMARY = ("test_acc_final", "test_acc_best", "train_acc_final", "train_loss_final", "params_total", "params_live")
ABOUT = ("arm", "identity")  # in a run's W&B config, beside the settings
TABLE, FIGURE, VERDICT = "gaps", "figure", "verdict"  # keys of the gap run

Kind = Literal["history", "config", "summary"]


@dataclass(frozen=True)
class Part:
    """A section of the view and a chapter of the report."""

    name: str
    text: str  # first paragraph of the chapter
    panels: Sequence[Any]
    runs: wr.Runset  # runs of the chapter; the view has one run set for all sections
    grouped: Sequence[Any] = ()  # replaces `panels` in the report if `runs` has groups


def parts(name: str, scale: str, draw: Mapping[str, Any], choice: Mapping[str, Any]) -> list[Part]:
    """Return the sections in order.

    Args:
        name, scale: of the sweep.
        draw: the sweep's group `draw`.
        choice: the group `panels` of conf/dashboard.yaml.
    """
    sweep = expr.Tags().isin([_tag(name, scale)])
    arms = expr.And(sweep, expr.Metric("JobType").isin(["SGD", "SAM"]))
    sam = expr.And(sweep, expr.Metric("JobType") == "SAM")
    pinned = ["run:displayName", *(column(key) for key in choice["columns"])]
    sections = [
        _gap_part(name, scale, draw),
        _curves_part(choice["curves"], arms),
        _accuracy_part(arms),
        Part(
            "The step",
            "What the first ascent of each epoch was, by rho. eps_norm is rho while the ascent does what it says.",
            _curves(choice["steps"], "ascent.rho"),
            wr.Runset(name="SAM", filters=sam),
        ),
        Part(
            "Runs",
            "All runs of the sweep.",
            [wr.RunComparer(diff_only=True)],
            wr.Runset(name="runs", filters=arms, pinned_columns=pinned),
        ),
    ]
    _set_ids(sections, f"{name}/{scale}")
    return sections


def _gap_part(name: str, scale: str, draw: Mapping[str, Any]) -> Part:
    panels: list[Any] = [wr.WeavePanelSummaryTable(table_name=TABLE)]
    if chart := kind_of(draw).main:
        panels.append(
            wr.CustomChart(  # as `wandb.plot.line` makes it
                query={"summaryTable": {"tableKey": f"{chart}_table"}},
                chart_name="wandb/line/v0",
                chart_fields={"x": "x", "y": "y", "stroke": "series"},
                chart_strings={"title": chart},
            )
        )
    panels.append(wr.MediaBrowser(title=FIGURE, media_keys=[FIGURE], num_columns=1))
    gap_run = expr.And(expr.Metric("ID") == id_of(name, scale))
    return Part(
        "Verdict and gap",
        f"The verdict is the column `{VERDICT}` of the run below, which has the numbers of the drawn figure.",
        panels,
        wr.Runset(name="gap run", filters=gap_run, pinned_columns=["run:displayName", f"summary:{VERDICT}"]),
    )


def _curves_part(metrics: Sequence[str], arms: Any) -> Part:
    return Part(
        "Curves by arm and width",
        "Means over the runs of an arm and a width, with standard errors. The SAM arm is all of its radii.",
        [*_curves(metrics, "arm"), *_curves(metrics, "model.width")],
        wr.Runset(name="both arms", filters=arms, groupby=["config.arm", "config.model.width"]),
        _curves(metrics),
    )


def _accuracy_part(arms: Any) -> Part:
    acc, params = wr.SummaryMetric("test_acc_final"), wr.SummaryMetric("params_total")
    panels = [
        wr.ScatterPlot(title="test_acc_final over ascent.rho", x=wr.Config("ascent.rho"), y=acc),
        wr.ScatterPlot(title="test_acc_final over params_total", x=params, y=acc, log_x=True),
    ]
    run_set = wr.Runset(name="both arms", filters=arms)
    return Part("Accuracy over rho", "A point a run. rho is 0 in the SGD arm.", panels, run_set)


def _tag(name: str, scale: str) -> str:
    # Shortened like the tags of runs.
    return session.shorten(f"{name}/{scale}", session.TAG)


def view_id(sweep: str) -> str:
    """Return the id in the view's address, the same at every call. Hex digits, since the library removes "-v"."""
    return hashlib.sha256(sweep.encode()).hexdigest()[:11]


def column(key: str) -> str:
    """Return the name of a summary or config key in W&B's tables, such as config:model.value.width."""
    if key in SUMMARY:
        return f"summary:{key}"
    first, _, rest = key.partition(".")
    return f"config:{first}.value" + (f".{rest}" if rest else "")


def _curves(metrics: Sequence[str], key: str | None = None) -> list[Any]:
    # A panel can group by one key. The view's run set has no groups: else scatter plots would show groups as points.
    grouping: dict[str, Any] = {}
    if key:
        grouping = {"groupby": wr.Config(key), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    return [wr.LinePlot(title=f"{y} by {key}" if key else y, x="epoch", y=[y], **grouping) for y in metrics]


def _set_ids(sections: Sequence[Part], sweep: str) -> None:
    # The library's default ids are random. With these ids, all calls give the same JSON.
    digest = hashlib.sha256(sweep.encode()).hexdigest()[:8]
    for number, part in enumerate(sections):
        part.runs._id = f"{digest}r{number}"
        for row, panels in enumerate((part.panels, part.grouped)):
            for place, panel in enumerate(panels):
                panel._id = f"{digest}p{number}x{row}x{place}"
                panel.layout = wr.Layout(x=8 * (place % 3), y=6 * (place // 3))


def used_keys(sections: Sequence[Part], columns: Sequence[str]) -> Iterator[tuple[Kind, str]]:
    """Yield (place in the run, key) for each key that a panel or a column shows."""
    for part in sections:
        for panel in (*part.panels, *part.grouped):
            if isinstance(panel, wr.LinePlot):
                yield from (("history", str(key)) for key in (panel.x, *panel.y))
            places = [getattr(panel, place, None) for place in ("x", "y", "groupby")]
            yield from (("config", place.name) for place in places if isinstance(place, wr.Config))
            yield from (("summary", place.name) for place in places if isinstance(place, wr.SummaryMetric))
    yield from (("summary" if key in SUMMARY else "config", key) for key in columns)


def check(sections: Sequence[Part], columns: Sequence[str], settings: Sequence[str]) -> None:
    """Check that no panel will be empty, since W&B gives no message.

    Args:
        sections: the sections.
        columns: columns of the run table.
        settings: the dotted keys of a run's settings.

    Raises:
        SettingError: a section without panels, no columns, or a key that no run logs.
    """
    known = {"history": {*HISTORY}, "summary": {*SUMMARY}, "config": {*settings, *ABOUT}}
    empty = [part.name for part in sections if not part.panels] + ([] if columns else ["columns"])
    if empty:
        raise SettingError(f"Every section of the dashboard needs a panel, and {empty[0]!r} has none: see panels.*.")
    for kind, key in used_keys(sections, columns):
        if key not in known[kind]:
            places = "summary or config" if kind == "config" else kind
            raise SettingError(f"Panels show what runs log, and {key!r} is not in their {places}: see panels.*.")


def workspace(sections: Sequence[Part], entity: str, project: str, name: str, scale: str) -> ws.Workspace:
    """Return the saved view with the sweep's runs and sections."""
    view_sections = [
        ws.Section(
            name=part.name,
            panels=list(part.panels),
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=3, rows=-(-len(part.panels) // 3)),
        )
        for part in sections
    ]
    filters = expr.Or(expr.Tags().isin([_tag(name, scale)]), expr.Metric("ID") == id_of(name, scale))
    view = ws.Workspace(
        entity=entity,
        project=project,
        name=f"{name}/{scale}",
        sections=view_sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=1000),  # the default of 10 would hide most of a sweep
        runset_settings=ws.RunsetSettings(
            filters=filters, pinned_columns=[*sections[-1].runs.pinned_columns, f"summary:{VERDICT}"]
        ),
    )
    view._internal_name = f"nw-{view_id(view.name)}-v"  # the library's name for a view of this id
    return view


def report(sections: Sequence[Part], entity: str, project: str, name: str, scale: str, title: str) -> wr.Report:
    """Return the sections as a report. Later calls find it by its description, since the title may change."""
    blocks: list[Any] = [
        wr.P(f"{title}. The runs of the sweep {name}/{scale}, their gaps and the verdict."),
        wr.P("The next call of samgap.dashboard writes this page anew; comments stay."),
        wr.TableOfContents(),
    ]
    for part in sections:
        # Run sets without a project belong to the report's project, and the library need not query W&B for its id.
        grid = wr.PanelGrid(runsets=[part.runs], panels=list(part.grouped or part.panels))
        blocks += [wr.H1(part.name), wr.P(part.text), grid]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"{title} ({name}, {scale} scale)".replace("/", "-"),  # becomes part of the report's address
        description=f"Dashboard of {name}/{scale} by samgap.dashboard",
        blocks=blocks,
        width="fluid",
    )

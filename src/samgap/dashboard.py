"""`python -m samgap.dashboard figure=fig8/paper`: a sweep's runs in W&B as a saved view and a report."""

import contextlib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import hydra
import wandb
from omegaconf import DictConfig
from pydantic import ValidationError
from wandb_workspaces.reports.v2 import interface as wr
from wandb_workspaces.workspaces import interface as ws
from wandb_workspaces.workspaces import internal
from wandb_workspaces.workspaces.errors import SpecVersionError

from samgap import cli, naming
from samgap.errors import SettingError
from samgap.files import replace_text
from samgap.runs import identity
from samgap.tracking import panels, session
from samgap.training.settings import GROUPS, SCALARS

PLACEHOLDER = "entity"  # in what `dry_run` writes: the account's own is not known without asking

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="dashboard")
def main(config: DictConfig) -> None:
    """Make the dashboard of the sweep that `figure=` or `name=` names, or bring it up to date."""
    with cli.sentences():
        show(config)


def show(config: DictConfig) -> None:
    """Save view and report and print their addresses; with `dry_run`, write them below `root` instead.

    Raises:
        SettingError: no sweep is named, a panel shows what no run logs, or W&B does not take the dashboard.
    """
    values = naming.plain(config, "root", "name", "scale", "draw", "logger", "panels", "dry_run")
    name, scale, project = values["name"], values["scale"], values["logger"].get("project")
    if name == "adhoc":
        raise SettingError("A dashboard is of a sweep: give figure=fig8/paper or the name= of your own, got neither.")
    if project is None:
        raise SettingError(f"A dashboard wants logger=wandb, which names the project, got {values['logger']['name']}.")
    settings = [*identity.flat(naming.plain(config, *GROUPS, *SCALARS))]
    if values["dry_run"]:
        view, report = _made(values, settings, values["logger"]["entity"] or PLACEHOLDER)
        folder = Path(values["root"]) / name / scale / "dashboard"
        replace_text(folder / "workspace.json", panels.view_json(view))
        replace_text(folder / "report.json", panels.report_json(report))
        replace_text(folder / "layout.svg", sketch(view))
        print(f"{folder}/{{workspace.json,report.json,layout.svg}}")
        return
    with session.account(
        Path(values["root"]), values["logger"]["start_seconds"], "A dashboard", "set dry_run=true"
    ) as api:
        entity = values["logger"]["entity"] or api.default_entity
        if not entity:
            raise SettingError("The W&B account has no entity of its own: set logger.entity, got null.")
        if all(known.name != project for known in api.projects(entity)):
            raise SettingError(
                f"W&B has no project {entity}/{project}: set logger.project and logger.entity, or send runs first "
                "(logger=wandb, `wandb sync`)."
            )
        view, report = _made(values, settings, entity)
        try:
            _update(api, view, report)
        except SpecVersionError as error:
            raise SettingError(f"W&B did not take the dashboard ({session.line(error)}): set dry_run=true.") from error
        print(f"{view.url}\n{report.url}")


def _made(values: Mapping[str, Any], settings: list[str], entity: str) -> tuple[ws.Workspace, wr.Report]:
    name, scale, shown, draw = (values[key] for key in ("name", "scale", "panels", "draw"))
    place = (entity, values["logger"]["project"], name, scale)
    try:
        parts = panels.parts(name, scale, draw, shown)
        panels.check(parts, shown["columns"], settings)
        view, report = panels.workspace(parts, *place), panels.report(parts, *place, draw["title"])
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(
            f"W&B does not take {first['input']!r} ({first['msg']}): change name, scale, draw.title or panels.*."
        ) from error
    panels.view_json(view), panels.report_json(report)  # nothing is sent that could not be read back
    return view, report


def _update(api: wandb.Api, view: ws.Workspace, report: wr.Report) -> None:
    """Save both over those of an earlier call, where there are some: the ids tell W&B which to replace."""
    with contextlib.suppress(ValueError):  # what the library says of a view that is not there
        view._internal_id = internal.get_view_dict(view.entity, view.project, panels.view_id(view.name))["id"]
    for found in api.reports(f"{view.entity}/{view.project}"):
        if found.description == report.description:
            report.id = found.id
            report._discussion_threads = found.spec.get("discussionThreads", [])  # comments are not ours to delete
            break
    view.save()
    report.save()


def sketch(view: ws.Workspace) -> str:
    """What a view holds as an SVG: its runs and columns, then section by section a box a panel."""
    width, height, gap = 300, 54, 10
    shown = [name.partition(":")[2].replace(".value", "") for name in view.runset_settings.pinned_columns]
    runs = [f"runs: {view.runset_settings.filters}", f"columns: {', '.join(shown)}"]
    drawn = [_text(0, 14, f"View {view.name}", 'font-weight="600"'), _text(0, 36, runs[0]), _text(0, 54, runs[1])]
    y = 66
    for section in view.sections:
        drawn.append(_text(0, y + 14, section.name, 'font-weight="600"'))
        columns = section.layout_settings.columns
        for place, panel in enumerate(section.panels):
            x, top = place % columns * (width + gap), y + 24 + place // columns * (height + gap)
            box = f'x="{x}" y="{top}" width="{width}" height="{height}"'
            drawn.append(f'<rect {box} fill="#eef2f7" stroke="#8fa3b8"/>')
            drawn.append(_text(x + 10, top + 22, _title(panel)))
            drawn.append(_text(x + 10, top + 42, type(panel).__name__, 'fill="#5a6b7d"'))
        y += 24 + -(-len(section.panels) // columns) * (height + gap) + gap
    size = (3 * (width + gap) + gap, y + gap)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {size[0]} {size[1]}"'
    paper = f'<rect x="-10" y="-10" width="{size[0]}" height="{size[1]}" fill="white"/>'
    return "\n".join([f'{head} font-family="sans-serif" font-size="13">', paper, *drawn, "</svg>", ""])


def _text(x: int, y: int, words: str, style: str = 'fill="#000"') -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


def _title(panel: Any) -> str:
    if isinstance(panel, wr.CustomChart):
        return str(panel.chart_strings["title"])
    if isinstance(panel, wr.RunComparer):
        return "settings in which the runs differ"
    return str(getattr(panel, "title", None) or f"table {panel.table_name}")


if __name__ == "__main__":
    cli.command(main)

"""`python -m samgap.dashboard figure=fig8/paper`: make a saved view and a report of a sweep in W&B."""

import contextlib
from collections.abc import Mapping
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
from samgap.rules import FLAG, Rule, check, is_text
from samgap.runs import identity
from samgap.tracking import panels, session
from samgap.training.settings import GROUPS, SCALARS

PARTS = ("curves", "steps", "columns")
PLACEHOLDER = "entity"  # in place of the account's entity in the files of `dry_run`, which does not contact W&B
PANELS = Rule(
    lambda value: (
        isinstance(value, dict)
        and all(isinstance(value.get(part), list) and all(map(is_text, value[part])) for part in PARTS)
    ),
    "lists of keys named curves, steps and columns",
)

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="dashboard")
def main(config: DictConfig) -> None:
    """Create or update the dashboard of the sweep that `figure=` or `name=` names."""
    with cli.sentences():
        show(config)


def show(config: DictConfig) -> None:
    """Save the view and the report and print their addresses; with `dry_run`, write them below `root` instead.

    Raises:
        SettingError: no sweep is named, a panel shows a key that no run logs, or W&B rejects the dashboard.
    """
    values = naming.plain(config, "root", "name", "scale", "draw", "logger", "panels", "dry_run")
    check(values, {"dry_run": FLAG, "panels": PANELS})
    name, scale, project = values["name"], values["scale"], values["logger"].get("project")
    if name == "adhoc":
        raise SettingError("A dashboard is of a sweep: give figure=fig8/paper or the name= of your own, got neither.")
    if project is None:
        raise SettingError(f"A dashboard needs logger=wandb, which names the project, got {values['logger']['name']}.")
    settings = [*identity.flat(naming.plain(config, *GROUPS, *SCALARS))]
    if values["dry_run"]:
        view, report = _made(values, settings, values["logger"]["entity"] or PLACEHOLDER)
        folder = Path(values["root"]) / name / scale / "dashboard"
        for file, page in (("workspace.json", view), ("report.json", report)):
            model = page._to_model()  # as `save` sends it
            replace_text(folder / file, model.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n")
        print(f"{folder}/{{workspace.json,report.json}}")
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
    name, scale, choice, draw = (values[key] for key in ("name", "scale", "panels", "draw"))
    place = (entity, values["logger"]["project"], name, scale)
    try:
        parts = panels.parts(name, scale, draw, choice)
        panels.check(parts, choice["columns"], settings)
        return panels.workspace(parts, *place), panels.report(parts, *place, draw["title"])
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(
            f"W&B does not take {first['input']!r} ({first['msg']}): change name, scale, draw.title or panels.*."
        ) from error


def _update(api: wandb.Api, view: ws.Workspace, report: wr.Report) -> None:
    """Save both in W&B, in place of those of an earlier call, which have the same ids."""
    with contextlib.suppress(ValueError):  # the library raises it if the view does not exist
        view._internal_id = internal.get_view_dict(view.entity, view.project, panels.view_id(view.name))["id"]
    for existing in api.reports(f"{view.entity}/{view.project}"):
        if existing.description == report.description:
            report.id = existing.id
            report._discussion_threads = existing.spec.get("discussionThreads", [])  # keeps users' comments
            break
    view.save()
    report.save()


if __name__ == "__main__":
    cli.command(main)

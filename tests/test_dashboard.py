"""The W&B dashboard: it shows what runs log, and a second call changes the first one's instead of adding to it."""

import itertools
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml

from samgap import cli, identity, panels
from samgap.errors import SettingError
from samgap.results.gap_run import id_of
from tests.conftest import config

Command = Callable[..., tuple[int, str, str]]
TOP = Path(__file__).parents[1]
SHOWN = yaml.safe_load((Path(cli.CONF) / "dashboard.yaml").read_text())["panels"]
DRAW = {"study": panels.GAPS, "x": None}
FIGURES = sorted(path.parent.name for path in (Path(cli.CONF) / "figure").glob("*/smoke.yaml"))


class Server:
    """As much of W&B as the library asks: it keeps views and reports, and replaces those whose id is given."""

    app_url = "https://wandb.example/"

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.ids = (f"VmlldzoxMjM0{number}" for number in itertools.count())

    def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "mutation" in query:
            mine = variables.get("id") or next(self.ids)
            self.kept[mine] = variables
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = variables | {"id": mine, "project": project}
            return {"upsertView": {"view": view, "inserted": not variables.get("id")}}
        assert "allViews" in query
        found = [view | {"id": mine} for mine, view in self.kept.items() if view["name"] == variables["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        return [view for view in self.kept.values() if view["type"] == type_]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    mine = Server()

    class Api:
        default_entity = "someone"

        def __init__(self, timeout: int = 0) -> None:
            self._service_api = mine

        def projects(self, entity: str) -> list[Any]:
            return [SimpleNamespace(name="other"), SimpleNamespace(name="samgap")]

        def reports(self, path: str) -> list[Any]:
            return [
                SimpleNamespace(id=key, description=view["description"], spec=json.loads(view["spec"]))
                for key, view in mine.kept.items()
                if view["type"] == "runs" and path == f"{view['entityName']}/{view['projectName']}"
            ]

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    return mine


def test_a_second_call_replaces_the_view_and_the_report_of_the_first(command: Command, server: Server) -> None:
    code, out, err = command("dashboard", "figure=fig8/paper")
    assert code == 0, err
    view, report = out.splitlines()
    assert view == f"https://wandb.example/someone/samgap?nw={panels.view_id('fig8/paper')}"
    assert report.startswith("https://wandb.example/someone/samgap/reports/Figure-8:-what-SAM-gains")
    first = dict(server.kept)

    assert command("dashboard", "figure=fig8/paper")[1] == out
    assert server.kept.keys() == first.keys()
    assert [len(server.of_type(name)) for name in ("project-view", "runs")] == [1, 1]
    assert server.of_type("project-view")[0]["displayName"] == "fig8/paper"
    assert all(server.kept[key]["spec"] == first[key]["spec"] for key in first)

    # What is new replaces the old, under another title too; what readers wrote stays.
    mine = next(key for key, view in server.kept.items() if view["type"] == "runs")
    server.kept[mine]["spec"] = json.dumps(json.loads(server.kept[mine]["spec"]) | {"discussionThreads": [{"a": 1}]})
    assert command("dashboard", "figure=fig8/paper", "draw.title=Another", "panels.curves=[test_loss]")[0] == 0
    assert server.kept.keys() == first.keys()
    assert server.kept[mine]["displayName"] == "Another (fig8, paper scale)"
    assert json.loads(server.kept[mine]["spec"])["discussionThreads"] == [{"a": 1}]
    assert "test_loss" in server.of_type("project-view")[0]["spec"]

    # Another scale is another sweep, another entity another place.
    assert command("dashboard", "figure=fig8/smoke")[0] == 0
    assert command("dashboard", "figure=fig8/paper", "logger.entity=team")[0] == 0
    assert len(server.of_type("runs")) == 3


def test_it_asks_for_a_project_that_is_there(command: Command, server: Server) -> None:
    code, _, err = command("dashboard", "figure=fig8/paper", "logger.project=nowhere")
    assert code == 1
    assert err.startswith("samgap: W&B has no project someone/nowhere: set logger.project")
    assert not server.kept


def test_a_dry_run_writes_what_would_be_sent(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    command("dashboard", "figure=fig8/paper", "logger.entity=entity")
    sent = {view["type"]: json.loads(view["spec"]) for view in server.kept.values()}
    monkeypatch.setattr(wandb, "Api", _no_network)
    monkeypatch.setattr(wandb, "login", _no_network)
    code, out, err = command("dashboard", "figure=fig8/paper", "dry_run=true", f"root={tmp_path}")
    assert code == 0, err
    folder = tmp_path / "fig8" / "paper" / "dashboard"
    assert out == f"{folder}/{{workspace.json,report.json,layout.svg}}\n"
    view, report = (json.loads((folder / f"{name}.json").read_text()) for name in ("workspace", "report"))
    assert (view["spec"], report["spec"]) == (sent["project-view"], sent["runs"])
    assert (view["entity"], view["project"], view["displayName"]) == ("entity", "samgap", "fig8/paper")

    section = view["spec"]["section"]
    assert [part["name"] for part in section["panelBankConfig"]["sections"]] == [
        "Verdict and gap", "Curves by arm and width", "Accuracy over rho", "The step", "Runs",
    ]  # fmt: skip
    runs = section["runSets"][0]
    assert [(leaf["key"]["name"], leaf["op"], leaf["value"]) for leaf in runs["filters"]["filters"]] == [
        ("tags", "IN", ["fig8/paper"]), ("name", "=", "gaps-fig8-paper"),
    ]  # fmt: skip
    pinned = runs["runFeed"]["columnPinned"].keys()
    assert {"config:arm.value", "config:model.value.width", "summary:test_acc_final"} <= pinned
    # The page that shows it is up to date.
    assert (TOP / "docs" / "dashboard.svg").read_text() == (folder / "layout.svg").read_text()


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_has_a_dashboard(figure: str) -> None:
    values = config(f"figure={figure}/smoke", name="dashboard")
    parts = panels.parts(values["name"], "smoke", values["draw"], values["panels"])
    panels.check(parts, values["panels"]["columns"], [*identity.flat(values)])
    place = ("entity", "samgap", values["name"], "smoke")
    panels.view_json(panels.workspace(parts, *place))
    panels.report_json(panels.report(parts, *place, values["draw"]["title"]))
    charts = [panel for panel in parts[0].panels if type(panel).__name__ == "CustomChart"]
    assert len(charts) == (values["draw"]["study"] == panels.GAPS)


def test_panels_show_what_runs_log(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        "train", f"root={tmp_path}", "epochs=1", "data.train_size=64", "data.holdout=40", "model.width=0.1",
        "ascent.rho=0.1", "name=fig8", "scale=paper", "logger=wandb", "logger.mode=offline",
    )  # fmt: skip
    assert code == 0, err
    run = inspect(next((tmp_path / "wandb").glob("offline-run-*")))
    parts = panels.parts("fig8", "paper", DRAW, SHOWN)
    wanted = {*panels.used(parts, SHOWN["columns"])}
    assert {kind for kind, _ in wanted} == {"history", "summary", "config"}
    for kind, key in wanted:
        value = run["config"] if kind == "config" else run["summary"]
        # W&B's address of a nested key, config:model.value.width, is another than that of a key with a dot in it.
        for name in key.split("."):
            assert name in value, (kind, key)
            value = value[name]
    assert {*panels.HISTORY, *panels.SUMMARY} <= run["summary"].keys()
    assert {*panels.ABOUT} <= run["config"].keys()
    assert "fig8/paper" in run["tags"]


def test_panels_show_what_the_gap_run_logs(command: Command, tmp_path: Path) -> None:
    tiny = (f"root={tmp_path}", "epochs=1", "data.train_size=64", "data.holdout=40", "model.width=0.1,0.2",
            "ascent.rho=0,0.1", "seed=0,1")  # fmt: skip
    assert command("train", "-m", "figure=fig7/smoke", *tiny)[0] == 0
    code, _, err = command("draw", "figure=fig7/smoke", f"root={tmp_path}", "logger=wandb", "logger.mode=offline")
    assert code == 0, err
    name = id_of("fig7", "smoke")
    run = inspect(next((tmp_path / "wandb").glob(f"offline-run-*-{name}")))
    table, chart, image = panels.parts("fig7", "smoke", DRAW, SHOWN)[0].panels
    shown = {table.table_name, chart.query["summaryTable"]["tableKey"], *image.media_keys, panels.VERDICT}
    assert shown <= run["summary"].keys()
    assert "fig7/smoke" in run["tags"]


def inspect(folder: Path) -> dict[str, Any]:
    """A run as W&B's own reader sees it."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", folder]
    found: dict[str, Any] = json.loads(subprocess.run(reader, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "A dashboard is of a sweep: give figure="),
        (["figure=fig8/smoke", "logger=csv"], "A dashboard wants logger=wandb, which names the project, got csv."),
        (["figure=fig8/smoke", "panels.curves=[test_ac]"], "Panels show what runs log, and 'test_ac' is not"),
        (["figure=fig8/smoke", "panels.steps=[]"], "Every section of the dashboard wants a panel, and 'The step'"),
        (["figure=fig8/smoke", "panels.columns=[]"], "wants a panel, and 'columns' has none"),
        (["figure=fig8/smoke", "panels.columns=[model.depth]"], "'model.depth' is not in their summary or config"),
        (["figure=fig8/smoke", f"draw.title={129 * 'x'}"], "at most 128 characters): change name, scale, draw.title"),
        (["name='a🙂'"], "Emojis are not allowed"),
        (["figure=fig8/huge"], "huge"),
    ],
)
def test_bad_input_is_one_sentence(command: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    code, out, err = command("dashboard", *arguments, "dry_run=true", f"root={tmp_path}")
    assert code == 1
    assert out == ""
    assert part in err
    assert "Traceback" not in err
    assert not [*tmp_path.iterdir()]


def test_a_spec_that_the_library_reads_differently_is_not_sent() -> None:
    parts = panels.parts("fig8", "paper", DRAW, SHOWN)
    parts[0].panels[0].layout.w = 24  # of a table, which the library forgets
    with pytest.raises(SettingError, match=r'does not survive .* "w": 24, becomes "w": 8'):
        panels.view_json(panels.workspace(parts, "entity", "samgap", "fig8", "paper"))
    with pytest.raises(SettingError, match="The report does not survive"):
        panels.report_json(panels.report(parts, "entity", "samgap", "fig8", "paper", "title"))


@pytest.mark.parametrize("logged_in", [False, True])
def test_no_account_and_no_network_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_in: bool
) -> None:
    # A process of its own: what W&B knows of the account stays in a process.
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_SERVICE", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers here
        if logged_in:
            monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        result = subprocess.run(
            [sys.executable, "-m", "samgap.dashboard", "figure=fig8/paper", "logger.start_seconds=1"],
            cwd=TOP, capture_output=True, text=True,
        )  # fmt: skip
    assert result.returncode == 1
    said = [line for line in result.stderr.splitlines() if line.startswith("samgap: ")]
    assert len(said) == 1
    assert ("W&B did not take the dashboard (" if logged_in else "run `wandb login`") in said[0]
    assert "Traceback" not in result.stderr


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a dry run asks nobody")

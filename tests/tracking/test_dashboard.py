"""The W&B dashboard shows the keys that runs log, and a second call updates the dashboard of the first."""

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml

from samgap import cli
from samgap.figures.gap.kinds import Gap
from samgap.figures.kind import from_settings
from samgap.runs import identity
from samgap.tracking import panels, session
from tests.conftest import config

Command = Callable[..., tuple[int, str, str]]
SHOWN = yaml.safe_load((Path(cli.CONF) / "dashboard.yaml").read_text())["panels"]
DRAW = {"_target_": "samgap.figures.gap.kinds.Gap", "title": "mine", "x": None}
FIGURES = sorted(path.parent.name for path in (Path(cli.CONF) / "figure").glob("*/smoke.yaml"))


class Server:
    """A stand-in for W&B's server that stores views and reports, and replaces those whose id is given."""

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

    # The new content replaces the old, even under another title; text that readers wrote stays.
    mine = next(key for key, view in server.kept.items() if view["type"] == "runs")
    server.kept[mine]["spec"] = json.dumps(json.loads(server.kept[mine]["spec"]) | {"discussionThreads": [{"a": 1}]})
    assert command("dashboard", "figure=fig8/paper", "draw.title=Another", "panels.curves=[test_loss]")[0] == 0
    assert server.kept.keys() == first.keys()
    assert server.kept[mine]["displayName"] == "Another (fig8, paper scale)"
    assert json.loads(server.kept[mine]["spec"])["discussionThreads"] == [{"a": 1}]
    assert "test_loss" in server.of_type("project-view")[0]["spec"]

    # Another scale is another sweep, and another entity has its own dashboards.
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
    assert out == f"{folder}/{{workspace.json,report.json}}\n"
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


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_has_a_dashboard(figure: str) -> None:
    values = config(f"figure={figure}/smoke", name="dashboard")
    parts = panels.parts(values["name"], "smoke", values["draw"], values["panels"])
    panels.check(parts, values["panels"]["columns"], [*identity.flat(values)])
    place = ("entity", "samgap", values["name"], "smoke")
    panels.workspace(parts, *place)._to_model()
    panels.report(parts, *place, values["draw"]["title"])._to_model()
    charts = [panel for panel in parts[0].panels if type(panel).__name__ == "CustomChart"]
    assert len(charts) == isinstance(from_settings(values["draw"]), Gap)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "A dashboard is of a sweep: give figure="),
        (["figure=fig8/smoke", "logger=csv"], "A dashboard needs logger=wandb, which names the project, got csv."),
        (["figure=fig8/smoke", "panels.curves=[test_ac]"], "Panels show what runs log, and 'test_ac' is not"),
        (["figure=fig8/smoke", "panels.steps=[]"], "Every section of the dashboard needs a panel, and 'The step'"),
        (["figure=fig8/smoke", "panels.columns=[]"], "needs a panel, and 'columns' has none"),
        (["figure=fig8/smoke", "panels.columns=null"], "panels must be lists of keys named curves, steps and columns"),
        (["figure=fig8/smoke", "panels.curves=test_acc"], "panels must be lists of keys named curves"),
        (["figure=fig8/smoke", "panels.steps=[1]"], "panels must be lists of keys named curves"),
        (["figure=fig8/smoke", "panels.columns=[model.depth]"], "'model.depth' is not in their summary or config"),
        (["figure=fig8/smoke", f"draw.title={129 * 'x'}"], "at most 128 characters): change name, scale, draw.title"),
        (["name='a🙂'"], 'got "a🙂"'),
        (["figure=fig8/huge"], "huge"),
        (
            ["figure=fig8/smoke", "logger.start_seconds=soon"],
            'logger.start_seconds must be a number above 0, got "soon"',
        ),
    ],
)
def test_bad_input_is_one_sentence(command: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    code, out, err = command("dashboard", *arguments, "dry_run=true", f"root={tmp_path}")
    assert code == 1
    assert out == ""
    assert part in err
    assert "Traceback" not in err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("logged_in", [False, True])
def test_no_account_and_no_network_are_one_sentence(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_in: bool
) -> None:
    session.end_process()  # wandb caches the account
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NETRC", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # a bound socket that does not listen: connections are refused
        if logged_in:
            monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        code, _, err = command("dashboard", "figure=fig8/paper", "logger.start_seconds=1", f"root={tmp_path}")
    session.end_process()
    assert code == 1
    (sentence,) = err.splitlines()
    assert ("samgap: A dashboard failed at W&B (" if logged_in else "run `wandb login`") in sentence


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a dry run asks nobody")

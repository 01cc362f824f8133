"""W&B: what is sent to it and what is not, how a sweep is read back, and that runs do not depend on it."""

import contextlib
import copy
import dataclasses
import functools
import gc
import http.server
import importlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from wandb.util import get_core_path

from samgap import cli
from samgap.errors import SettingError
from samgap.figures.convergence.kinds import Convergence
from samgap.runs import identity, records, sweeps
from samgap.runs.sweeps import Member, Sweep
from samgap.tracking import gap_run, panels, restore, session
from samgap.tracking import run as loggers
from tests.processes import LIMIT, below
from tests.test_commands import Command, lasting
from tests.tracking.test_dashboard import DRAW, SHOWN

KEY = 40 * "a"
NAME = f"mine.v2-{66 * 'x'}"  # longer than W&B's limit for tags, and with a dot, which starts no ending
ABOUT: dict[str, Any] = {
    "project": "samgap", "id": "own-id", "name": "own-name", "group": "own-group", "job_type": "SAM",
    "tags": ["one", "two"], "config": {"width": 1}, "start_seconds": 2,
}  # fmt: skip
CURVES = ("draw=convergence",)


def inspect(folder: Path) -> dict[str, Any]:
    """Return a run as W&B's own reader shows it."""
    return copy.deepcopy(json.loads(_inspect(folder, "-summary")))


def begun(folder: Path) -> dict[str, Any]:
    """Return what W&B received at the start of a run."""
    lines = [json.loads(line) for line in _inspect(folder).splitlines()]
    return next(line["run"] for line in lines if line["type"] == "run")


@functools.cache
def _inspect(folder: Path, *options: str) -> str:
    (log,) = folder.glob("run-*.wandb")
    # The call of `python -m wandb leet inspect`, which takes 1.5 s to start.
    reader = [
        get_core_path(),
        "leet",
        "inspect",
        "-no-observability",
        "-json",
        *options,
        "-run-file",
        log,
        folder.parent,
    ]
    return subprocess.run(reader, capture_output=True, text=True, timeout=LIMIT, check=True).stdout


@dataclasses.dataclass
class FakeFile:
    """A stand-in for `wandb.apis.public.File`."""

    name: str
    path: Path

    def download(self, root: str, replace: bool = False) -> None:
        target = Path(root) / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, target)


class FakeApi:
    """The part of `wandb.Api` that reading needs, for offline runs."""

    default_entity = "me"

    def __init__(self, folders: list[Path]) -> None:
        self.all, self.queries = [], 0
        for folder in folders:
            seen = inspect(folder)
            files = [
                FakeFile(str(path.relative_to(folder / "files")), path) for path in (folder / "files").rglob("*.*")
            ]
            self.all.append(
                SimpleNamespace(
                    id=seen["run_id"],
                    config=seen["config"],
                    summary=seen["summary"],
                    state=seen["state"],
                    files=lambda files=files: files,
                )
            )

    def run(self, path: str) -> Any:
        assert path.startswith("me/samgap/")
        found = [run for run in self.all if run.id == path.rpartition("/")[2]]
        if not found:
            raise ValueError(f"Could not find run {path}")
        return found[-1]

    def runs(self, path: str, filters: Any, per_page: int, lazy: bool) -> Iterator[Any]:
        assert path == "me/samgap"
        assert not lazy
        (ids, identities) = filters["$or"]
        matching = [
            run
            for run in self.all
            if run.id in ids["name"]["$in"] or run.config.get("identity") in identities["config.identity"]["$in"]
        ]
        for number, run in enumerate(matching):
            self.queries += number % per_page == 0
            yield run


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry out a sweep with logger=wandb; return its root."""
    root = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv(cli.FULL, "0")
        patch.setattr(sys, "argv", [
            "samgap.train", "-m", f"root={root}", f"name={NAME}", f"data_dir={root}/data", "epochs=8",
            "data.train_size=64", "data.holdout=32", "model.width=0.1,0.2", "ascent.rho=0,0.1", "seed=0,1",
            "probe=[hessian]", "logger=wandb",
        ])  # fmt: skip
        cli.command(importlib.import_module("samgap.train").main, sweeps=True)
    return root


@pytest.fixture
def api(logged: Path) -> FakeApi:
    return FakeApi(folders(logged))


def folders(root: Path) -> list[Path]:
    return sorted((root / "wandb").glob("offline-run-*"))


def gap_runs(root: Path) -> list[Path]:
    return [folder for folder in folders(root) if "-gaps-" in folder.name]


def drawn(root: Path) -> dict[str, Any]:
    """Return what a drawing wrote, without its date."""
    values = json.loads((root / NAME / "own" / f"{NAME}.json").read_text())
    values["provenance"].pop("drawn")
    return values | {"csv": (root / NAME / "own" / f"{NAME}.csv").read_text()}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reset wandb to its state in a new process, without environment variables."""
    session.end_process()
    monkeypatch.setattr(session, "_failures", [])
    for name in [name for name in os.environ if name.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(name)
    yield
    session.end_process()


def test_a_run_sends_its_settings_its_whole_record_its_curve_and_its_probes(logged: Path) -> None:
    done = {record["identity"]: record for record in lasting(logged).values()}
    assert len(done) == 8
    for folder in set(folders(logged)) - set(gap_runs(logged)):
        seen = inspect(folder)
        record = done.pop(folder.name.rpartition("-")[2])
        own = logged / "runs" / record["folder"]
        assert seen["name"] == record["folder"]
        assert seen["config"]["model"] == record["settings"]["model"]
        assert seen["config"]["ascent"]["rho"] == record["settings"]["ascent"]["rho"]
        assert seen["config"]["arm"] == record["arm"]
        assert seen["config"]["identity"] == record["identity"]
        assert records.parse(seen["summary"]["record"]) == records.read(own)
        assert seen["summary"]["test_acc_final"] == record["test_acc_final"]
        assert seen["exit_code"] == 0
        for name in ("metrics.csv", "probes/hessian.json"):
            sent = folder / "files" / name
            assert not sent.is_symlink()  # it may be uploaded from a folder that was moved
            assert sent.read_text() == (own / name).read_text()
    assert not done


def test_the_gap_run_holds_grid_gaps_verdict_figure_and_files(logged: Path) -> None:
    first, drawn_ = gap_runs(logged)
    sweep = sweeps.read(logged, NAME, "own")
    assert sweeps.parse(json.loads(inspect(first)["config"]["grid"])) == sweep
    seen = inspect(drawn_)
    assert seen["run_id"] == f"gaps-{NAME}-own"
    assert sweeps.parse(json.loads(seen["config"]["grid"])) == sweep
    report = json.loads((logged / NAME / "own" / f"{NAME}.json").read_text())
    for cell in report["cells"]:
        name = f"model.width={cell['model.width']:g}"
        for key, column in (("gap", "gap"), ("low", "low"), ("high", "high"), ("rho*", "rho")):
            assert seen["summary"][f"{key}/{name}"] == cell[f"holdout_{column}"]
    assert seen["summary"]["verdict"] == report["verdicts"][0]["text"]
    assert seen["summary"]["runs missing"] == 0
    for kind, ending in (("images", ".png"), ("table", ".json")):
        assert [*(drawn_ / "files" / "media" / kind).glob(f"*{ending}")]
    (table,) = (drawn_ / "files" / "media" / "table").glob("gaps_*.json")
    kept = json.loads(table.read_text())
    assert [row[kept["columns"].index("holdout_gap")] for row in kept["data"]] == pytest.approx(
        [cell["holdout_gap"] for cell in report["cells"]], abs=1e-6
    )


def test_drawing_again_updates_the_same_run(command: Command, logged: Path, tmp_path: Path) -> None:
    shutil.copytree(logged / "runs", tmp_path / "runs")
    shutil.copytree(logged / NAME, tmp_path / NAME)
    for how in ((), CURVES):
        code, _, err = command("draw", f"name={NAME}", f"root={tmp_path}", "logger=wandb", *how)
        assert code == 0, err
    one, other = (inspect(folder) for folder in folders(tmp_path))
    assert one["run_id"] == other["run_id"] == f"gaps-{NAME}-own"
    assert "gap/model.width=0.1" in one["summary"]
    assert "rate/rule=sgd, ascent.rho=0, model.width=0.1" in other["summary"]
    assert "training loss: SGD_table" in other["summary"]


def test_no_secret_and_no_path_of_this_machine_is_sent(logged: Path) -> None:
    secrets = [str(logged), str(Path.home()), sys.executable, str(Path(__file__).parents[2]), KEY]
    sent = [path for folder in folders(logged) for path in (folder / "files").rglob("*.*") if path.suffix != ".png"]
    # A gap run's log also contains the path of its files before upload.
    sent += [log for folder in folders(logged) if folder not in gap_runs(logged) for log in folder.glob("*.wandb")]
    assert len(sent) > 30
    for path in sent:
        content = path.read_bytes()
        assert not [word for word in secrets if word.encode() in content], path
    for folder in gap_runs(logged):
        seen = inspect(folder)
        assert not [word for word in secrets if word in json.dumps([seen["config"], seen["summary"]])]


@pytest.fixture
def read_back(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Path, str, str]]:
    """Draw the sweep from the fake API; return (root of the new store, stdout, stderr)."""

    def call(api: FakeApi, *more: str) -> tuple[Path, str, str]:
        monkeypatch.setattr(wandb, "login", lambda **_: True)
        monkeypatch.setattr(wandb, "Api", lambda **_: api)
        code, out, err = command("draw", f"name={NAME}", f"root={tmp_path}", "source=wandb", "logger=wandb", *more)
        assert code == 0, err
        assert not folders(tmp_path)  # reading sends nothing
        return tmp_path / "wandb" / "read" / "me" / "samgap", out, err

    return call


def test_a_sweep_that_is_read_back_gives_the_same_gaps(
    read_back: Callable[..., Any], api: FakeApi, logged: Path
) -> None:
    store, out, err = read_back(api)
    assert "8 of 8 runs have their record in W&B." in err
    assert lasting(store) == lasting(logged)
    assert drawn(store) == drawn(logged)
    assert "model.width=0.1" not in out  # no message about missing runs
    assert api.queries == 1


def test_curves_and_probes_are_read_back_where_a_figure_needs_them(
    command: Command,
    read_back: Callable[..., Any],
    api: FakeApi,
    logged: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = tmp_path / "own"
    shutil.copytree(logged / "runs", own / "runs")
    shutil.copytree(logged / NAME, own / NAME)
    assert command("draw", f"name={NAME}", f"root={own}", *CURVES)[0] == 0
    store, _, _ = read_back(api, *CURVES)
    assert drawn(store)["csv"] == drawn(own)["csv"]
    assert not [*store.glob("runs/*/probes")]
    monkeypatch.setattr(Convergence, "files", ("metrics.csv", "probes"))
    read_back(api, *CURVES)
    assert len([*store.glob("runs/*/probes/hessian.json")]) == 8


def test_what_is_missing_or_not_over_is_named_and_doubles_count_once(
    read_back: Callable[..., Any], api: FakeApi, logged: Path
) -> None:
    runs = [run for run in api.all if not run.id.startswith("gaps-")]
    gone, crashed, doubled = runs[:3]
    api.all.remove(gone)
    crashed.state = "crashed"
    crashed.summary.pop("record")
    # An older run with the same identity and another id, and a run whose record has other settings.
    older = copy.deepcopy(doubled)
    older.id = "another"
    text = json.loads(older.summary["record"])
    older.summary["record"] = json.dumps(text | {"finished": "2020-01-01T00:00:00+00:00", "test_acc_final": 0.0})
    wrong = copy.deepcopy(doubled)
    wrong.summary["record"] = json.dumps(text | {"settings": text["settings"] | {"epochs": 99}})
    api.all += [older, wrong]
    store, out, err = read_back(api)
    assert "6 of 8 runs have their record in W&B; 1 " in err
    names = {record["identity"]: record["folder"] for record in lasting(logged).values()}
    assert f"{names[gone.id]} (missing)" in err
    assert f"{names[crashed.id]} (crashed)" in err
    assert "Not in the table: 2 missing run(s)." in out
    assert lasting(store) == {
        name: record for name, record in lasting(logged).items() if record["identity"] not in (gone.id, crashed.id)
    }


def test_many_runs_are_read_in_pages(
    logged: Path, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "CHUNK", 5)
    first = next(run for run in api.all if not run.id.startswith("gaps-"))
    record = records.parse(first.summary["record"])
    api.all, members = [], []
    for seed in range(12):
        settings = record.settings | {"seed": seed}
        mine = identity.identity(settings)
        one = dataclasses.replace(record, settings=settings, identity=mine, folder=identity.folder(settings))
        text = json.dumps(dataclasses.asdict(one))
        api.all.append(SimpleNamespace(id=mine, config={"identity": mine}, summary={"record": text}, state="finished"))
        members.append(Member(mine, one.folder, {"ascent.rho": 0, "seed": seed}, 1.0))
    grid = Sweep("many", "own", ["seed"], "", "", "", members)
    text = json.dumps(dataclasses.asdict(grid))
    api.all.append(SimpleNamespace(id="gaps-many-own", config={"grid": text}, summary={}, state="finished"))
    restored = restore.restore(api, tmp_path, "many", "own", "samgap", None)
    assert restored.text() == "12 of 12 runs have their record in W&B."
    assert len([*(restored.root / "runs").iterdir()]) == 12
    assert api.queries == 3


def test_what_w_and_b_does_not_know_is_one_sentence(api: FakeApi, tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"has no gap run of other/own .*set logger.entity and logger.project, or send one by"
    ):
        restore.restore(api, tmp_path, "other", "own", "samgap", None)
    assert not [*tmp_path.iterdir()]


def test_reading_needs_an_account_and_a_server(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None
) -> None:
    def said(*arguments: str) -> str:
        session.end_process()
        code, _, err = command("draw", "name=mine", f"root={tmp_path}", *arguments)
        assert code == 1
        (sentence,) = err.splitlines()
        return sentence

    monkeypatch.setattr(restore, "TIMEOUT", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    read = ("source=wandb", "logger=wandb")
    assert "source=wandb needs a W&B account and this machine is not logged in: run `wandb login`" in said(*read)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "samgap: source=wandb failed at W&B (" in said(*read)
    monkeypatch.setenv("WANDB_BASE_URL", "nowhere")
    assert "failed at W&B (base_url: Input should be a valid URL" in said(*read)
    assert "source must be records, reference or wandb, got 'disk'" in said("source=disk")
    # Entity and project are only set by logger.entity and logger.project.
    assert "add logger=wandb, got logger=csv." in said("source=wandb")
    assert said("source=wandb", "entity=team").endswith("Key 'entity' does not exist. There is logger.entity.")
    assert said("source=wandb", "logger.project=p").endswith("It is a key of logger=wandb.")
    assert not [*tmp_path.glob("mine")]


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as W&B does if the id is that of a deleted run: immediately, with an error."""

    def do_POST(self) -> None:
        body = json.dumps({"errors": [{"message": "run was previously created and deleted"}]}).encode()
        self.send_response(409)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def serving(kind: str) -> Iterator[int]:
    """Yield the port of a server that is dead, silent or refusing."""
    if kind == "refusing":
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_port
            server.shutdown()
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if kind == "silent":
            listening.listen(50)  # accepts connections and sends nothing
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("server", "key"),
    [("dead", KEY), ("silent", KEY), ("refusing", KEY), ("dead", "no key")],
    ids=["dead", "silent", "refusing", "no key"],
)
def test_a_wandb_that_does_not_answer_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None, server: str, key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)  # a machine that is logged in is online by default

    def run(number: int) -> None:
        with session.run(tmp_path, **ABOUT | {"id": f"run{number}"}) as opened:
            opened.log({"epoch": number})

    with serving(server) as port:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        with pytest.warns(UserWarning, match=r"W&B did not take the run \("):
            run(1)
        run(2)  # any other warning would be an error
    seen = [inspect(folder) for folder in folders(tmp_path)]
    assert [(one["run_id"], one["state"], one["summary"]["epoch"]) for one in seen] == [
        ("run1", "finished", 1), ("run2", "finished", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("missing", [False, True])
def test_a_wandb_that_refuses_or_is_not_there_stops_no_sweep(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None, missing: bool
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    if missing:
        monkeypatch.setitem(sys.modules, "wandb", None)  # importing wandb is an error
    with serving("refusing") as port:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        with pytest.warns(UserWarning, match="W&B does not start" if missing else "W&B did not take the run") as said:
            code, _, err = command(
                "train", "-m", "name=mine", f"root={tmp_path}", "epochs=1", "data.train_size=64", "model.width=0.1",
                "ascent.rho=0,0.1", "logger=wandb", "logger.mode=online",
            )  # fmt: skip
    assert code == 0, err
    assert len(said) == (4 if missing else 1)
    done = {record["identity"] for record in lasting(tmp_path).values()}
    assert len(done) == 2
    assert (tmp_path / "mine" / "own" / "mine.png").exists()
    kept = [folder.name.rpartition("-")[2] for folder in set(folders(tmp_path)) - set(gap_runs(tmp_path))]
    assert set(kept) == (set() if missing else done)
    assert len(gap_runs(tmp_path)) == (0 if missing else 2)


def test_a_wandb_whose_process_dies_stops_no_run(logged: Path, tmp_path: Path, fresh: None) -> None:
    def kill() -> None:
        # Use W&B's own handle, so that the process is waited for.
        (core,) = [thing for thing in gc.get_objects() if type(thing) is subprocess.Popen and thing.poll() is None]
        core.kill()
        core.wait(LIMIT)

    def tell() -> None:
        folder = min((logged / "runs").iterdir())
        record = records.read(folder)
        assert record is not None
        config = {"root": tmp_path, "name": "mine", "scale": "own"}
        with loggers.wandb(record.settings, config, project="samgap", mode="offline") as dying:
            assert dying.logger is not None
            kill()
            dying.logger.log_metrics({"test_acc": 0.5}, 1)
            dying.keep(record, folder)

    with pytest.warns(UserWarning, match="W&B did not take all"):
        tell()
    # Later runs start W&B's process again, even if it died between runs.
    for number in (1, 2):
        with session.run(tmp_path, mode="offline", **ABOUT | {"id": f"run{number}"}):
            pass
        assert inspect(folders(tmp_path)[-1])["state"] == "finished"
        kill()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("+logger.tags=[a]", 'logger.tags must be left out, since samgap sets it, got ["a"]'),
        ("logger.mode=onlin", 'offline or disabled, or null (its default is WANDB_MODE), got "onlin"'),
        (
            "logger.project=a/b",
            'logger.project must be a text of at most 128 characters without / \\ # ? % :, got "a/b"',
        ),
        ("logger.entity=a/b", 'or null for the account\'s own (its default is WANDB_ENTITY), got "a/b"'),
    ],
)
def test_what_is_wrong_for_wandb_is_one_sentence_and_nothing_starts(
    command: Command, tmp_path: Path, setting: str, sentence: str
) -> None:
    for called in (("train",), ("train", "-m"), ("draw",)):
        code, _, err = command(*called, "name=mine", f"root={tmp_path}", "logger=wandb", setting)
        assert code == 1
        assert sentence in err
    assert not list(tmp_path.iterdir())


def test_variables_that_others_left_behind_make_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    for name in session.OURS:
        monkeypatch.setenv(f"WANDB_{name}", "" if name == "TAGS" else "stale")
    for name in ("SWEEP_ID", "RUN_ID"):  # an agent sets both
        monkeypatch.delenv(f"WANDB_{name}")
        monkeypatch.setenv("WANDB_SWEEP_ID" if name == "RUN_ID" else "WANDB_RUN_ID", "stale")
        before = dict(os.environ)
        with session.run(tmp_path, mode="offline", **ABOUT):
            pass
        assert dict(os.environ) == before
        session.end_process()
        seen = begun(folders(tmp_path)[-1])
        said = [seen[key] for key in ("run_id", "display_name", "run_group", "job_type", "tags", "project")]
        assert said == ["own-id", "own-name", "own-group", "SAM", ["one", "two"], "samgap"]
        assert "sweep_id" not in seen


@pytest.mark.filterwarnings("ignore:unclosed file .*config.yaml:ResourceWarning")  # W&B leaves it open
def test_a_run_of_an_agent_is_the_agent_s_and_a_sweep_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    chosen = tmp_path / "config.yaml"
    chosen.write_text("ascent.rho:\n  value: 0.2\n")
    for name, value in (
        ("SWEEP_ID", "sweep"),
        ("RUN_ID", "agents"),
        ("PROJECT", "theirs"),
        ("SWEEP_PARAM_PATH", chosen),
    ):
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    with session.run(tmp_path, mode="offline", **ABOUT):
        pass
    session.end_process()
    seen = begun(folders(tmp_path)[-1])
    assert [seen[key] for key in ("run_id", "display_name", "run_group", "project", "sweep_id")] == [
        "agents", "own-name", "own-group", "theirs", "sweep",
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="WANDB_SWEEP_ID is left aside"):
        gap_run.write(Sweep("mine", "own", [], "", "", "", []), tmp_path, project="samgap", mode="offline")
    seen = begun(gap_runs(tmp_path)[-1])
    assert (seen["run_id"], seen["project"]) == ("gaps-mine-own", "samgap")
    assert "WANDB_SWEEP_ID" not in os.environ  # nor in workers


def test_a_study_with_one_of_two_probes_is_drawn_and_sent(
    logged: Path, command: Command, tmp_path: Path, fresh: None
) -> None:
    shutil.copytree(logged / "runs", tmp_path / "runs")
    sweeps.write(dataclasses.replace(sweeps.read(logged, NAME, "own"), name="mine"), tmp_path)
    # Only the Hessian was probed, so there is no chart of the moments.
    code, _, err = command("draw", "name=mine", "draw=sharpness", "logger=wandb", f"root={tmp_path}")
    assert (code, "did not take" in err) == (0, False), err
    (sent,) = gap_runs(tmp_path)
    assert [*(sent / "files" / "media" / "images").glob("figure*.png")]


def test_a_process_of_wandb_that_does_not_end_is_left_alone(
    tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = below(os.getpid())
    with session.run(tmp_path, mode="offline", **ABOUT):
        (stopped,) = (pid for pid, line in below(os.getpid()).items() if pid not in before and "wandb-core" in line)
    os.kill(stopped, signal.SIGSTOP)
    try:
        monkeypatch.setattr(session, "END_SECONDS", 0.1)
        session.end_process()  # wandb.teardown waits forever
        with session.run(tmp_path, mode="offline", **ABOUT | {"id": "next"}) as second:
            assert second is not None
    finally:
        os.kill(stopped, signal.SIGKILL)
    assert len(folders(tmp_path)) == 2


def test_names_are_cut_to_what_wandb_takes_and_stay_different(tmp_path: Path, fresh: None) -> None:
    long = {key: 200 * key[0] for key in ("id", "name", "group", "job_type")}
    with session.run(tmp_path, mode="offline", **ABOUT | long | {"tags": ["short", 65 * "t", 65 * "t" + "u"]}):
        pass
    seen = begun(folders(tmp_path)[-1])
    assert {key: len(seen[key]) for key in ("run_id", "display_name", "run_group", "job_type")} == {
        "run_id": 128, "display_name": 128, "run_group": 128, "job_type": 64,
    }  # fmt: skip
    whole, *cut = seen["tags"]
    assert whole == "short"
    assert [len(tag) for tag in cut] == [64, 64]
    assert len(set(cut)) == 2
    assert len(gap_run.id_of(300 * "x", "own")) == 128  # also the name of its artifact


def test_nothing_is_written_below_the_home_folder_which_may_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)

    def tell() -> None:
        with session.run(tmp_path, **ABOUT) as run:
            files = wandb.Artifact("own", type="figure")
            files.add_file(__file__)
            run.log_artifact(files)
        session.end_process()
        assert inspect(folders(tmp_path)[-1])["state"] == "finished"

    tell()
    assert not [*home.iterdir()]
    assert [*(tmp_path / "wandb" / "data").rglob("staging/*")]
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", dict().__getitem__)  # a container's user without an entry in passwd
    tell()
    assert len(folders(tmp_path)) == 2
    assert "HOME" not in os.environ


def test_disabled_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with session.run(tmp_path, mode="disabled", **ABOUT) as run:
        assert run is None
    assert not [*tmp_path.iterdir()]


def test_panels_show_what_runs_log(logged: Path) -> None:
    parts = panels.parts(NAME, "own", DRAW, SHOWN)
    expected = {*panels.used_keys(parts, SHOWN["columns"])}
    assert {kind for kind, _ in expected} == {"history", "summary", "config"}
    runs = [inspect(folder) for folder in set(folders(logged)) - set(gap_runs(logged))]
    run = next(run for run in runs if run["config"]["arm"] == "SAM")
    for kind, key in expected:
        value = run["config"] if kind == "config" else run["summary"]
        # W&B's name of a nested key, config:model.value.width, differs from that of a key that contains a dot.
        for name in key.split("."):
            assert name in value, (kind, key)
            value = value[name]
    assert {*panels.HISTORY, *panels.SUMMARY} <= run["summary"].keys()
    assert {*panels.ABOUT} <= run["config"].keys()
    view = panels.workspace(parts, "entity", "samgap", NAME, "own")
    assert repr(run["tags"][-1]) in str(view.runset_settings.filters)


def test_panels_show_what_the_gap_run_logs(logged: Path) -> None:
    run = inspect(gap_runs(logged)[-1])
    parts = panels.parts(NAME, "own", DRAW, SHOWN)
    table, chart, image = parts[0].panels
    shown = {table.table_name, chart.query["summaryTable"]["tableKey"], *image.media_keys, panels.VERDICT}
    assert shown <= run["summary"].keys()
    filters = str(panels.workspace(parts, "entity", "samgap", NAME, "own").runset_settings.filters)
    assert repr(run["tags"][-1]) in filters
    assert repr(run["run_id"]) in filters

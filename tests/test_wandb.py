"""W&B: what it is told, what it is not, how a sweep is read back, and that nothing depends on it."""

import contextlib
import copy
import dataclasses
import functools
import http.server
import json
import os
import shutil
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

from samgap import identity, mirror, records
from samgap.errors import SettingError
from samgap.results import gap_run, restore, sweeps
from samgap.results.sweeps import Member, Sweep
from tests.test_commands import Command, lasting, start, wait_for

KEY = 40 * "a"
CURVES = ("draw.study=samgap.results.convergence.evaluate", "draw._target_=samgap.figures.convergence.draw",
          "draw.plotted=samgap.results.plotted.convergence", "draw.files=[metrics.csv]")  # fmt: skip


def inspect(folder: Path) -> dict[str, Any]:
    """A run as W&B's own reader sees it."""
    return copy.deepcopy(_inspect(folder))


@functools.cache
def _inspect(folder: Path) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", folder],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(result.stdout)


@dataclasses.dataclass
class FakeFile:
    """As `wandb.apis.public.File`."""

    name: str
    path: Path

    def download(self, root: str, replace: bool = False) -> None:
        target = Path(root) / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, target)


class FakeApi:
    """As much of `wandb.Api` as reading wants, over runs that were kept offline."""

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
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a sweep with logger=wandb."""
    root = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", KEY)
        process = start(
            root, "name=mine", f"data_dir={root}/data", "epochs=8", "data.train_size=64", "data.holdout=32",
            "model.width=0.1,0.2", "ascent.rho=0,0.1", "seed=0,1", "probe=[hessian]", "logger=wandb",
        )  # fmt: skip
        err = process.communicate()[1]
    assert process.returncode == 0, err
    return root


@pytest.fixture
def api(told: Path) -> FakeApi:
    return FakeApi(folders(told))


def folders(root: Path) -> list[Path]:
    return sorted((root / "wandb").glob("offline-run-*"))


def gap_runs(root: Path) -> list[Path]:
    return [folder for folder in folders(root) if "-gaps-" in folder.name]


def drawn(root: Path) -> dict[str, Any]:
    """What a drawing wrote, without when."""
    values = json.loads((root / "mine" / "own" / "mine.json").read_text())
    values["provenance"].pop("drawn")
    return values | {"csv": (root / "mine" / "own" / "mine.csv").read_text()}


def test_a_run_tells_its_settings_its_whole_record_its_curve_and_its_probes(told: Path) -> None:
    done = {record["identity"]: record for record in lasting(told).values()}
    assert len(done) == 8
    for folder in set(folders(told)) - set(gap_runs(told)):
        seen = inspect(folder)
        record = done.pop(folder.name.rpartition("-")[2])
        own = told / "runs" / record["folder"]
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
            assert not sent.is_symlink()  # it may be sent from a folder that was moved
            assert sent.read_text() == (own / name).read_text()
    assert not done


def test_the_gap_run_holds_grid_gaps_verdict_figure_and_files(told: Path) -> None:
    begun, drawn_ = gap_runs(told)
    sweep = sweeps.read(told, "mine", "own")
    assert gap_run.grid(inspect(begun)["config"]["grid"]) == sweep
    seen = inspect(drawn_)
    assert seen["run_id"] == "gaps-mine-own"
    assert gap_run.grid(seen["config"]["grid"]) == sweep
    report = json.loads((told / "mine" / "own" / "mine.json").read_text())
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


def test_drawing_again_tells_the_same_run(command: Command, told: Path, tmp_path: Path) -> None:
    shutil.copytree(told / "runs", tmp_path / "runs")
    shutil.copytree(told / "mine", tmp_path / "mine")
    for how in ((), CURVES):
        code, _, err = command("draw", "name=mine", f"root={tmp_path}", "logger=wandb", *how)
        assert code == 0, err
    one, other = (inspect(folder) for folder in folders(tmp_path))
    assert one["run_id"] == other["run_id"] == "gaps-mine-own"
    assert "gap/model.width=0.1" in one["summary"]
    assert "rate/rule=sgd, ascent.rho=0, model.width=0.1" in other["summary"]
    assert "training loss: SGD_table" in other["summary"]


def test_no_secret_and_no_path_of_this_machine_is_sent(told: Path) -> None:
    told_of = [str(told), str(Path.home()), sys.executable, str(Path(__file__).parents[1]), KEY]
    sent = [path for folder in folders(told) for path in (folder / "files").rglob("*.*") if path.suffix != ".png"]
    # A gap run's log also says where its files wait to be sent.
    sent += [log for folder in folders(told) if folder not in gap_runs(told) for log in folder.glob("*.wandb")]
    assert len(sent) > 30
    for path in sent:
        content = path.read_bytes()
        assert not [word for word in told_of if word.encode() in content], path
    for folder in gap_runs(told):
        seen = inspect(folder)
        assert not [word for word in told_of if word in json.dumps([seen["config"], seen["summary"]])]


@pytest.fixture
def read_back(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Path, str, str]]:
    """Draws mine/own from a fake: (root of the new store, out, err)."""

    def call(api: FakeApi, *more: str) -> tuple[Path, str, str]:
        monkeypatch.setattr(restore, "connect", lambda: api)
        code, out, err = command("draw", "name=mine", f"root={tmp_path}", "source=wandb", *more)
        assert code == 0, err
        return tmp_path / "wandb" / "read" / "me" / "samgap", out, err

    return call


def test_a_sweep_that_is_read_back_gives_the_same_gaps(read_back: Callable[..., Any], api: FakeApi, told: Path) -> None:
    store, out, err = read_back(api)
    assert "8 of 8 runs have their record in W&B." in err
    assert lasting(store) == lasting(told)
    assert drawn(store) == drawn(told)
    assert "model.width=0.1" not in out  # no note of anything missing
    assert api.queries == 1


def test_curves_and_probes_are_read_back_where_a_figure_wants_them(
    command: Command, read_back: Callable[..., Any], api: FakeApi, told: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(told / "runs", own / "runs")
    shutil.copytree(told / "mine", own / "mine")
    assert command("draw", "name=mine", f"root={own}", *CURVES)[0] == 0
    store, _, _ = read_back(api, *CURVES)
    assert drawn(store)["csv"] == drawn(own)["csv"]
    assert not [*store.glob("runs/*/probes")]
    read_back(api, *CURVES, "draw.files=[metrics.csv,probes]")
    assert len([*store.glob("runs/*/probes/hessian.json")]) == 8


def test_what_is_missing_or_not_over_is_named_and_doubles_count_once(
    read_back: Callable[..., Any], api: FakeApi, told: Path
) -> None:
    runs = [run for run in api.all if run.id != "gaps-mine-own"]
    gone, crashed, doubled = runs[:3]
    api.all.remove(gone)
    crashed.state = "crashed"
    crashed.summary.pop("record")
    # An older one of the same identity, sent under another id, and one whose record is of other settings.
    older = copy.deepcopy(doubled)
    older.id = "another"
    text = json.loads(older.summary["record"])
    older.summary["record"] = json.dumps(text | {"finished": "2020-01-01T00:00:00+00:00", "test_acc_final": 0.0})
    wrong = copy.deepcopy(doubled)
    wrong.summary["record"] = json.dumps(text | {"settings": text["settings"] | {"epochs": 99}})
    api.all += [older, wrong]
    store, out, err = read_back(api)
    assert "6 of 8 runs have their record in W&B; 1 " in err
    names = {record["identity"]: record["folder"] for record in lasting(told).values()}
    assert f"{names[gone.id]} (missing)" in err
    assert f"{names[crashed.id]} (crashed)" in err
    assert "Not in the table: 2 missing run(s)." in out
    assert lasting(store) == {
        name: record for name, record in lasting(told).items() if record["identity"] not in (gone.id, crashed.id)
    }


def test_thousands_of_runs_are_read_in_pages(told: Path, api: FakeApi, tmp_path: Path) -> None:
    first = next(run for run in api.all if run.id != "gaps-mine-own")
    record = records.parse(first.summary["record"])
    api.all, members = [], []
    for seed in range(1201):
        settings = record.settings | {"seed": seed}
        mine = identity.identity(settings)
        one = dataclasses.replace(record, settings=settings, identity=mine, folder=identity.folder(settings))
        text = json.dumps(dataclasses.asdict(one))
        api.all.append(SimpleNamespace(id=mine, config={"identity": mine}, summary={"record": text}, state="finished"))
        members.append(Member(mine, one.folder, {"seed": seed}, 1.0))
    grid = Sweep("many", "own", ["seed"], "", "", "", members)
    text = json.dumps(dataclasses.asdict(grid))
    api.all.append(SimpleNamespace(id="gaps-many-own", config={"grid": text}, summary={}, state="finished"))
    restored = restore.restore(api, tmp_path, "many", "own", "samgap", None)
    assert restored.text() == "1201 of 1201 runs have their record in W&B."
    assert len([*(restored.root / "runs").iterdir()]) == 1201
    assert api.queries == 3


def test_what_w_and_b_does_not_know_is_one_sentence(api: FakeApi, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"has no gap run of other/own .*set entity and project, or send one by"):
        restore.restore(api, tmp_path, "other", "own", "samgap", None)
    assert not [*tmp_path.iterdir()]


def test_reading_wants_an_account_and_a_server(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = ("draw", "name=mine", f"root={tmp_path}", "source=wandb")
    monkeypatch.setattr(restore, "TIMEOUT", 3)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    mirror.end_process()
    code, _, err = command(*read)
    assert code == 1
    assert "source=wandb wants an account and this machine is not logged in: run `wandb login`" in err
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    mirror.end_process()
    code, _, err = command(*read)
    mirror.end_process()
    assert code == 1
    assert "W&B could not be read" in err or "could not be read from W&B" in err
    assert "source must be records or wandb, got 'disk'" in command(*read[:3], "source=disk")[2]
    assert not [*tmp_path.glob("mine")]


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers as W&B does when the id is that of a deleted run: at once, and with a no."""

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
    """The port of a server that is dead, silent or refusing."""
    if kind == "refusing":
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_port
            server.shutdown()
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if kind == "silent":
            listening.listen(50)  # takes connections and says nothing
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("server", "shared", "mode"),
    [("dead", False, []), ("silent", True, []), ("refusing", False, ["logger.mode=online"])],
)
def test_a_wandb_that_does_not_answer_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, shared: bool, mode: list[str]
) -> None:
    with serving(server) as port:
        monkeypatch.delenv("WANDB_MODE")  # a machine that is logged in is online without a word
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        if shared:  # a program that started W&B's process hands it down to what it starts
            wandb.setup().ensure_service()
        else:
            monkeypatch.delenv("WANDB_SERVICE", raising=False)
        process = start(
            tmp_path, "name=mine", "epochs=1", "data.train_size=64", "model.width=0.1", "ascent.rho=0,0.1",
            "logger=wandb", "logger.start_seconds=2", *mode,
        )  # fmt: skip
        err = process.communicate()[1]
    wandb.teardown()
    assert process.returncode == 0, err
    # Those after it do not wait for it again.
    assert err.count("W&B did not take the run") == 1
    assert "Traceback" not in err
    done = lasting(tmp_path)
    kept = {folder.name.rpartition("-")[2] for folder in set(folders(tmp_path)) - set(gap_runs(tmp_path))}
    assert kept == {record["identity"] for record in done.values()}
    assert len(kept) == len(gap_runs(tmp_path)) == 2


def test_a_key_that_can_be_none_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "short")
    process = start(tmp_path, "name=mine", "epochs=1", "data.train_size=64", "ascent.rho=0,0.1", "logger=wandb")
    err = process.communicate()[1]
    assert process.returncode == 0, err
    assert err.count("W&B did not take the run") == 1
    assert len(lasting(tmp_path)) == 2


def test_a_wrong_mode_is_one_sentence_and_nothing_starts(command: Command, tmp_path: Path) -> None:
    code, _, err = command("train", "-m", "name=mine", f"root={tmp_path}", "logger=wandb", "logger.mode=onlin")
    assert code == 1
    assert "logger.mode (or WANDB_MODE) must be online, offline or disabled, got 'onlin'" in err
    assert not (tmp_path / "runs").exists()


def test_a_wandb_whose_process_dies_stops_no_run(tmp_path: Path) -> None:
    process = start(
        tmp_path, "name=mine", "epochs=40", "data.train_size=256", "ascent.rho=0.1,0.2", "model.width=0.2",
        "logger=wandb",
    )  # fmt: skip

    def running() -> list[Path]:
        return [*(tmp_path / "wandb").glob("offline-run-*[!n]/run-*.wandb")]

    wait_for(lambda: bool(running()), process)
    children = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)], capture_output=True, text=True)
    (core,) = [int(line.split()[0]) for line in children.stdout.splitlines() if "wandb-core" in line]
    os.kill(core, 9)
    err = process.communicate()[1]
    assert process.returncode == 0, err
    assert "W&B did not take all" in err
    assert "Traceback" not in err
    assert len(lasting(tmp_path)) == 2
    assert inspect(folders(tmp_path)[-1])["state"] == "finished"  # those after it start W&B's process anew

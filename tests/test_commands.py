"""The real commands: sweeps, figures, status, bad input, kills. They are called in this process if possible, else as
separate processes."""

import contextlib
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from samgap import cli
from samgap.runs import records
from tests.conftest import called
from tests.processes import LIMIT, alive, below, finished, wait_for
from tests.training.test_run import PASSING

Command = Callable[..., tuple[int, str, str]]
MINE = ("name=mine", "epochs=1", "data.train_size=64", "model.width=0.1", "ascent.rho=0,0.1", "seed=0,1")
TINY_FIGURE = ("epochs=1", "data.train_size=128", "data.holdout=64", "seed=0,1")


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry out a small sweep; return its root."""
    root = tmp_path_factory.mktemp("mine")
    assert called("train", "-m", *MINE, f"root={root}") == 0
    return root


@pytest.fixture
def mine(carried_out: Path, tmp_path: Path) -> Path:
    """Return a copy of that root, which a test may change."""
    return shutil.copytree(carried_out, tmp_path / "mine")


def lasting(root: Path) -> dict[str, dict[str, Any]]:
    """Return all records below `root` without fields that may differ between runs."""
    found = {}
    for path in sorted((root / "runs").glob("*/record.json")):
        record = records.read(path.parent)
        assert record is not None
        found[path.parent.name] = {k: v for k, v in dataclasses.asdict(record).items() if k not in PASSING}
    return found


@pytest.mark.parametrize(
    ("figure", "widths", "last"),
    [
        ("fig7", "0.25,0.5,1", ("10", "5366010")),
        ("fig8", "1,2,4", ("256", "178585866")),
        ("fig10", "0.25,0.5,1", ("4", "61035")),
    ],
)
def test_a_figure_from_sweep_to_verdict(
    command: Command, tmp_path: Path, figure: str, widths: str, last: tuple[str, str]
) -> None:
    grid = (f"figure={figure}/smoke", f"root={tmp_path}", *TINY_FIGURE, f"model.width={widths}", "ascent.rho=0,0.1")
    code, _, err = command("train", "-m", *grid)
    assert code == 0, err
    assert f"{figure}/smoke: 12/12 done" in err

    code, out, err = command("draw", f"figure={figure}/smoke", f"root={tmp_path}")
    assert code == 0, err
    assert f"{figure}/smoke on digits (128 images)" in out
    assert any(answer in out for answer in ("REPRODUCED:", "NOT REPRODUCED:", "INCONCLUSIVE:"))
    assert "Smoke scale only checks that everything works; it is no evidence." in out
    folder = tmp_path / figure / "smoke"
    assert {f"{figure}.{ending}" for ending in ("pdf", "png", "csv", "json")} < {p.name for p in folder.iterdir()}
    assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF")

    rows = list(csv.DictReader((folder / f"{figure}.csv").read_text().splitlines()))
    ours = [row for row in rows if row["n"]]
    assert [row["n"] for row in ours] == ["2.0"] * 3
    assert rows[-1]["model.width"].removesuffix(".0") == last[0]
    assert rows[-1]["published_params"].removesuffix(".0") == last[1]
    assert not rows[-1]["n"]
    # The numbers are those of the records.
    done = lasting(tmp_path)
    sgd = [r["test_acc_final"] for r in done.values() if r["arm"] == "SGD" and r["settings"]["model"]["width"] == 1]
    mine = next(row for row in ours if float(row["model.width"]) == 1)
    assert float(mine["sgd_acc"]) == pytest.approx(100 * sum(sgd) / 2, abs=1e-5)

    report = json.loads((folder / f"{figure}.json").read_text())
    assert report["runs"] == {"asked": 12, "with_record": 12, "diverged": [], "missing": {}}
    assert report["provenance"]["versions"]["torch"]
    assert report["verdicts"][0]["seeds"] == 2


def test_figure_11_adds_snip_to_figure_10_and_contrasts_them(command: Command, tmp_path: Path) -> None:
    tiny = (f"root={tmp_path}", *TINY_FIGURE, "model.width=0.25,0.5,1", "ascent.rho=0,0.1")
    assert command("train", "-m", "figure=fig10/smoke", *tiny)[0] == 0
    code, _, err = command("train", "-m", "figure=fig11/smoke", *tiny)
    assert code == 0, err
    # Of 24 points, the dense net's 4 are the same for both pruners, and those of random pruning are figure 10's.
    assert "12/20 done, 8 missing" in err
    code, out, err = command("draw", "figure=fig11/smoke", f"root={tmp_path}")
    assert code == 0, err
    for series in ("pruner.name=random:", "pruner.name=snip:", "pruner.name=snip against pruner.name=random:"):
        assert series in out
    report = json.loads((tmp_path / "fig11" / "smoke" / "fig11.json").read_text())
    assert [verdict["published_slope"] > 0 for verdict in report["verdicts"]] == [True, True, False]
    assert {cell["params_live"] for cell in report["cells"]} == {7035}
    rows = list(csv.DictReader((tmp_path / "fig11" / "smoke" / "fig11.csv").read_text().splitlines()))
    published = {(row["pruner.name"], float(row["model.width"])): row["published_gap"] for row in rows}
    assert (published["random", 1.0], published["snip", 1.0], published["snip", 4.0]) == ("0.17", "0.147", "0.187")


def test_widths_with_one_number_of_live_parameters_are_one_series(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        "train", "-m", "name=thin", f"root={tmp_path}", *TINY_FIGURE, "model.width=0.1,0.2,0.3", "ascent.rho=0,0.1",
        "pruner=snip", "pruner.live_params=1000",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = command("draw", "name=thin", f"root={tmp_path}")
    assert code == 0, err
    assert out.count("thin/own on digits") == 1
    assert len({line.split()[2] for line in out.splitlines() if line.strip().startswith("0.")}) == 1


@pytest.mark.parametrize(
    ("overrides", "axes"),
    [
        ("model.width=0.1,0.2 pruner.live_params=1000", ["model.width", "pruner.sparsity"]),
        ("model.width=0.1,0.2 pruner.live_params=1000,900", ["model.width", "pruner.sparsity", "pruner.live_params"]),
        ("data.size=8,7 model.width=0.1 pruner.live_params=1000", ["data.size", "pruner.sparsity"]),
        ("pruner.sparsity=0,0.5 pruner.live_params=null", ["pruner.sparsity"]),
        ("model.params=2e3,3e3 model.width=1", ["model.width"]),
        ("model.params=2e3 data.size=4,8", ["data.size", "model.width"]),
        ("model.params=2e3 data.train_size=32,64", ["data.train_size"]),
    ],
)
def test_an_axis_by_another_name(command: Command, tmp_path: Path, overrides: str, axes: list[str]) -> None:
    given_ = ("name=axes", f"root={tmp_path}", "epochs=1", "data.train_size=64", "ascent.rho=0,0.1")
    code, _, err = command("train", "-m", *given_, *overrides.split())
    assert code == 0, err
    sweep = yaml.safe_load((tmp_path / "axes" / "own" / "sweep.yaml").read_text())
    assert {*sweep["axes"]} == {*axes, "ascent.rho"}
    code, _, err = command("draw", "name=axes", f"root={tmp_path}")
    assert code == 0, err


def test_a_sweep_started_again_does_nothing_and_an_extension_only_the_new(command: Command, tmp_path: Path) -> None:
    grid = ("figure=fig7/smoke", f"root={tmp_path}", *TINY_FIGURE, "model.width=0.1")
    assert command("train", "-m", *grid, "ascent.rho=0,0.1")[0] == 0
    dates = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/record.json")}
    code, _, err = command("train", "-m", *grid, "ascent.rho=0,0.1")
    assert code == 0
    assert "4/4 done" in err
    code, _, err = command("train", "-m", *grid, "ascent.rho=0,0.1,0.2")
    assert code == 0
    assert "4/6 done, 2 missing" in err
    assert {path: path.stat().st_mtime_ns for path in dates} == dates


def test_a_sweep_of_one_s_own(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        "train", "-m", "name=mine", f"root={tmp_path}", "epochs=1", "data.train_size=64",
        "model.params=2e3,8e3", "ascent.rho=0,0.1", "pruner.sparsity=0,0.5", "seed=0,1,2",
    )  # fmt: skip
    assert code == 0, err
    sweep = yaml.safe_load((tmp_path / "mine" / "own" / "sweep.yaml").read_text())
    assert sweep["axes"] == ["model.width", "ascent.rho", "pruner.sparsity", "seed"]
    assert len(sweep["members"]) == 24
    code, out, err = command("draw", "name=mine", f"root={tmp_path}")
    assert code == 0, err
    # Each sparsity has a series and a verdict.
    assert "pruner.sparsity=0:" in out
    assert "pruner.sparsity=0.5:" in out
    assert "protocol=paper" in out
    assert (tmp_path / "mine" / "own" / "mine.png").exists()


def test_an_axis_of_the_ascent_is_compared_with_the_same_sgd_runs(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        "train", "-m", "name=both", f"root={tmp_path}", "epochs=1", "data.train_size=64", "model.width=0.1",
        "ascent=sam,sam_unnormalized", "ascent.rho=0,0.1", "seed=0,1",
    )  # fmt: skip
    assert code == 0, err
    # Two of the eight points of the grid share their SGD runs with two others.
    assert "6/6 done" in err
    code, out, err = command("draw", "name=both", f"root={tmp_path}")
    assert code == 0, err
    assert "ascent.name=sam:" in out
    assert "ascent.name=sam_unnormalized:" in out


def test_axes_of_any_kind_can_be_drawn(command: Command, tmp_path: Path) -> None:
    # Text, null, a list, a part's own seed, a trainer key that is not an axis, and records of an earlier sweep.
    base = (f"root={tmp_path}", "epochs=1", "model.width=0.1", "ascent.rho=0,0.1", "seed=0,1")
    assert command("train", "-m", "name=first", *base, "ascent=sam_unnormalized", "data.train_size=64")[0] == 0
    for name, axes, cells in (
        ("size", ["data.train_size=64,null"], 2),
        ("decay", ["data.train_size=64", "schedule.milestones=[0.5],[0.25,0.5]"], 2),
        ("masks", ["data.train_size=64", "pruner.seed=1,7", "pruner.sparsity=0,0.5"], 4),
        ("threads", ["data.train_size=64", "trainer.threads=1,2"], 1),
    ):
        code, _, err = command("train", "-m", f"name={name}", *base, *axes)
        assert code == 0, err
        code, out, err = command("draw", f"name={name}", f"root={tmp_path}")
        assert code == 0, err
        rows = list(csv.DictReader((tmp_path / name / "own" / f"{name}.csv").read_text().splitlines()))
        assert len(rows) == cells, out
        assert all(row["n"] == "2" for row in rows)


def test_one_run_says_what_came_out(command: Command, tmp_path: Path) -> None:
    code, out, err = command("train", f"root={tmp_path}", "epochs=1", "data.train_size=64", "ascent.rho=0.1", "seed=3")
    assert code == 0, err
    assert out.startswith("SAM, 50,610 parameters, test accuracy ")
    folder = tmp_path / "runs" / out.strip().splitlines()[-1].rpartition("/")[2]
    assert (folder / "record.json").exists()
    assert (folder / ".hydra" / "overrides.yaml").exists()


def test_status_and_drawing_bring_neither_torch_nor_lightning(mine: Path) -> None:
    # Import all of `figures` in a new process, since this one has imported torch.
    code = (
        "import importlib, pkgutil, sys\n"
        "from samgap import cli, status\n"
        f"sys.argv = ['status', 'root={mine}']\n"
        "cli.command(status.main)\n"
        "assert not {'torch', 'pytorch_lightning', 'pandas', 'matplotlib', 'scipy'} & {*sys.modules}\n"
        "from samgap import draw, figures\n"
        f"sys.argv = ['draw', 'name=mine', 'root={mine}']\n"
        "cli.command(draw.main)\n"
        "assert 'scipy.stats' not in sys.modules\n"
        "for module in pkgutil.walk_packages(figures.__path__, 'samgap.figures.'):\n"
        "    importlib.import_module(module.name)\n"
        # The sparsity of these runs follows from the number of parameters, for which a net is built.
        "from hydra import compose, initialize_config_dir\n"
        "with initialize_config_dir(cli.CONF, version_base='1.3'):\n"
        "    assert compose('draw', ['figure=fig10/cpu']).pruner.live_params\n"
        "assert not {'torch', 'pytorch_lightning'} & {*sys.modules}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine/own: 4/4 done\n" in done.stdout
    assert "INCONCLUSIVE" in done.stdout


def test_status_shows_every_sweep(command: Command, tmp_path: Path) -> None:
    assert command("status", f"root={tmp_path}")[1] == f"No sweep in {tmp_path} yet.\n"
    # One value of the axis is too large and fails; the others do not.
    command(
        "train", "-m", "name=a", f"root={tmp_path}", "epochs=1", "data.train_size=64", "model.width=0.1", "seed=0,1"
    )
    code, _, err = command(
        "train", "-m", "name=b", f"root={tmp_path}", "epochs=1", "data.train_size=64,5000", "model.width=0.1"
    )
    assert code == 1
    assert "1 of 2 runs of b/own failed, the others are done" in err
    assert "lower data.train_size or data.holdout" in err
    assert "Traceback" not in err
    code, out, _ = command("status", f"root={tmp_path}")
    assert code == 0
    assert "a/own: 2/2 done\n" in out
    assert "b/own: 1/2 done, 1 failed" in out
    assert "of one worker left" in out
    assert "needs more than the 1200 that the training part has" in out
    (failed,) = (path.parent for path in tmp_path.glob("runs/*/error.txt"))
    (failed / "metrics.csv").write_text("epoch,step\r\n11,22\r\n12,2")  # its last line is incomplete
    with FileLock(failed / ".lock"):
        out = command("status", f"root={tmp_path}")[1]
    assert "b/own: 1/2 done, 1 running" in out
    assert f"\n  {failed.name}: epoch 11/1\n" in out


BAD_TRAIN = [
    (["optimiser.lr=1"], "optimiser"),
    (["ascent.rhoo=1"], "rhoo"),
    (["model=vgg"], "vgg"),
    (["ascent=none", "ascent.rho=0.1"], "rho"),
    (["seed=x"], 'seed must be a whole number from 0, got "x".'),
    (["ascent.rho=-1"], "ascent.rho must be a number from 0, got -1."),
    (["model.width=0"], "model.width must be a number above 0, got 0."),
    (["pruner.sparsity=1"], "pruner.sparsity must be a share from 0"),
    (["model=resnet18", "model.width=1.5"], "model.width (filters of a resnet18) must be a whole number from 1"),
    (["data=mnist", "data_dir=/nowhere/else"], "set data_dir"),
    (["figure=fig99/smoke"], "fig99"),
    (["-m", "figure=fig7/smoke", "seed=0,x"], 'seed must be a whole number from 0, got "x".'),
    (["model.width=wide"], 'model.width must be a number above 0, got "wide".'),
]


@pytest.mark.parametrize(("arguments", "part"), BAD_TRAIN, ids=[" ".join(a) for a, _ in BAD_TRAIN])
def test_bad_input_is_one_sentence_and_writes_no_record(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    monkeypatch.setattr("torchvision.datasets.MNIST.download", _no_network)
    code, out, err = command("train", *arguments, f"root={tmp_path}/multirun")
    assert code == 1
    lines = [line for line in err.splitlines() if line.startswith("samgap: ")]
    assert len(lines) == 1
    assert part in lines[0]
    assert "Traceback" not in out + err
    assert not list(tmp_path.rglob("record.json"))


def _no_network(*_: object) -> None:
    raise RuntimeError("no network")


def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["epochs=1"], ["-m", "epochs=1", "seed=0,1"]):
        code, out, err = command("train", *arguments, f"root={tmp_path}/file/below")
        assert code == 1
        assert "cannot be used" in err
        assert "set root or data_dir to a folder that can be written" in err
        assert "Traceback" not in out + err


def test_drawing_what_is_not_there(command: Command, tmp_path: Path) -> None:
    code, _, err = command("draw", "figure=fig7/smoke", f"root={tmp_path}")
    assert code == 1
    assert err.startswith(f"samgap: No runs of fig7/smoke in {tmp_path}: start the sweep first")
    assert "python -m samgap.train -m figure=fig7/smoke" in err
    code, _, err = command("draw", "name=mine", f"root={tmp_path}")
    assert "python -m samgap.train -m name=mine" in err


def test_a_damaged_record_is_named_everywhere_and_stays(command: Command, mine: Path) -> None:
    path = sorted((mine / "runs").glob("*/record.json"))[0]
    path.write_text('{"identity": 1')
    for name, arguments in (("draw", MINE[:1]), ("train", ["-m", *MINE])):
        code, _, err = command(name, *arguments, f"root={mine}")
        assert code == 1
        assert f"{path} is damaged" in err
        assert "move it away and start the run again" in err
        assert "Traceback" not in err
    assert "1 damaged" in command("status", f"root={mine}")[1]
    assert path.read_text() == '{"identity": 1'


def test_a_record_of_other_settings_is_refused(command: Command, mine: Path) -> None:
    path = sorted((mine / "runs").glob("*/record.json"))[0]
    path.write_text(path.read_text().replace('"epochs": 1,', '"epochs": 2,', 1))
    code, _, err = command("draw", "name=mine", f"root={mine}")
    assert code == 1
    assert "holds the record of other settings" in err


def test_protocols(command: Command, mine: Path) -> None:
    drawn = ("name=mine", f"root={mine}")
    assert "rho* by protocol=loso" in command("draw", *drawn, "protocol=loso")[1]
    code, _, err = command("draw", *drawn, "protocol=holdout")
    assert code == 1
    assert "protocol=holdout needs two seeds or more with data.holdout above 0" in err
    assert "protocol must be paper, holdout, loso or quadratic" in command("draw", *drawn, "protocol=best")[2]


def test_one_seed_and_one_cell_still_give_a_table(command: Command, mine: Path) -> None:
    assert command("train", "-m", *MINE[:-1], f"root={mine}")[0] == 0
    code, out, err = command("draw", "name=mine", f"root={mine}")
    assert code == 0, err
    assert (
        "INCONCLUSIVE: mine/own on digits (64 images): a trend needs 2 seeds with all cells, and 3 cells, there" in out
    )
    assert "nan" not in out


def test_a_sweep_that_is_not_over_draws_what_is_there_and_says_so(command: Command, tmp_path: Path) -> None:
    grid = (
        "name=mine",
        f"root={tmp_path}",
        "epochs=1",
        "data.train_size=64",
        "model.width=0.1,0.2",
        "ascent.rho=0,0.1",
    )
    assert command("train", "-m", *grid, "seed=0,1")[0] == 0
    sorted((tmp_path / "runs").glob("*-sgd-seed1-*/record.json"))[0].unlink()
    code, out, err = command("draw", *grid[:2])
    assert code == 0, err
    assert "Note: model.width=0.1: seed 1 left out, runs are missing." in out
    assert "Not in the table: 1 missing run(s)." in out
    report = json.loads((tmp_path / "mine" / "own" / "mine.json").read_text())
    assert len(report["runs"]["missing"]) == 1


@pytest.mark.needs("dataset-fashion-mnist")
def test_a_short_sweep_on_real_fashion_mnist(command: Command, tmp_path: Path) -> None:
    grid = ("name=fashion", f"root={tmp_path}", f"data_dir={tmp_path}/data")
    code, _, err = command(
        "train", "-m", "figure=fig7/smoke", *grid, "scale=own", "data=fashion_mnist", "data.train_size=2000",
        "data.holdout=500", "epochs=3", "seed=0,1", "model.width=0.1,0.25,0.5", "ascent.rho=0,0.1",
    )  # fmt: skip
    assert code == 0, err
    accuracies = {name: record["test_acc_final"] for name, record in lasting(tmp_path).items()}
    assert len(accuracies) == 12
    # Three epochs on 2,000 of 60,000 images: far above chance, far below training on all images.
    assert all(0.5 < acc < 0.9 for acc in accuracies.values())
    code, out, err = command("draw", *grid[:2])
    assert code == 0, err
    assert "fashion/own on fashion_mnist (2,000 images): " in out


def start(root: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start a sweep as a process in its own process group."""
    # If pytest was started in the background, its children would inherit that it ignores Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "samgap.train", "-m", f"root={root}", *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", cli.FULL: "0"},  # set by a command in this process
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, handler)


LONG = ("name=mine", "epochs=200", "data.train_size=128", "data.holdout=100", "model.width=0.1", "ascent.rho=0,0.1",
        "seed=0,1", "eval_every=100")  # fmt: skip


def test_a_sweep_that_is_stopped_again_and_again_ends_like_an_undisturbed_one(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    checkpoints = "trainer.checkpoint_seconds=0"

    def progress() -> int:
        """Return the time at which the last checkpoint was written."""
        times = [0]
        for path in root.glob("runs/*/last.ckpt"):
            with contextlib.suppress(FileNotFoundError):
                times.append(path.stat().st_mtime_ns)
        return max(times)

    def started(launcher: str) -> "subprocess.Popen[str]":
        """Return a sweep that has finished a run and has written a new checkpoint of another one."""
        before = progress()
        process = start(root, *LONG, checkpoints, f"hydra/launcher={launcher}")
        wait_for(lambda: progress() > before and any(root.glob("runs/*/record.json")), process)
        return process

    for launcher, gentle in (("basic", signal.SIGINT), ("cores", signal.SIGTERM)):
        for ending in (gentle, signal.SIGKILL):
            process = started(launcher)
            workers = below(process.pid)
            if ending == signal.SIGTERM:  # to the sweep's own process alone, which ends its workers
                os.kill(process.pid, ending)
            else:
                os.killpg(process.pid, ending)
            err = finished(process)
            assert process.returncode == (-9 if ending == signal.SIGKILL else 130), err
            if ending == gentle:
                end = time.monotonic() + LIMIT
                while alive(workers):
                    assert time.monotonic() < end
                    time.sleep(0.05)
                assert "samgap: Stopped. The same command goes on where it was." in err
                assert "Traceback" not in err
            assert 0 < len(lasting(root)) < 4
            assert progress()

    # Only one worker is killed.
    process = started("cores")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(child) for child in children if "loky" in Path(f"/proc/{child}/cmdline").read_text()]
    assert workers
    os.kill(workers[-1], signal.SIGKILL)
    err = finished(process)
    assert process.returncode == 1
    assert "samgap: A worker was killed" in err
    assert "the same command goes on where it was" in err
    assert "Traceback" not in err

    dates = {path: path.stat().st_mtime_ns for path in root.glob("runs/*/record.json")}
    assert len(dates) < 4
    for folder in (root, tmp_path / "undisturbed"):
        code, _, err = command("train", "-m", f"root={folder}", *LONG)
        assert code == 0, err
    assert lasting(root) == lasting(tmp_path / "undisturbed")
    assert {path: path.stat().st_mtime_ns for path in dates} == dates
    assert not any(root.glob("runs/*/last.ckpt"))


def test_several_devices_in_a_sweep_are_refused_with_what_to_type(command: Command, tmp_path: Path) -> None:
    for launcher in ("basic", "cores", "gpus"):
        arguments = (f"hydra/launcher={launcher}", f"root={tmp_path}/multirun", "trainer.devices=2", "seed=0,1")
        code, _, err = command("train", "-m", "name=mine", *arguments)
        assert code == 1
        assert "trainer.devices=2 in a sweep needs a launcher that starts 2 processes a run" in err
        assert "hydra/launcher=torchrun (make: DEVICES=) on one machine, or hydra/launcher=slurm" in err
        assert not (tmp_path / "multirun").exists()


def test_points_of_a_grid_can_be_left_out(command: Command, tmp_path: Path) -> None:
    grid = ("-m", "name=mine", f"root={tmp_path}", "epochs=1", "data.train_size=64", "model.width=0.1,0.2")
    code, _, err = command(
        "train", *grid, "ascent.rho=0,0.05,0.1", "hydra.sweeper.skip={model.width:[0.2],ascent.rho:[0.05]}"
    )
    assert code == 0, err
    assert "5/5 done" in err
    done = {(one["settings"]["model"]["width"], one["settings"]["ascent"]["rho"]) for one in lasting(tmp_path).values()}
    assert done == {(0.1, 0), (0.1, 0.05), (0.1, 0.1), (0.2, 0), (0.2, 0.1)}
    code, out, err = command("draw", "name=mine", f"root={tmp_path}")
    assert code == 0, err
    assert "missing" not in out
    for skip, sentence in (
        ("{model.width:[0.1,0.2]}", "hydra.sweeper.skip leaves out every point: set it to null."),
        (
            "{modle.width:[0.1]}",
            "must be settings of the runs, such as seed, ascent.rho or ascent.name, got modle.width.",
        ),
        ("{seed:0}", 'must be like {seed: [1, 2], ascent.rho: [0.1]}, or null, got {"seed": 0}.'),
    ):
        code, _, err = command("train", *grid, f"hydra.sweeper.skip={skip}")
        assert (code, sentence in err) == (1, True), err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("cores hydra.launcher.n_jobs=0", "n_jobs must be a whole number other than 0, -1 for all cores, got 0."),
        ("cores hydra.launcher.batch_size=0", 'batch_size must be auto or a whole number from 1, got "0".'),
        ("gpus hydra.launcher.address=6379", "address must be an address such as auto or head:6379, or null, got 6379"),
        ("slurm hydra.launcher.setup=x", 'setup must be a list of shell commands, or null, got "x".'),
        ("slurm hydra.launcher.folder=null", "folder must be a folder, got null."),
    ],
)
def test_a_wrong_value_of_a_launcher_is_one_sentence(
    command: Command, tmp_path: Path, words: str, sentence: str
) -> None:
    code, _, err = command("train", "-m", "seed=0,1", f"root={tmp_path}", *f"hydra/launcher={words}".split())
    assert (code, len(err.splitlines())) == (1, 1)
    assert f"samgap: hydra.launcher.{sentence}" in err
    assert not [*tmp_path.iterdir()]


def test_a_place_may_refer_to_other_keys(command: Command, tmp_path: Path) -> None:
    tiny = ("epochs=1", "data.train_size=64", "model.width=0.1", "ascent.rho=0,0.1")
    assert command("train", "-m", "name=mine", *tiny, f"root={tmp_path}/${{name}}")[0] == 0
    assert len(lasting(tmp_path / "mine")) == 2


def test_the_error_of_a_callback_is_that_of_its_run(command: Command, tmp_path: Path) -> None:
    grid = ("name=mine", "data.train_size=64", "seed=0,1,2", "hydra.sweeper.stop_after=1", f"root={tmp_path}")
    code, _, err = command("train", "-m", *grid, "+callbacks.mine._target_=nothing.at_all")
    assert code == 1
    assert "1 of 3 runs of mine/own failed, and 2 were not started (hydra.sweeper.stop_after)" in err
    assert "callbacks.mine cannot be made" in next(tmp_path.glob("runs/*/error.txt")).read_text()


def test_a_range_has_the_values_that_one_would_type(command: Command, tmp_path: Path) -> None:
    grid = ("-m", "name=mine", f"root={tmp_path}", "data.train_size=64", "seed=0", "hydra.sweeper.dry_run=true")
    typed, stepped, shuffled = (
        command("train", *grid, f"ascent.rho={rhos}")
        for rhos in ("0.05,0.1,0.15,0.2,0.25,0.3", "range(0.05,0.35,0.05)", "shuffle(range(0.05,0.35,0.05))")
    )
    assert typed == stepped
    runs = re.findall(r"\S+-sam0\.\S+", typed[1])
    assert len(runs) == 6
    assert sorted(runs) == sorted(re.findall(r"\S+-sam0\.\S+", shuffled[1]))


def test_a_dry_run_says_what_would_run_and_writes_nothing(command: Command, tmp_path: Path) -> None:
    overrides = (
        "-m",
        "name=mine",
        "epochs=1",
        "data.train_size=64",
        "model.width=0.1",
        "ascent.rho=0,0.1",
        f"root={tmp_path}/multirun",
    )
    assert command("train", *overrides, "seed=0")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code, out, err = command("train", *overrides, "seed=0,1", "hydra.sweeper.dry_run=true")
    assert (code, err) == (0, "")
    head, sam, sgd = out.splitlines()
    assert head.startswith("mine/own: 2/4 done, 2 missing; about 0:0")
    # The longest runs come first: a step of SAM has two passes.
    assert ("-sam0.1-seed1-" in sam, "-sgd-seed1-" in sgd) == (True, True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("launcher", ["basic", "cores"])
def test_a_sweep_ends_after_so_many_failures(command: Command, tmp_path: Path, launcher: str) -> None:
    overrides = (
        "-m",
        "name=mine",
        "epochs=1",
        "data.train_size=64",
        "model.width=0.1",
        f"root={tmp_path}/multirun",
        f"hydra/launcher={launcher}",
    )
    overrides = (*overrides, *["hydra.launcher.n_jobs=1"] * (launcher == "cores"))
    code, _, err = command("train", *overrides, "data.holdout=5000", "seed=range(4)", "hydra.sweeper.stop_after=2")
    assert code == 1
    assert "2 of 4 runs of mine/own failed, and 2 were not started (hydra.sweeper.stop_after); first " in err
    assert len([*tmp_path.glob("multirun/runs/*/error.txt")]) == 2
    # In a new sweep, earlier failures do not count.
    assert command("train", *overrides, "data.holdout=100", "seed=0,1,2", "hydra.sweeper.stop_after=1")[0] == 0


def test_records_of_several_machines_come_together_by_copying(command: Command, tmp_path: Path) -> None:
    grid = ("epochs=1", "data.train_size=64", "model.width=0.1,0.2", "ascent.rho=0,0.1")
    # The second machine has repeated a run of the first.
    for machine, seeds_ in (("a", "seed=0,1"), ("b", "seed=1,2")):
        assert command("train", "-m", "name=mine", f"root={tmp_path}/{machine}", *grid, seeds_)[0] == 0
    both = tmp_path / "both"
    for machine in ("a", "b"):
        shutil.copytree(tmp_path / machine / "runs", both / "runs", dirs_exist_ok=True)
    folders = sorted((both / "runs").iterdir())
    assert len(folders) == 12
    # A folder that was copied twice, and an incomplete record.
    shutil.copytree(folders[0], folders[0].with_name(f"{folders[0].name} (copy)"))
    whole = (folders[3] / "record.json").read_text()
    (folders[3] / "record.json").write_text(whole[: len(whole) // 2])
    code, _, err = command("train", "-m", "name=mine", f"root={both}", *grid, "seed=0,1,2")
    assert code == 1
    assert "11/12 done, 1 damaged" in err
    assert f"{folders[3] / 'record.json'} is damaged" in err
    (folders[3] / "record.json").write_text(whole)
    dates = {path: path.stat().st_mtime_ns for path in both.glob("runs/*/record.json")}
    code, _, err = command("train", "-m", "name=mine", f"root={both}", *grid, "seed=0,1,2")
    assert code == 0, err
    assert "12/12 done" in err
    assert {path: path.stat().st_mtime_ns for path in both.glob("runs/*/record.json")} == dates
    code, _, err = command("draw", "name=mine", f"root={both}")
    assert code == 0, err
    rows = list(csv.DictReader((both / "mine" / "own" / "mine.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["3", "3"]


def test_one_run_on_two_devices_from_the_command_line(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "samgap.train"]
    run = ["trainer.devices=2", "epochs=2", "data.train_size=128", "ascent.m=64", f"root={tmp_path}", "logger=wandb"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(start + run, capture_output=True, text=True, env=environment, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SAM, ") == 1  # only rank 0 prints
    (record,) = lasting(tmp_path).values()
    assert (record["status"], record["steps"]) == ("done", 2)
    assert len([*(tmp_path / "wandb").glob("offline-run-*")]) == 1


def test_a_smaller_grid_of_the_same_name_is_reported(command: Command, tmp_path: Path) -> None:
    grid = ("-m", "name=mine", f"root={tmp_path}", "epochs=1", "data.train_size=64", "model.width=0.1")
    assert "grid before" not in command("train", *grid, "seed=0,1,2")[2]
    assert "2 runs of the grid before are not in this one; their records stay." in command("train", *grid, "seed=0")[2]
    assert len(lasting(tmp_path)) == 3


def test_status_goes_on_after_a_damaged_sweep(command: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "own").mkdir(parents=True)
        (tmp_path / name / "own" / "sweep.yaml").write_text("{")
    code, out, _ = command("status", f"root={tmp_path}")
    assert code == 0
    assert out.count("is damaged") == 2
    code, _, err = command("report.__main__", f"root={tmp_path}")
    assert code == 0, err
    assert (tmp_path / "report" / "index.html").read_text().count("is damaged") >= 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("draw.published=fig1", "draw.published needs tables of gaps by width and parameters, and 'fig1' is none."),
        (
            "draw.published=[fig8,fig1]",
            "draw.published needs tables of gaps by width and parameters, and 'fig1' is none.",
        ),
        ("draw.published=3", "draw.published must be null or one of"),
        ("draw.rule=fixed", 'draw.rule must be null, holdout, loso or quadratic, got "fixed".'),
        ("draw.fixed_rho=foo", 'draw.fixed_rho must be a number, or null for the median of those swept, got "foo".'),
    ],
)
def test_a_drawing_that_cannot_be(command: Command, carried_out: Path, override: str, message: str) -> None:
    code, _, err = command("draw", "name=mine", f"root={carried_out}", override)
    assert code == 1
    assert err.startswith(f"samgap: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["train", "draw", "status", "report.__main__", "evidence", "restore", "probe", "dashboard"]
)
def test_help_is_a_screen_with_three_examples(name: str, command: Command) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    assert len(out.splitlines()) <= 40
    examples = [line for line in out.splitlines() if line.startswith(("  python -m ", "  make ", "  watch "))]
    assert len(examples) == 3
    assert "$" not in out  # no placeholder is left


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("modle=mlp", "model"), ("sed=1", "seed"), ("optimizer.lrr=1", "optimizer.lr"), ("figure=fig77/cpu", "fig7"),
     ("data=mnst", "mnist"), ("figur=fig8/cpu", "figure")],
)  # fmt: skip
def test_a_name_that_does_not_exist_comes_with_the_nearest(typed: str, meant: str, command: Command) -> None:
    code, _, err = command("train", typed)
    assert (code, f"Did you mean {meant}?" in err) == (1, True), err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    line = f"{sys.executable} -m samgap.train --help | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.startswith("Train one run")
    assert done.stderr == ""

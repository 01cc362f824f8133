"""hydra/launcher=gpus with real Ray and declared GPUs. Tests of scheduling replace runs by waiting."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hydra_plugins.samgap_launchers.gpus import GpusLauncher
from hydra_plugins.samgap_launchers.jobs import Job
from samgap.errors import SettingError
from tests.processes import LIMIT, alive, below, finished, wait_for, workers
from tests.standin import StandIn
from tests.test_commands import lasting, start

# JAX, which other tests may have imported, warns of every fork, although Ray starts programs.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")
Command = Callable[..., tuple[int, str, str]]


def schedule(root: Path, seconds: list[float], meet: int = 0, **keys: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Carry out runs of these durations, longest first; return outcomes and the rows of gpus.csv in order of start."""
    config = OmegaConf.create({"root": str(root), "name": "mine", "scale": "own"})
    jobs = [Job(k, [str(taken)], 1, root / "runs" / f"{k:02}") for k, taken in enumerate(seconds)]
    outcomes = GpusLauncher(**keys).carry_out(jobs, StandIn(config, meet))  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = list(csv.DictReader((root / "mine" / "own" / "gpus.csv").read_text().splitlines()))
    for row in rows:
        row["start"], row["end"] = (datetime.fromisoformat(row[key]).timestamp() for key in ("start", "end"))
    return outcomes, sorted(rows, key=lambda row: (row["start"], row["run"]))  # the clock has a finite resolution


def most_at_once(rows: list[dict[str, Any]]) -> int:
    """Return the largest number of runs on a device at a time."""
    events = sorted([(row["start"], 1) for row in rows] + [(row["end"], -1) for row in rows])
    count = worst = 0
    for _, step in events:
        count += step
        worst = max(worst, count)
    return worst


def test_64_runs_keep_8_gpus_busy_and_no_two_share_one(tmp_path: Path) -> None:
    draw = random.Random(0)
    seconds = sorted((draw.uniform(0.1, 0.8) for _ in range(64)), reverse=True)
    outcomes, rows = schedule(tmp_path, seconds, gpus=8)
    assert [one.folder for one in outcomes] == [f"{k:02}" for k in range(64)]
    assert {one.status for one in outcomes} == {"done"}
    # Each sees only its own device, set before CUDA could have started.
    assert {row["run"]: row["gpu"] for row in rows} == {one.folder: one.device for one in outcomes}
    devices = {row["gpu"] for row in rows}
    assert devices == {str(number) for number in range(8)}
    by_device = {gpu: [row for row in rows if row["gpu"] == gpu] for gpu in devices}
    for mine in by_device.values():
        assert all(before["end"] <= after["start"] for before, after in pairwise(mine))
    # Longest first, and no device waits for another: each takes the next run.
    assert [row["run"] for row in rows] == sorted(row["run"] for row in rows)
    last = max(row["start"] for row in rows)
    assert all(mine[-1]["end"] + seconds[0] > last for mine in by_device.values())


def test_one_number_packs_runs_on_a_gpu(tmp_path: Path) -> None:
    _, rows = schedule(tmp_path, [0.1] * 8, meet=4, gpus=2, gpus_per_run=0.5)
    for gpu in ("0", "1"):
        assert most_at_once([row for row in rows if row["gpu"] == gpu]) == 2
    assert most_at_once(rows) == 4


def test_few_runs_rather_spread_than_share(tmp_path: Path) -> None:
    _, rows = schedule(tmp_path, [0.1] * 2, meet=2, gpus=2, gpus_per_run=0.25)
    assert {row["gpu"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"gpus_per_run": 0.4}, "gpus_per_run must be 1 or a share such as 0.5, 0.33 or 0.25"),
        ({"gpus_per_run": 2}, "gpus_per_run must be 1 or a share"),
        ({"gpus": 0}, "gpus must be a whole number from 1, or null, got 0"),
        ({"gpus": 2, "address": "auto"}, "set one of them to null"),
        ({"retries": -1}, "retries must be a whole number from 0, got -1"),
    ],
)
def test_wrong_values_are_one_sentence(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        GpusLauncher(**keys)


TWO = ("hydra/launcher=gpus", "hydra.launcher.gpus=2", "name=mine", "data.train_size=64", "model.width=0.1")


def test_records_are_those_of_the_basic_launcher_and_a_failure_ends_no_other(command: Command, tmp_path: Path) -> None:
    grid = ("epochs=1", "ascent.rho=0,0.1", "seed=0,1")
    code, _, err = command("train", "-m", *TWO, *grid, "data.holdout=0,5000", f"root={tmp_path}/gpus")
    assert code == 1
    assert "4 of 8 runs of mine/own failed, the others are done" in err
    assert "lower data.train_size or data.holdout" in err
    assert "Traceback" not in err
    assert err.count("These runs use no GPU, since their trainer is cpu: for GPUs add trainer=auto.") == 1
    code, _, err = command("train", "-m", *TWO[2:], *grid, f"root={tmp_path}/basic")
    assert (code, "use no GPU" in err) == (0, False)
    assert lasting(tmp_path / "gpus") == lasting(tmp_path / "basic")
    assert "4 failed" in command("status", f"root={tmp_path}/gpus")[1]
    # Finished runs are not repeated, and Ray is not started.
    code, _, err = command("train", "-m", *TWO, *grid, f"root={tmp_path}/gpus")
    assert (code, "4/4 done" in err) == (0, True)


def test_killed_workers_and_a_stopped_sweep(command: Command, tmp_path: Path) -> None:
    grid = (*TWO[2:], "epochs=3,600", "eval_every=600", "ascent.rho=0.1", "trainer.checkpoint_seconds=0")
    ours, undisturbed = (*TWO[:2], *grid), tmp_path / "basic"
    assert command("train", "-m", *grid, f"root={undisturbed}")[0] == 0
    (long,) = [name for name, record in lasting(undisturbed).items() if record["settings"]["epochs"] == 600]
    root = tmp_path / "gpus"
    path = root / "runs" / long / "last.ckpt"

    # A run that is killed goes on in another worker. If that happens more often than `retries`, it is reported, and the
    # other run is done.
    process = start(root, *ours, "hydra.launcher.retries=1")
    victims: list[int] = []
    for _ in range(2):
        wait_for(lambda: len(workers(root, long)) == 1 and not {*workers(root, long)} & {*victims}, process)
        victims.extend(workers(root, long))
        os.kill(victims[-1], signal.SIGKILL)
    err = finished(process)
    assert process.returncode == 1
    assert "1 of 2 runs of mine/own failed, the others are done" in err
    assert "its process was killed or crashed 2 times" in err
    assert "Traceback" not in err
    out = command("status", f"root={root}")[1]
    assert "1/2 done, 1 failed" in out
    assert "its process was killed or crashed 2 times" in out

    # Ctrl-C ends all processes of the sweep.
    before = path.stat().st_mtime_ns
    process = start(root, *ours)
    wait_for(lambda: path.stat().st_mtime_ns != before, process)
    started = below(process.pid)
    os.kill(process.pid, signal.SIGINT)
    err = finished(process)
    assert process.returncode == 130
    assert "samgap: Stopped. The same command goes on where it was." in err
    deadline = time.monotonic() + 30
    while alive(started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(started), [started[pid] for pid in alive(started)]

    # In the end the run has the same result.
    assert command("train", "-m", *grid, f"root={root}")[0] == 0
    assert lasting(root) == lasting(undisturbed)
    rows = list(csv.DictReader((root / "mine" / "own" / "gpus.csv").read_text().splitlines()))
    assert Counter(row["status"] for row in rows) == {"done": 1, "killed": 2, "stopped": 1}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a cluster of two nodes with one declared GPU each; yield its address."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", "--num-gpus=1"]
    memory = "--object-store-memory=100000000"
    nodes = [
        [*ray, "--head", "--node-ip-address=127.0.0.3", "--port=6391", "--include-dashboard=false", memory],
        [*ray, "--address=127.0.0.3:6391", "--node-ip-address=127.0.0.2", memory],
    ]
    started = []
    try:
        for command in nodes:
            started.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
            )  # fmt: skip
            status = [ray[0], "status", "--address=127.0.0.3:6391"]
            deadline = time.monotonic() + 120
            while (
                f"/{len(started)}.0 GPU"
                not in subprocess.run(
                    status, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
                ).stdout
            ):
                assert started[-1].poll() is None, "Ray did not start"
                assert time.monotonic() < deadline, "Ray did not start in time"
                time.sleep(1)  # each query starts a program
        yield "127.0.0.3:6391"
    finally:
        # Kill all processes at once, since Ray's own way to stop takes half a minute.
        for process in started:
            for pid in alive([process.pid, *below(process.pid)]):
                os.kill(pid, signal.SIGKILL)
            process.wait(LIMIT)


def test_a_running_cluster_is_joined_and_left_running_and_a_node_that_leaves_takes_no_run_along(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    joined = ("hydra/launcher=gpus", f"hydra.launcher.address={cluster}")
    grid = (*TWO[2:], "epochs=400,401", "eval_every=401", "trainer.checkpoint_seconds=0")
    process = start(tmp_path, *joined, *grid)
    # There is a run on each node.
    wait_for(lambda: len([*tmp_path.glob("runs/*/last.ckpt")]) == 2, process)
    (raylet,) = [
        pid
        for pid, arguments in below(os.getpid()).items()
        if "raylet/raylet" in arguments and "_ip_address=127.0.0.2" in arguments
    ]
    os.kill(raylet, signal.SIGKILL)
    err = finished(process)
    assert process.returncode == 0, err
    assert "2/2 done" in err
    rows = list(csv.DictReader((tmp_path / "mine" / "own" / "gpus.csv").read_text().splitlines()))
    assert Counter((row["status"], row["node"]) for row in rows) == {
        ("killed", "127.0.0.2"): 1,
        ("done", "127.0.0.3"): 2,
    }
    ray = [str(Path(sys.executable).with_name("ray")), "status", f"--address={cluster}"]
    assert "0 GPU" in subprocess.run(ray, capture_output=True, text=True, timeout=LIMIT, check=False).stdout


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.3:6399", "hydra.launcher.address must be host:port of a running Ray cluster"),
        ("nowhere:x", "and at nowhere:x is none"),
    ],
)
def test_what_is_not_there_is_one_sentence(command: Command, tmp_path: Path, address: str, sentence: str) -> None:
    joined = ("hydra/launcher=gpus", f"hydra.launcher.address={address}")
    code, _, err = command("train", "-m", *joined, *TWO[2:], "epochs=1", f"root={tmp_path}")
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err


def test_a_worker_carries_out_stacks(command: Command, tmp_path: Path) -> None:
    grid = (
        "epochs=1",
        "batch_size=32",
        "data.holdout=100",
        "ascent.rho=0.1",
        "seed=0,1,2,3",
        "hydra.launcher.stack=auto",
    )
    assert command("train", "-m", *TWO, *grid, f"root={tmp_path}")[0] == 0
    assert [record["stepper"] for record in lasting(tmp_path).values()] == ["stacked"] * 4
    with (tmp_path / "mine" / "own" / "gpus.csv").open() as file:
        assert Counter(row["gpu"] for row in csv.DictReader(file)) == {"0": 2, "1": 2}

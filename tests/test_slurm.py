"""hydra/launcher=slurm with a real Slurm of two nodes, without accounting."""

import os
import pickle
import re
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hydra_plugins.samgap_launchers import jobs, slurm_queue
from hydra_plugins.samgap_launchers import slurm as launcher
from hydra_plugins.samgap_launchers.slurm_queue import Queue
from tests.processes import alive, finished, wait_for, workers
from tests.slurm import cluster, output_of, patiently
from tests.test_commands import lasting, start

Command = Callable[..., tuple[int, str, str]]
TINY = ("name=mine", "data.train_size=64", "model.width=0.1")
SLURM = ("hydra/launcher=slurm", "hydra.launcher.poll_seconds=0.2", "hydra.launcher.late_seconds=2")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """Start a Slurm that every command finds."""
    with cluster(grace=2) as folder:
        yield folder


def on_slurm(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.needs("slurm-wlm munge")(pytest.mark.usefixtures("slurm")(test))


def queue() -> list[str]:
    """Return the ids of the jobs that are pending or running."""
    return output_of("squeue", "--me", "--noheader", "--array", "--states=PENDING,RUNNING", "--format=%i").split()


@on_slurm
def test_records_are_those_of_the_basic_launcher_and_a_failure_ends_no_other(command: Command, tmp_path: Path) -> None:
    grid = (*TINY, "epochs=2", "ascent.rho=0,0.1")
    process = start(tmp_path / "slurm", *SLURM, *grid, "data.holdout=0,5000")
    err = finished(process)
    assert process.returncode == 1
    assert "2 of 4 runs of mine/own failed, the others are done" in err
    assert "lower data.train_size or data.holdout" in err
    assert "Traceback" not in err
    assert command("train", "-m", *grid, f"root={tmp_path}/basic")[0] == 0
    assert lasting(tmp_path / "slurm") == lasting(tmp_path / "basic")
    assert "2 failed" in command("status", f"root={tmp_path}/slurm")[1]
    code, _, err = command("train", "-m", *SLURM, *grid, f"root={tmp_path}/slurm")
    assert (code, "2/2 done" in err) == (0, True)


@on_slurm
def test_two_tasks_that_were_held_do_what_one_process_does(command: Command, tmp_path: Path) -> None:
    grid = (*TINY, "epochs=2", "ascent.rho=0.1", "precision=64-true")
    two_nodes = ("trainer.devices=2", "hydra.launcher.nodes=2")
    process = start(tmp_path / "slurm", *SLURM, *grid, *two_nodes, "hydra.launcher.extra={hold: true}")
    # A held job would wait forever: the command says so, and what to do.
    assert process.stderr is not None
    stderr, said = process.stderr.fileno(), b""

    def release() -> bytes | None:
        nonlocal said
        said += os.read(stderr, 10**5) if select.select([stderr], [], [], 0.1)[0] else b""
        found = re.search(rb"Slurm does not start \d+ \(JobHeldUser\): (scontrol release jobname=\S+) ", said)
        return found and found[1]

    wait_for(lambda: bool(release()), process)
    assert output_of(*(release() or b"").decode().split()) == ""
    err = finished(process)
    assert process.returncode == 0, err
    assert command("train", "-m", *grid, f"root={tmp_path}/basic")[0] == 0
    assert said.count(b"Slurm does not start") == 1
    assert "Slurm does not start" not in err
    two, one = lasting(tmp_path / "slurm"), lasting(tmp_path / "basic")
    assert two.keys() == one.keys()
    for folder, record in two.items():
        assert record["train_loss_final"] == pytest.approx(one[folder]["train_loss_final"], rel=1e-6)
        assert record["test_acc_final"] == one[folder]["test_acc_final"]


# The long run takes longer than the three seconds that Slurm gives to a canceled job.
LONG = (*TINY, "ascent.rho=0.1", "epochs=3,800", "eval_every=800", "trainer.checkpoint_seconds=0")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    root = tmp_path_factory.mktemp("undisturbed")
    process = start(root, *LONG)
    err = finished(process)
    assert process.returncode == 0, err
    return lasting(root)


def under_way(root: Path) -> bool:
    """Return whether the short run is done and the long one, which has no record yet, has written a checkpoint."""
    begun = {path.parent for path in root.glob("runs/*/last.ckpt")}
    done = {path.parent for path in root.glob("runs/*/record.json")}
    return bool(done) and bool(begun - done)


def advanced(root: Path) -> Callable[[], bool]:
    """Return whether the unfinished run has written another checkpoint since."""
    (path,) = root.glob("runs/*/last.ckpt")
    before = path.stat().st_mtime_ns
    return lambda: not path.exists() or path.stat().st_mtime_ns != before


@on_slurm
def test_a_killed_run_is_reported_and_goes_on_when_it_is_requested_again(
    command: Command, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    process = start(tmp_path, *SLURM, *LONG)
    wait_for(lambda: under_way(tmp_path) and len(workers(tmp_path)) == 1, process)
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    err = finished(process)
    assert process.returncode == 1
    assert "1 of 2 runs of mine/own failed, the others are done" in err
    assert "was ended" in err
    assert "Traceback" not in err
    assert "1/2 done, 1 failed" in command("status", f"root={tmp_path}")[1]

    # Slurm queues the job again, as after a preemption, and the run resumes.
    again = advanced(tmp_path)
    process = start(tmp_path, *SLURM, *LONG)
    wait_for(again, process)
    (number,) = queue()
    again = advanced(tmp_path)
    assert output_of("scontrol", "requeue", number) == ""
    err = finished(process)
    assert process.returncode == 0, err
    assert lasting(tmp_path) == undisturbed


@on_slurm
def test_a_preempted_run_is_queued_again_and_ends_the_same(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    process = start(tmp_path, *SLURM, *LONG, "hydra.launcher.partition=low")
    wait_for(lambda: under_way(tmp_path) and len(workers(tmp_path)) == 1, process)
    before = workers(tmp_path)[0]
    number = output_of("sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null",
                  "--wrap=sleep 1")  # fmt: skip
    assert number
    patiently(lambda: not alive([before]), "end of the preempted run")
    err = finished(process)
    assert process.returncode == 0, err
    assert lasting(tmp_path) == undisturbed


@on_slurm
def test_ctrl_c_cancels_and_a_lost_driver_does_not(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    process = start(tmp_path, *SLURM, *LONG)
    wait_for(lambda: under_way(tmp_path) and len(workers(tmp_path)) == 1, process)
    worker = workers(tmp_path)
    os.kill(process.pid, signal.SIGINT)
    err = finished(process)
    assert process.returncode == 130
    assert "jobs of Slurm canceled" in err
    assert "samgap: Stopped. The same command goes on where it was." in err
    patiently(lambda: queue() == [] and not alive(worker), "an empty queue")

    again = advanced(tmp_path)
    process = start(tmp_path, *SLURM, *LONG)
    wait_for(again, process)
    process.kill()
    finished(process)
    (number,) = queue()
    # Slurm sends this signal before a job's time limit: the job requeues itself, without a driver.
    (worker,) = workers(tmp_path)
    assert output_of("scancel", "--signal=USR2", number) == ""
    patiently(lambda: not alive([worker]), "end of a run that is to be queued again")
    # The next driver waits for the job of the killed one.
    process = start(tmp_path, *SLURM, *LONG)
    err = finished(process)
    assert process.returncode == 0, err
    assert "1 runs are in Slurm's queue already" in err
    assert len(list(tmp_path.glob("mine/own/slurm/*/*_submission.sh"))) == 2
    assert lasting(tmp_path) == undisturbed


@on_slurm
def test_jobs_that_slurm_does_not_take_are_one_sentence(tmp_path: Path) -> None:
    # Use a separate process: submitit reconfigures logging and closes pytest's handlers.
    process = start(tmp_path, *SLURM, *TINY, "seed=0,1", "hydra.launcher.partition=nowhere")
    err = finished(process)
    assert process.returncode == 1
    assert "Slurm rejects the jobs" in err
    assert "Traceback" not in err
    assert not [*tmp_path.glob("runs/*/record.json")]


@on_slurm
@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("timeout_min=1", "hydra.launcher.timeout_min must be a whole number from 3, got 1"),
        ("nodes=2", "hydra.launcher.nodes=2 must divide trainer.devices=1"),
        ("extra=a100", 'hydra.launcher.extra must be like {constraint: a100}, or null, got "a100"'),
    ],
)
def test_wrong_values_are_one_sentence(command: Command, tmp_path: Path, word: str, sentence: str) -> None:
    code, _, err = command("train", "-m", *SLURM, *TINY, "seed=0,1", f"hydra.launcher.{word}", f"root={tmp_path}")
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert not [*tmp_path.glob("runs/*/record.json")]


def test_without_slurm_there_is_one_sentence(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = command("train", "-m", *SLURM, *TINY, "seed=0,1", f"root={tmp_path}")
    assert code == 1
    assert "hydra/launcher=slurm needs Slurm's commands on PATH and sbatch is not there" in err


def test_what_needs_a_person_is_said_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    queue = Queue("mine", tmp_path, 0)
    entry: Any = SimpleNamespace(paths=SimpleNamespace(result_pickle=tmp_path / "none"), gone=None)
    queue.active = dict.fromkeys([f"7_{k}" for k in range(5)], entry)

    def polls(script: str) -> str:
        """Return the stderr of two polls of a queue with these answers."""
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)
        assert [*queue.ended(), *queue.ended()] == []
        return capsys.readouterr().err

    def waiting(reason: str) -> str:
        return "\n".join(f"echo '7_{k} PENDING {reason}'" for k in range(5))

    for usual in ("Priority", "BeginTime", "QOSMaxJobsPerUserLimit"):
        assert polls(waiting(usual)) == ""
    for reason in ("launch failed requeued held", "PartitionNodeLimit", "QOSMaxCpuPerJobLimit"):
        assert polls(waiting(reason)).startswith(f"Slurm does not start 7_0, 7_1, 7_2 and 2 more ({reason}): scontrol ")
        assert polls(waiting(reason)) == ""
    assert polls("exit 1") == ""
    monkeypatch.setattr(slurm_queue, "SILENCE_SECONDS", 0.0)
    for _ in range(2):
        assert polls("exit 1") == "squeue has not answered for minutes; this command waits until it does.\n"
        assert polls("exit 1") == polls(waiting("Priority")) == ""


def test_files_on_a_shared_disk_have_no_key() -> None:
    environment = {"WANDB_API_KEY": "secret", "WANDB_MODE": "offline"}
    # By their modules, since Hydra executes the modules of its plugins again for each command.
    work: Any = jobs.Work(None, None, None, None, "/", environment)  # type: ignore[arg-type]
    task = launcher.Task(jobs.Job(0, [], 1, Path("/x")), work)
    assert task.work.environment == {"WANDB_MODE": "offline"}
    assert b"secret" not in pickle.dumps(task)

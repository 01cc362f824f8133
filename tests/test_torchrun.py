"""A sweep with two devices for each run: the launcher starts the processes by torchrun, and reports and ends them."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from hydra_plugins.samgap_launchers import torchrun
from hydra_plugins.samgap_launchers.jobs import Job
from hydra_plugins.samgap_sweeper import messages
from samgap.errors import SettingError
from samgap.runs.records import RunOutcome
from samgap.runs.sweeps import Sweep
from tests.processes import alive, below, finished, wait_for
from tests.test_commands import lasting, start

TWO = ("hydra/launcher=torchrun", "trainer.devices=2", "name=mine", "data.train_size=128", "model.width=0.1", "seed=0")
Command = Callable[..., tuple[int, str, str]]


def ranks(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes of the current run, below the sweep's own process."""
    arguments = {pid: line.split("\0") for pid, line in below(process.pid).items()}
    return [pid for pid, line in arguments.items() if "samgap.train" in line and "torch.distributed.run" not in line]


def test_two_devices_do_what_one_does_and_a_failure_ends_no_other(command: Command, tmp_path: Path) -> None:
    # tests/training/test_ranks.py tests other runs on two devices, including SGD.
    grid = ("epochs=2", "ascent.rho=0.1", "precision=64-true", "data.holdout=0,5000")
    code, _, err = command("train", "-m", *TWO, *grid, "logger=wandb", f"root={tmp_path}/two")
    assert code == 1
    assert "1 of 2 runs of mine/own failed, the others are done" in err
    assert "lower data.train_size or data.holdout" in err
    assert "Traceback" not in err
    (failure,), (record,) = ([*(tmp_path / "two").glob(f"runs/*/{name}")] for name in ("error.txt", "record.json"))
    assert failure.stat().st_mtime < record.stat().st_mtime  # another run followed
    # Both processes of a run share a W&B run; the sweep's gaps have another.
    kept = [path.name for path in (tmp_path / "two" / "wandb").glob("offline-run-*")]
    assert len([name for name in kept if "-gaps-" not in name]) == 1, kept
    assert command("train", "-m", *TWO[2:], *grid[:3], f"root={tmp_path}/one")[0] == 0
    two, one = lasting(tmp_path / "two"), lasting(tmp_path / "one")
    assert two.keys() == one.keys()
    for folder, record in two.items():
        assert record["train_loss_final"] == pytest.approx(one[folder]["train_loss_final"], rel=1e-6)
        assert record["test_acc_final"] == one[folder]["test_acc_final"]
    assert (
        not [*(tmp_path / "two").glob("runs/*/torchrun.log")]
        or len([*(tmp_path / "two").glob("runs/*/torchrun.log")]) == 1
    )  # the one that failed


def epoch(root: Path) -> int:
    """Return the epoch of the only checkpoint, -1 if there is none."""
    paths = [*root.glob("runs/*/last.ckpt")]
    return torch.load(paths[0], weights_only=False)["epoch"] if paths else -1


def test_a_killed_device_ends_its_run_and_the_same_command_goes_on(command: Command, tmp_path: Path) -> None:
    grid = (*TWO, "epochs=4000", "eval_every=4000", "ascent.rho=0.1", "trainer.checkpoint_seconds=0")
    process = start(tmp_path, *grid)
    wait_for(lambda: len(ranks(process)) == 2 and epoch(tmp_path) >= 10, process)
    os.kill(ranks(process)[1], signal.SIGKILL)
    err = finished(process)
    assert process.returncode == 1
    assert "1 of 1 runs of mine/own failed" in err
    assert "Traceback" not in err
    code, out, _ = command("status", f"root={tmp_path}")
    assert code == 0
    assert "0/1 done, 1 failed" in out

    reached = epoch(tmp_path)
    (path,) = tmp_path.glob("runs/*/last.ckpt")
    before = path.stat().st_mtime_ns
    process = start(tmp_path, *grid)
    wait_for(lambda: path.stat().st_mtime_ns != before, process)
    assert epoch(tmp_path) > reached
    left = ranks(process)
    os.kill(process.pid, signal.SIGINT)  # Ctrl-C reaches only the sweep's own process
    err = finished(process)
    assert process.returncode == 130
    assert "samgap: Stopped. The same command goes on where it was." in err
    assert len(left) == 2
    assert not alive(left)


def test_no_run_starts_after_so_many_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "_run", lambda job: RunOutcome(job.folder.name, "failed", "no"))
    launcher = torchrun.TorchrunLauncher()
    launcher.config = OmegaConf.create({"hydra": {"sweeper": {"stop_after": 1}}})
    jobs = [Job(number, [], 2, Path(f"/{number}")) for number in range(3)]
    assert [outcome.status for outcome in launcher.carry_out(jobs, None)] == ["failed", "skipped", "skipped"]  # type: ignore[arg-type]


def test_a_sweep_that_another_process_has_stopped_has_failed(tmp_path: Path) -> None:
    grid = Sweep("mine", "own", [], "", "", "", [])
    with pytest.raises(SettingError, match="1 of 2 runs of mine/own were not started"):
        messages.refuse_failed([RunOutcome("a", "busy"), RunOutcome("b", "skipped")], 2, grid, tmp_path)

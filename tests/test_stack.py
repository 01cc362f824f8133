"""hydra/launcher=stack: each run of a stack gives the same files as a single run."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hydra_plugins.samgap_launchers import stack
from hydra_plugins.samgap_launchers.jobs import Job
from hydra_plugins.samgap_launchers.stack import StackLauncher
from samgap.errors import SettingError
from samgap.runs.records import RunOutcome
from tests.processes import finished, wait_for
from tests.standin import StandIn
from tests.test_commands import lasting, start

Command = Callable[..., tuple[int, str, str]]
SAME = ("name=mine", "data.train_size=64", "batch_size=32", "model.width=0.1", "precision=64-true")


def without(found: dict[str, dict[str, Any]], *keys: str) -> dict[str, dict[str, Any]]:
    return {name: {key: value for key, value in record.items() if key not in keys} for name, record in found.items()}


def test_records_are_those_of_single_runs_and_a_failure_ends_no_other(command: Command, tmp_path: Path) -> None:
    grid = (*SAME, "epochs=2", "ascent.rho=0,0.1", "seed=0,1,2")
    code, _, err = command(
        "train", "-m", "hydra/launcher=stack", *grid, "data.holdout=100,5000", f"root={tmp_path}/stack"
    )
    assert code == 1
    assert "6 of 12 runs of mine/own failed, the others are done" in err
    assert "lower data.train_size or data.holdout" in err
    ours = lasting(tmp_path / "stack")
    assert {record["stepper"] for record in ours.values()} == {"stacked"}
    assert command("train", "-m", *grid, "data.holdout=100", f"root={tmp_path}/basic")[0] == 0
    theirs = lasting(tmp_path / "basic")
    losses = ("train_loss_final", "test_loss_final")
    assert without(ours, *losses, "stepper") == without(theirs, *losses, "stepper")
    for name, record in theirs.items():
        assert [ours[name][key] for key in losses] == pytest.approx([record[key] for key in losses], rel=1e-10)


def test_each_run_is_its_own_in_wandb(command: Command, tmp_path: Path) -> None:
    words = (*SAME, "epochs=1", "seed=0,1", "data.holdout=100", "logger=wandb", "logger.mode=offline")
    assert command("train", "-m", "hydra/launcher=stack", *words, f"root={tmp_path}")[0] == 0
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2 + 1  # and one for the sweep


def test_a_killed_stack_goes_on_from_the_checkpoints_of_its_runs(command: Command, tmp_path: Path) -> None:
    grid = (*SAME, "epochs=40", "eval_every=40", "data.holdout=100", "seed=0,1,2", "trainer.checkpoint_seconds=0")
    process = start(tmp_path, "hydra/launcher=stack", *grid)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/last.ckpt"))) == 3, process)
    assert "0/3 done, 3 running" in command("status", f"root={tmp_path}")[1]
    os.killpg(process.pid, signal.SIGKILL)
    finished(process)
    epochs = [len(path.read_text().splitlines()) - 1 for path in tmp_path.glob("runs/*/metrics.csv")]
    assert command("train", "-m", "hydra/launcher=stack", *grid, f"root={tmp_path}")[0] == 0
    assert min(epochs) > 0
    assert len(lasting(tmp_path)) == 3
    assert not list(tmp_path.glob("runs/*/last.ckpt"))


def test_several_cards_take_a_stack_each_and_then_the_next(tmp_path: Path) -> None:
    stacks = [[Job(number, ["0.1"], 1, tmp_path / str(number))] for number in range(3)]
    work: Any = StandIn(OmegaConf.create(), meet=2)
    found: Any = stack.spread_out(stacks, work, ["3", "5"])
    assert [one.folder for (one,) in found] == ["0", "1", "2"]
    assert [found[0][0].device, found[1][0].device] == ["3", "5"]


def test_runs_that_fit_together_are_divided(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks: list[list[Job]] = []

    def skip(work: Any, jobs: list[Job]) -> list[RunOutcome]:
        stacks.append(jobs)
        return [RunOutcome(job.folder.name, "skipped") for job in jobs]

    monkeypatch.setattr(stack, "carry_out", skip)
    grid = ("model.width=0.1,0.2", "ascent.rho=0,0.1,0.2", "seed=0,1", "hydra.launcher.stack=3", f"root={tmp_path}")
    command("train", "-m", "hydra/launcher=stack", "name=mine", *grid)
    # For each width: two SGD runs, and four SAM runs in two stacks.
    assert [len(jobs) for jobs in stacks] == [2] * 6
    words = [[job.overrides for job in jobs] for jobs in stacks]
    kinds = [{(one[0], one[1] == "ascent.rho=0") for one in jobs} for jobs in words]
    assert all(len(kind) == 1 for kind in kinds), words


@pytest.mark.parametrize("value", ["all", 0, True])
def test_a_wrong_size_of_a_stack_is_one_sentence(value: Any) -> None:
    with pytest.raises(
        SettingError, match=f"hydra.launcher.stack must be auto or a whole number .* {re.escape(json.dumps(value))}"
    ):
        StackLauncher(value)

"""gpu_evidence, rehearsed on the CPU: all runs have the largest number of epochs that fits, and can be resumed."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from samgap import provenance
from samgap.errors import SettingError
from samgap.gpu_evidence import timed
from samgap.gpu_evidence.__main__ import main
from samgap.gpu_evidence.parts import FILL, makespan, plan
from samgap.gpu_evidence.timed import Timed, TimeIsOver, carry_out
from samgap.runs import records, sweeps
from samgap.runs.records import ERROR, RunRecord

Ran = list[tuple[str, int]]  # name and epochs of each run that was carried out


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Record the runs that are carried out, including those of the warm-up, which have another root."""
    names: Ran = []
    run = timed.run

    def noted(config: dict[str, Any], folder: Path, **options: Any) -> RunRecord:
        names.append((config["name"], config["epochs"]))
        return run(config, folder, **options)

    monkeypatch.setattr(timed, "run", noted)
    return names


def rehearse(root: Path, *overrides: str) -> int:
    return main(["--rehearse", "--at-once", "1", "--root", str(root), *overrides])


def test_a_rehearsal_ends_in_records_of_both_parts_and_repeats_none(
    tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(provenance.COMMIT, "")  # the command sets it
    assert rehearse(tmp_path, "--commit", "abc1234") == 0
    assert Counter(name for name, _ in ran) == {"fig8": 4 + 4, "fig7": 2 * 2 * 3}
    kept = json.loads((tmp_path / "fig8" / "rehearsal" / "plan.json").read_text())
    for name, seeds in (("fig8", 1), ("fig7", 3)):
        sweep = sweeps.read(tmp_path, name, "rehearsal")
        found = [records.read(sweeps.runs(tmp_path) / member.folder, member.identity) for member in sweep.members]
        assert len(found) == 4 * seeds
        assert {(one.epochs, one.commit, one.dirty) for one in found if one} == {(kept["epochs"], "abc1234", False)}
        assert f"samgap.train -m figure={name}/gpu" in sweep.command
        assert str(tmp_path) not in sweep.command
    ran.clear()
    assert rehearse(tmp_path) == 0
    assert ran == []


def test_what_was_stopped_goes_on_by_the_plan_and_with_nothing_else(
    tmp_path: Path, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = timed.run

    def stopped(config: dict[str, Any], folder: Path, **options: Any) -> RunRecord:
        if len(ran) == 4 + 2:  # after the warm-up and two runs
            raise TimeIsOver
        return run(config, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(timed, "run", stopped)
        assert rehearse(tmp_path, "fig8", "epochs=3") == 0
    assert (len(ran), [*tmp_path.glob(f"runs/*/{ERROR}")]) == (6, [])
    ran.clear()
    assert rehearse(tmp_path, "fig8", "epochs=3") == 0
    assert ran == [("fig8", 3)] * 2  # neither a warm-up nor finished runs
    with pytest.raises(SystemExit):
        rehearse(tmp_path, "fig8", "epochs=3", "batch_size=32")


def test_a_run_whose_time_is_over_leaves_no_error(tiny: Callable[..., dict[str, Any]]) -> None:
    config = tiny("epochs=100000", "data.holdout=0", "trainer.stepper=eager")
    stopped = carry_out(config, time.monotonic() + 60, seconds=0.05)
    assert stopped.status == "stopped"
    assert 0 < (stopped.epoch_seconds or 0) < 1
    folder = Path(config["root"]) / "runs" / stopped.folder
    assert records.read(folder) is None
    assert not (folder / ERROR).exists()
    assert carry_out(config, time.monotonic() - 1, 60) == replace(stopped, epoch_seconds=None)
    failed = carry_out(config | {"data": config["data"] | {"classes": 3}}, time.monotonic() + 60, 60)
    assert failed.status == "failed"
    assert failed.error.startswith("data.channels and data.classes must be 1 and 10")


class Measured:
    """Workers whose warm-up measures these seconds."""

    def __init__(self, *seconds: float | None, size: int = 2) -> None:
        self.seconds, self.size = seconds, size

    def sweep(self, figure: str, overrides: list[str], until: float, share: float) -> list[Timed]:
        return [Timed(str(n), "stopped", epochs=200, epoch_seconds=one) for n, one in enumerate(self.seconds)]


def test_epochs_are_as_many_as_fit_and_no_more_than_the_figure_s(tmp_path: Path) -> None:
    overrides = ["root='here'", "precision=tf32"]
    until = time.monotonic() + 1000.5
    # One worker takes 9, the other 5 and 3: an epoch of all runs takes 9 seconds.
    assert plan(Measured(3, 9, 5), overrides, tmp_path, until) == int(FILL * 1000 / 9)  # type: ignore[arg-type]
    # The plan stays, whatever a later call would measure.
    assert plan(Measured(1), ["root='there'", "precision=tf32"], tmp_path, until - 900) == int(FILL * 1000 / 9)  # type: ignore[arg-type]
    with pytest.raises(
        SettingError, match="is the plan for precision=tf32, and the settings now are precision=bf16-mixed: "
    ):
        plan(Measured(1), ["precision=bf16-mixed"], tmp_path, until)  # type: ignore[arg-type]
    assert plan(Measured(0.01), overrides, tmp_path / "b", until) == 200  # type: ignore[arg-type]
    for measured in (Measured(900), Measured(1, None)):
        with pytest.raises(SettingError, match="1000 s are left after the warm-up, too few for an epoch of each run"):
            plan(measured, overrides, tmp_path / "c", until)  # type: ignore[arg-type]


def test_the_longest_runs_begin() -> None:
    assert makespan([1, 2, 3, 4], 1) == 10
    assert makespan([2, 3, 2, 4, 1], 2) == 6
    assert makespan([2, 3], 5) == 3


def test_without_a_card_there_is_no_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as leave:
        main(["--images", "x", "--root", str(tmp_path)])
    assert leave.value.code == 1
    assert capsys.readouterr().err.startswith("samgap: Evidence needs a CUDA device and torch finds none here: ")
    assert [*tmp_path.iterdir()] == []

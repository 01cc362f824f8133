import dataclasses
import fcntl
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from hydra_plugins.samgap_launchers.jobs import Job, lost
from samgap.console import format_duration
from samgap.errors import SettingError
from samgap.figures import published
from samgap.figures.table import collect, refuse_stray
from samgap.runs import display, measurements, records, sweeps
from samgap.runs.display import Display
from samgap.runs.sweeps import Member, Progress, Sweep, Watch
from tests.runs.test_records import make


def sweep(root: Path, *overrides: str, axes: tuple[str, ...] = ("ascent.rho", "seed")) -> Sweep:
    """Return a sweep with a run for each of `overrides`."""
    members = []
    for override in overrides:
        record = make(override)
        axes = {"ascent.rho": record.rho, "seed": record.settings["seed"]}
        members.append(Member(record.identity, record.folder, axes, 2.0))
    return Sweep("mine", "own", list(axes), "command", "abc", "now", members)


def test_a_sweep_comes_back_as_written(tmp_path: Path) -> None:
    planned = sweep(tmp_path, "seed=0", "seed=1")
    assert sweeps.write(planned, tmp_path) == tmp_path / "mine" / "own" / "sweep.yaml"
    assert sweeps.read(tmp_path, "mine", "own") == planned
    assert sweeps.find(tmp_path) == [("mine", "own")]


@pytest.mark.parametrize("text", ["", "name: mine", "name: [", "[1]", "members: [{}]"])
def test_a_damaged_sweep_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = sweeps.write(sweep(tmp_path, "seed=0"), tmp_path)
    path.write_text(text)
    with pytest.raises(SettingError, match=r"sweep\.yaml is damaged .*: start the same sweep again"):
        sweeps.read(tmp_path, "mine", "own")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cost: 2.0", "cost: x"),
        ("ascent.rho: 0", "ascent.rho: null"),
        ("ascent.rho: 0", "ascent.rhoo: 0"),
        ("    seed: 0", "    seed: a"),
        ("- seed", "- pruner.sparsity"),
        ("probes: {}", "probes: [hessian]"),
        ("  folder: digits", "  folder: 12 #"),
    ],
)
def test_a_sweep_that_was_edited_by_hand_is_damaged_or_still_right(tmp_path: Path, before: str, after: str) -> None:
    path = sweeps.write(sweep(tmp_path, "seed=0"), tmp_path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(SettingError, match=r"sweep\.yaml is damaged .*: start the same sweep again"):
        sweeps.read(tmp_path, "mine", "own")


def test_a_copy_of_a_study_in_the_same_root_is_refused(tmp_path: Path) -> None:
    path = sweeps.write(sweep(tmp_path, "seed=0"), tmp_path)
    shutil.copytree(path.parent.parent, tmp_path / "backup")
    with pytest.raises(SettingError, match=r"backup/own/sweep\.yaml is of mine/own: keep a copy of a study in another"):
        sweeps.read(tmp_path, "backup", "own")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "runs", "None", "with space", "."])
def test_a_name_must_be_a_folder_of_its_own(tmp_path: Path, name: str) -> None:
    planned = dataclasses.replace(sweep(tmp_path, "seed=0"), name=name)
    with pytest.raises(SettingError, match="name must be a word"):
        sweeps.write(planned, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_state_is_seen(tmp_path: Path) -> None:
    planned = sweep(tmp_path, *(f"seed={seed}" for seed in range(7)))
    folders = [sweeps.runs(tmp_path) / member.folder for member in planned.members]
    for folder in folders[:6]:
        folder.mkdir(parents=True)
    records.write(make("seed=0", seconds=4.0), folders[0])
    records.write(make("seed=1", status="diverged", acc=None, train_acc_final=None), folders[1])
    (folders[2] / "error.txt").write_bytes(
        b"Traceback (most recent call last):\n  \xff\nsamgap.errors.SettingError: wanted this: got that.\nSet A: 1.\n"
    )
    (folders[3] / "record.json").write_text("{")
    (folders[4] / "last.ckpt").write_text("")
    watch = Watch(planned, tmp_path)
    with FileLock(folders[5] / ".lock"):
        progress = watch.update()
    assert dict(progress.counts) == {
        "done": 1, "diverged": 1, "failed": 1, "damaged": 1, "unfinished": 1, "running": 1, "missing": 1,
    }  # fmt: skip
    assert progress.text() == "2/7 done, 1 running, 1 failed, 1 damaged, 1 diverged, 1 unfinished, 1 missing"
    assert watch.problems[planned.members[2].folder] == "wanted this: got that."
    # Two runs of cost 2 took 4 + 1.5 seconds, and five such runs are left.
    assert progress.seconds_left == pytest.approx(5.5 / 4 * 10)
    assert watch.update().counts["running"] == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Lost: the node is gone\n", "the node is gone"),
        ("Traceback (most recent call last):\n  File x\nAssertionError\n", "AssertionError"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\nTraceback (most recent call last):\n"
         "  File y\ntorch.AcceleratorError: CUDA error: assert\n\nCompile with X.\n", "CUDA error: assert"),
        ("", "see error.txt"),
    ],
)  # fmt: skip
def test_every_failed_run_has_a_reason(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text(text)
    assert sweeps.state(tmp_path) == ("failed", None, problem)


def test_a_run_is_not_done_before_its_probes(tmp_path: Path) -> None:
    record = make("seed=0")
    folder = tmp_path / record.folder
    records.write(record, folder)
    probes: dict[str, dict[str, Any]] = {"hessian": {"top": 1}}
    job = Job(0, [], 1, folder, probes)
    assert sweeps.state(folder) == ("done", record, "")
    assert sweeps.state(folder, "", probes) == ("unfinished", None, "")
    assert lost(job, "killed").status == "failed"
    assert sweeps.state(folder, "", probes) == ("failed", None, "killed")
    measurements.write(folder, "hessian", {"settings": {"top": 1}})
    assert sweeps.state(folder, "", probes) == ("done", record, "")
    assert lost(job, "killed").status == "done"


def test_the_display_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = sweep(tmp_path, "seed=0", "seed=1")
    with Display(Watch(planned, tmp_path)) as shown:
        for seed, member in enumerate(planned.members):
            records.write(make(f"seed={seed}"), sweeps.runs(tmp_path) / member.folder)
        assert shown.thread.is_alive()
    assert "mine/own: 2/2 done, 0 running, 0 failed, 0:00 left" in capsys.readouterr().err


def test_several_readers_without_a_right_to_write_see_whether_a_run_goes_on(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / ".lock")
    with lock:
        (tmp_path / ".lock").chmod(0o444)
        assert sweeps.state(tmp_path)[0] == "running"
    with (tmp_path / ".lock").open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert sweeps.state(tmp_path)[0] == "missing"


def test_a_failure_is_shown_each_time_and_an_earlier_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "POLL_SECONDS", 0.01)
    planned = sweep(tmp_path, *(f"seed={seed}" for seed in range(6)))
    errors = [sweeps.runs(tmp_path) / member.folder / "error.txt" for member in planned.members]
    for error in errors[:4]:
        error.parent.mkdir(parents=True)
        error.write_text("SettingError: an earlier failure.\n")
        os.utime(error, (0, 0))
    shown = ""
    with Display(Watch(planned, tmp_path)):
        for number, seed in enumerate((3, 4, 5), 1):
            errors[seed].parent.mkdir(parents=True, exist_ok=True)
            errors[seed].write_text(f"SettingError: failure of {seed}.\n")
            for _ in range(1_000):
                shown += capsys.readouterr().err
                if shown.count("failure of") == number:
                    break
                time.sleep(0.02)
        errors[2].write_text("SettingError: the fourth is not shown.\n")
    shown += capsys.readouterr().err
    assert [line.partition(": ")[2] for line in shown.splitlines() if "failure" in line] == [
        "failure of 3.", "failure of 4.", "failure of 5.",
    ]  # fmt: skip
    assert "0/6 done, 0 running, 6 failed" in shown
    assert "fourth" not in shown


def test_a_failed_probe_is_shown_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "POLL_SECONDS", 0.01)
    planned = dataclasses.replace(sweep(tmp_path, "seed=0"), probes={"hessian": {"top": 1}})
    (member,) = planned.members
    with Display(Watch(planned, tmp_path)):
        records.write(make("seed=0"), sweeps.runs(tmp_path) / member.folder)
        (sweeps.runs(tmp_path) / member.folder / "error.txt").write_text("SettingError: no end in sight.\n")
    shown = capsys.readouterr().err
    assert f"{member.folder}: no end in sight.\n" in shown
    assert "0/1 done, 0 running, 1 failed" in shown


def test_the_time_left_does_not_grow_between_two_ends_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shown = Display(Watch(sweep(tmp_path, "seed=0"), tmp_path))
    ends = []
    # Ten runs of cost 1 take 60 seconds each; the display is read after 30, 60, 90, 120 seconds, and after much more.
    for now[0], done in ((30.0, 0), (60.0, 1), (90.0, 1), (120.0, 2), (9_000.0, 2)):
        ends.append(shown.text(Progress(cost_done=done, cost_left=10 - done)).rpartition(", ")[2])
    assert ends == ["0 failed", "9:00 left", "8:30 left", "8:00 left", "0 failed"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")])
def test_clock(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_table_has_only_what_the_sweep_requested(tmp_path: Path) -> None:
    planned = sweep(tmp_path, "ascent.rho=0", "ascent.rho=0.1", "ascent.rho=0.2")
    for override in ("ascent.rho=0", "ascent.rho=0.1", "ascent.rho=0.5"):
        record = make(override)
        records.write(record, sweeps.runs(tmp_path) / record.folder)
    table = collect(planned, tmp_path)
    assert table.runs["ascent.rho"].tolist() == [0, 0.1, 0.2]
    assert table.runs["status"].tolist() == ["done", "done", "missing"]
    assert len(table.records) == 2
    assert table.missing == {planned.members[2].folder: "missing"}


def test_a_sweep_without_records(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"No run of mine/own .* python -m samgap\.train -m name=mine"):
        collect(sweep(tmp_path, "seed=0"), tmp_path)


def test_a_setting_that_varies_and_is_no_axis_is_refused(tmp_path: Path) -> None:
    planned = sweep(tmp_path, "epochs=10", "epochs=20")
    for override in ("epochs=10", "epochs=20"):
        record = make(override)
        records.write(record, sweeps.runs(tmp_path) / record.folder)
    with pytest.raises(SettingError, match=r"epochs varies among the runs \(10 and 20\) and is no axis"):
        collect(planned, tmp_path)


def test_a_swept_group_brings_its_own_keys() -> None:
    settings: list[dict[str, Any]] = [
        {"pruner": {"name": "random", "sparsity": 0.5}},
        {"pruner": {"name": "other", "sparsity": 0.5, "x": 1}},
    ]
    refuse_stray(["pruner.name"], settings)
    with pytest.raises(SettingError, match=r"pruner\.name varies"):
        refuse_stray(["model.width"], settings)


@pytest.mark.parametrize(
    ("name", "rows", "first"), [("fig7", 5, 0.073), ("fig8", 7, 0.36), ("fig9", 5, 0.029), ("fig10_cifar10", 4, 0.44)]
)
def test_published_numbers_are_carried(name: str, rows: int, first: float) -> None:
    table = published.load(name)
    assert (len(table), table["gap"].iloc[0]) == (rows, first)
    # The gap is the difference of the published accuracies, up to their rounding.
    assert ((table["sam_acc"] - table["sgd_acc"]) - table["gap"]).abs().max() < 0.0021


def test_what_means_nothing_may_vary() -> None:
    # An SGD run of a sweep with another ascent, a dense run with another pruner, and masks that depend on the seed.
    def run(ascent: str, rho: float, pruner: str, sparsity: float, seed: int, mask: int) -> dict[str, Any]:
        return {
            "ascent": {"name": ascent, "rho": rho}, "seed": seed,
            "pruner": {"name": pruner, "sparsity": sparsity, "seed": mask},
        }  # fmt: skip

    alike = [
        run("sam", 0.1, "random", 0.5, 0, 0),
        run("sam", 0.1, "random", 0.5, 3, 3),
        run("none", 0, "snip", 0, 0, 7),
    ]
    refuse_stray(["pruner.sparsity"], alike)
    with pytest.raises(SettingError, match=r"ascent\.name varies"):
        refuse_stray(["pruner.sparsity"], [*alike, run("asam", 0.1, "random", 0.5, 0, 0)])
    follows = [
        {
            "batch_size": size,
            "seed": 0,
            "ascent": {"rho": 0.1},
            "pruner": {"name": "snip", "sparsity": 0.5, "batch_size": size},
        }
        for size in (64, 128)
    ]
    refuse_stray(["batch_size"], follows)
    with pytest.raises(SettingError, match=r"pruner\.batch_size varies"):
        refuse_stray(["batch_size"], [*follows, follows[0] | {"batch_size": 32}])
    with pytest.raises(SettingError, match=r"pruner\.seed varies"):
        refuse_stray(["pruner.sparsity"], [*alike, run("sam", 0.1, "random", 0.5, 1, 0)])


def test_an_unknown_published_table() -> None:
    with pytest.raises(SettingError, match=r"draw\.published must be null or one of fig1, .*, got 'fig99'"):
        published.load("fig99")

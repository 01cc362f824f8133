"""check-gpu without a GPU: its rehearsal, what it writes if parts fail, and that its checks can fail."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from samgap.bench import commands
from samgap.check_gpu import __main__ as check_gpu
from samgap.check_gpu import bed, fast, graphed, isolation, right, rows, stopwatch, together
from samgap.check_gpu.bed import Bed, LeftOut, Net
from samgap.check_gpu.rows import Check, Row
from samgap.errors import SettingError
from samgap.training import programs, trace
from samgap.training.trace import numbers_of
from tests.conftest import called

Reported = Callable[[], tuple[str, str]]


class Threads:
    """Threads in place of processes, which would take longer to start than all of these tests."""

    def set_forkserver_preload(self, names: list[str]) -> None:
        pass

    Pipe = staticmethod(multiprocessing.Pipe)

    class Process(threading.Thread):
        def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
            # Duplicate the pipe's end, as a new process does; the parent closes the original.
            self.pipe: Any = Connection(os.dup(args[0].fileno()))
            super().__init__(target=target, args=(self.pipe, *args[1:]), daemon=daemon)

        def run(self) -> None:
            super().run()
            self.pipe.close()

        def kill(self) -> None:
            pass


@pytest.fixture
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(name: str, *arguments: str, limit: float | None = None) -> tuple[float, str]:
        assert called(name, *arguments) == 0
        return 0.0, ""

    monkeypatch.setattr(commands, "seconds", seconds)
    monkeypatch.setattr(right, "isolated", lambda work, bed: work(bed))
    monkeypatch.setattr(together, "CONTEXT", Threads())
    monkeypatch.setattr(together, "COUNTS", (1,))  # since runs of one process share warnings and random states


def written(folder: Path, name: str = "rehearsal.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


@pytest.mark.usefixtures("without_processes")
def test_a_rehearsal_runs_every_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMGAP_COMMIT", "")  # restored after the test
    monkeypatch.delitem(check_gpu.PARTS, "jax")  # tested in tests/bench, where JAX is loaded anyway
    assert check_gpu.main(["--rehearse", "--out", str(tmp_path), "--commit", "abc"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    found = written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal.json"]  # never in the file of a measurement
    assert (found["rehearsal"], found["commit"], [*found["parts"]]) == (True, "abc", [*check_gpu.PARTS])
    assert {name: part["said"] for name, part in found["parts"].items() if part["status"] != "done"} == {
        "mps": "there is no nvidia-cuda-mps-control here."
    }
    rows = {name: part["rows"] for name, part in found["parts"].items()}
    checks, speeds = (
        [row for part in rows.values() for row in part if ("holds" in row) is kind] for kind in (True, False)
    )
    assert len(checks) > 40
    assert len(speeds) == 29
    assert f"{len(checks)} of {len(checks)} checks hold; {len(speeds)} speeds; failed: no part; a rehearsal" in out
    # The images, operations and share of each step correspond to its time.
    for row in (row for row in speeds if row["case"]):
        assert row["images"] == pytest.approx(row["case"]["batch_size"] / row["seconds"])
        ceiling = next(one["rate"] for one in rows["ceilings"] if one["precision"] == row["precision"])
        assert row["share"] == pytest.approx(row["rate"] / ceiling)
    assert not any("tf32" in json.dumps(part) for part in rows.values())
    search = next(row for row in rows["kernels"] if "search" in row["what"])
    base = next(row for row in rows["kernels"] if "false" in row["what"])
    assert (search["against"], search["ratio"]) == ("deterministic=false", search["seconds"] / base["seconds"])


def test_without_a_card_it_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    assert check_gpu.main(["--out", str(tmp_path / "new")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("samgap: torch ")
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        check_gpu.main(["--rehearse", "fast"])
    assert leave.value.code == 2
    assert "a part is one of numbers, conformance, " in capsys.readouterr().err


def good(_: Bed) -> Iterator[Row]:
    yield Check("one", "1", "1", True)


def wrong(_: Bed) -> Iterator[Row]:
    yield Check("two", "2", "3", False)


def broken(_: Bed) -> Iterator[Row]:
    yield Check("half", "a half", "a half", True)
    raise RuntimeError("CUDA error:\nan illegal address")


def slow(_: Bed) -> Iterator[Row]:
    time.sleep(0.1)
    yield Check("one", "1", "1", True)


def killed(_: Bed) -> Iterator[Row]:
    yield Check("lost", "", "", True)
    raise KeyboardInterrupt


def carried_out(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str, **parts: check_gpu.Part) -> int:
    monkeypatch.setattr(check_gpu, "PARTS", {name: (9.0, part) for name, part in parts.items()})
    return check_gpu.main(["--rehearse", "--out", str(folder), *options])


@pytest.mark.parametrize(("part", "code"), [(good, 0), (wrong, 1), (broken, 1)])
def test_a_part_that_fails_is_reported_and_the_next_goes_on(
    part: check_gpu.Part, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carried_out(monkeypatch, tmp_path, first=part, second=good) == code
    parts = written(tmp_path)["parts"]
    assert len(parts["first"]["rows"]) == len(parts["second"]["rows"]) == 1
    reported = ("failed", "RuntimeError: CUDA error: an illegal address") if part is broken else ("done", "")
    assert (parts["first"]["status"], parts["first"]["said"]) == reported


def test_a_killed_check_leaves_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        carried_out(monkeypatch, tmp_path, first=good, second=killed, third=good)
    assert [*written(tmp_path)["parts"]] == ["first"]
    # A later call with another part adds it to the file.
    assert carried_out(monkeypatch, tmp_path, "third", first=good, third=good) == 0
    assert [*written(tmp_path)["parts"]] == ["first", "third"]
    # A later call with another commit replaces the file.
    monkeypatch.setenv("SAMGAP_COMMIT", "")
    assert carried_out(monkeypatch, tmp_path, "third", "--commit", "other", third=good) == 0
    assert [*written(tmp_path)["parts"]] == ["third"]


def test_what_there_is_no_time_for_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_gpu, "SECONDS", 9.0)
    assert carried_out(monkeypatch, tmp_path, "--seconds=0.2", first=slow, second=wrong) == 0
    parts = written(tmp_path)["parts"]
    assert [part["status"] for part in parts.values()] == ["done", "left out"]
    assert parts["second"]["said"] == "it needs 0 seconds, and 0 were left."
    late = Bed(torch.device("cpu"), tmp_path, until=time.monotonic() + 0.05)
    cases = late.each("abc")
    assert next(cases) == ("a", 0.02)
    time.sleep(0.06)
    with pytest.raises(LeftOut, match="1 of 3 cases"):
        next(cases)


@pytest.mark.parametrize(
    ("off", "holds"), [((1e-7, 1e-4), [True, True]), ((1e-7, 2e-7), [True, False]), ((1e-4, 1e-2), [False, True])]
)
def test_precisions_that_are_not_what_they_say_are_wrong(
    off: tuple[float, float], holds: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bed, "precisions", bed.PRECISIONS)
    rows = right.coarse(
        Bed(torch.device("cpu"), tmp_path), "net", 1e-5, dict(zip(bed.PRECISIONS, off, strict=False)).get
    )  # type: ignore[arg-type]
    assert [row.holds for row in rows] == holds


def test_a_device_that_rounds_otherwise_or_forgets_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(bed: Bed, name: str, *_: str, **__: Any) -> tuple[dict[str, torch.Tensor], Any]:
        off = {"cpu": 0.0, "64-true": 2e-9}.get(name.rpartition(", ")[2], 1e-3)
        return {"w": torch.ones(4, dtype=torch.float64) + off, "batches": torch.tensor(3)}, lambda: None

    monkeypatch.setattr(right, "trained", trained)
    monkeypatch.setattr(right, "_logits", lambda *_: 1e-3)
    rows = [*right.numbers(Bed(torch.device("cpu"), tmp_path))]
    assert [row.holds for row in rows] == [False] * 8
    a, b = {"w": torch.ones(3)}, {"w": torch.ones(3)}
    assert right.differ(a, b) == 0
    b["w"][0] = 1 + 2**-23
    assert right.differ(a, b) == 1


def test_a_graph_that_takes_other_steps_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "numbers_of", lambda run: {**numbers_of(run), "weight_decay": 2e-4})
    assert not next(graphed.graph_numbers(Bed(torch.device("cpu"), tmp_path / "wrong"))).holds
    monkeypatch.setattr(programs.Program, "_graph", lambda *_: 1 / 0)
    with pytest.raises(Warning, match=r"runs slower|not stacked"):
        list(graphed.graph_numbers(Bed(torch.device("cpu"), tmp_path / "none")))


def test_a_process_that_dies_hangs_or_raises_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "CONTEXT", Threads())
    monkeypatch.setattr(isolation, "SILENCE_SECONDS", 0.2)
    here = Bed(torch.device("cpu"), tmp_path, until=time.monotonic() + 9)
    assert [row.text() for row in isolation.isolated(good, here)] == ["    holds  one: 1 (expected: 1)"]
    with pytest.raises(SettingError, match="RuntimeError: CUDA error: an illegal address"):
        list(isolation.isolated(broken, here))

    def silent(_: Bed) -> Iterator[Row]:
        time.sleep(0.5)
        yield from ()

    with pytest.raises(SettingError, match="sent nothing for"):
        list(isolation.isolated(silent, here))
    here.until = time.monotonic() + 0.05
    with pytest.raises(LeftOut, match="the time was over"):
        list(isolation.isolated(silent, here, cut=True))
    with (
        pytest.raises(LeftOut, match="JAX does not run here \\(RuntimeError: CUDA error: an illegal address\\)"),
        bed.optional("JAX"),
    ):
        list(isolation.isolated(broken, here))
    there, gone = multiprocessing.Pipe()
    gone.close()
    with pytest.raises(SettingError, match="died"):
        isolation.receive(there)


def test_a_command_that_hangs_is_stopped() -> None:
    with pytest.raises(SettingError, match=r"time\.sleep\(60\) did not end within 0 seconds"):
        commands.seconds(None, "import time; time.sleep(60)", limit=0.3)


def test_operations_and_medians_by_hand() -> None:
    forward = 2 * (784 * 300 + 300 * 100 + 100 * 10)
    assert Net("mlp", 1, 28).operations(0.0) == 3 * 128 * forward
    assert Net("mlp", 1, 28, 32).operations(0.1) == 2 * 3 * 32 * forward
    row = rows.speed("x", "tf32", [1.0, 2.0, 3.0, 4.0, 50.0])
    assert (row.seconds, row.n, row.spread) == (3.0, 5, 2 / 3)
    calls: list[int] = []
    taken = stopwatch.timed(lambda: calls.append(1), lambda: None, 0.001)
    assert len(taken) >= 3
    assert len(calls) > len(taken)


def test_channels_last_reaches_the_net_that_is_timed(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Look(stopwatch.Stopwatch):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            weights = [w for w in pl_module.net.parameters() if w.dim() == 4 and w.shape[1] > 1 and w.shape[2] > 1]
            seen.append(all(w.is_contiguous(memory_format=torch.channels_last) for w in weights))
            super().on_train_epoch_start(trainer, pl_module)

    here = Bed(torch.device("cpu"), tmp_path, until=time.monotonic() + 9)
    config = here.endless(Net("resnet18", 16, 8, 8), 0.1, "32-true")
    assert stopwatch.step_seconds(here, config, 0.0, fast.ChannelsLast(), Look(here, 0.0))
    assert seen == [True] or seen[0]

"""Output of commands: help of one screen, the nearest valid word, and tables of 100 columns."""

import dataclasses
import errno
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest

from samgap import cli, console
from samgap.bench import __main__ as bench
from samgap.bench.rows import Row as Cost
from samgap.check_gpu.rows import Check, Speed
from samgap.conformance import __main__ as conformance
from samgap.conformance.subject import Subject
from samgap.conformance.suite import Row as Property
from samgap.figures.archive import REFERENCE
from samgap.figures.convergence.study import tabled as rates
from samgap.figures.evidence import tables
from samgap.figures.gap.beside import tabled as gaps
from samgap.figures.gap.choices import ChoiceFit
from samgap.figures.gap.replication import Replication
from samgap.figures.sharpness.study import tabled as curvature
from samgap.figures.table import read_frame
from samgap.reference import card
from samgap.theory import __main__ as theory
from samgap.theory.row import Row as Statement

OPTIONS = ("theory", "conformance", "bench", "bench.costs", "check_gpu", "gpu_evidence")
COMMANDS = {name: importlib.import_module(f"samgap.{name}" + ".__main__" * ("." not in name)) for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_help_is_a_screen_with_three_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        COMMANDS[name].main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert len(lines) <= 40
    assert max(map(len, lines)) <= console.COLUMNS
    assert sum(line.startswith(f"  python -m samgap.{name}") for line in lines) == 3


@pytest.mark.parametrize(
    ("name", "typed", "meant"),
    [("bench", "sweepz", "sweeps"), ("bench.costs", "fig8/papr", "fig8/paper"), ("check_gpu", "graph", "graphs"),
     ("gpu_evidence", "fig77", "fig7")],
)  # fmt: skip
def test_a_part_that_does_not_exist_comes_with_the_nearest_and_the_list(
    name: str, typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        COMMANDS[name].main([typed])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f"got {typed}. Did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bench", "mlp --root x sweepz"),
        ("check_gpu", "mlp --seconds 9 sweepz"),
        ("gpu_evidence", "fig7 --minutes 4 seed=0 --rehearse sweepz"),
    ],
)
def test_parts_may_stand_before_and_after_options(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        COMMANDS[name].main(words.split())
    assert left.value.code == 2
    assert "got sweepz." in capsys.readouterr().err


def load(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REFERENCE / path).read_text(encoding="utf-8"))
    return found


def printed() -> Iterator[tuple[str, str]]:
    """Return what each command prints about the results that come with samgap."""
    known = load("conformance/samgap.json")
    rows = [Property(**row) for row in known["rows"]]
    yield "conformance", conformance._table(Subject(known["target"], known["adapter"]), rows)
    statements = [{key: row[key] for key in row if key != "published"} for row in load("theory/theory.json")["rows"]]
    yield "theory", theory._table([Statement(**row) for row in statements])
    for part, each in load("bench/bench.json").items():
        costs = [Cost(**{key: row[key] for key in row if key != "holds"}) for row in each["rows"]]
        yield part, "\n".join(map(bench.text, costs))
    for title, frame in tables.read(REFERENCE / "evidence").text_tables().items():
        yield title, console.table(frame)
    for part in (card.newest() or {"parts": {}})["parts"].values():
        if part["rows"]:
            yield "check_gpu", "\n".join((Check if "holds" in row else Speed)(**row).text() for row in part["rows"])
    for figure in ("fig7", "fig8", "fig9", "fig10", "fig11", "noise", "rho"):
        frame = read_frame(REFERENCE / figure / "cpu" / f"{figure}.csv")
        yield figure, console.table(gaps(frame, "paper", "holdout"))
    for path in sorted(REFERENCE.glob("*/*/*.json")):
        for verdict in json.loads(path.read_text(encoding="utf-8")).get("verdicts", ()):
            kind = Replication if "gap_difference" in verdict else ChoiceFit if verdict.get("points") else None
            if kind is not None:
                for point in verdict["points"]:
                    point |= {key: math.nan for key, value in point.items() if value is None}
                own = {each.name: verdict[each.name] for each in dataclasses.fields(kind)}
                yield f"{path.parent} points", console.table(pd.DataFrame(kind(**own).detail()))
    yield "fig3", console.table(rates(pd.DataFrame(load("fig3/cpu/fig3.json")["cells"])))
    yield "fig6", console.table(curvature(pd.DataFrame(load("fig6/cpu/fig6.json")["cells"]), ["stop_loss"]))


def test_tables_fit_a_hundred_columns() -> None:
    wide = {name: max(map(len, text.splitlines())) for name, text in printed()}
    assert {name: width for name, width in wide.items() if width > console.COLUMNS} == {}


def test_heads_of_a_wide_table_stand_below_each_other() -> None:
    few = pd.DataFrame({"label_noise": ["0.5"], "gap": ["+1.0"]})
    assert console.table(few) == "label_noise  gap\n        0.5 +1.0"
    wide = console.table(few.assign(**{f"a long head {number}": ["1"] for number in range(9)})).splitlines()
    first = [line.split()[:2] for line in wide]
    assert first == [["a", "a"], ["long", "long"], ["label", "head"], ["noise", "gap"], ["0.5", "+1.0"]]


def _stop() -> int:
    raise KeyboardInterrupt


def _help() -> int:
    print("a line")
    sys.exit(0)


def _print() -> int:
    print("a line")
    return 0


@pytest.mark.parametrize("run", [console.script, cli.command])
@pytest.mark.parametrize(
    ("main", "output", "code", "sentence"),
    [
        (_print, None, 0, ""),  # the shell has closed it
        (_print, "/dev/full", 1, console.DISK_FULL),
        (_print, "pipe", 141, ""),
        (_help, "/dev/full", 1, console.DISK_FULL),
        (_help, "pipe", 141, ""),
        (_stop, "/dev/full", 130, "Stopped."),
        (_stop, os.devnull, 130, "Stopped."),
    ],
)
def test_a_command_ends_with_a_sentence_whatever_happens_to_its_output(
    run: Callable[[Callable[[], int]], None], main: Callable[[], int], output: str | None, code: int, sentence: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["command"])
    monkeypatch.setenv(cli.FULL, "0")
    if output == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(output, os.O_WRONLY) if output else None
    stream = None if writing is None else os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    try:
        run(main)
        ended = 0
    except SystemExit as leave:
        ended = int(leave.code or 0)
    said = capsys.readouterr().err
    if stream is not None:
        stream.close()  # writes what is left, as Python does at exit
    assert ended == code
    assert said.startswith(f"samgap: {sentence}") if sentence else not said
    assert said.count("\n") == bool(sentence)


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EDQUOT])
def test_a_file_for_which_there_is_no_room_is_named(problem: int, capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> int:
        raise OSError(problem, os.strerror(problem), "results/theory.json")

    with pytest.raises(SystemExit, match="1"):
        console.script(write)
    expected = f"samgap: results/theory.json cannot be written ({os.strerror(problem)}): make room.\n"
    assert capsys.readouterr().err == expected

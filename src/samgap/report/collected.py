"""What the page shows, as plain values: studies of this root, evaluated now, and the results that come with samgap."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose

from samgap import cli, identity, naming, reference
from samgap.errors import SettingError
from samgap.results import output, sweeps
from samgap.results.plotted import Plot
from samgap.results.sweeps import Progress, Watch
from samgap.training.settings import locate

REFERENCE = Path(reference.__file__).parent / "results"
HEADER = re.compile(r"^# ([A-Z]+)\s+(.*)$")


@dataclass(frozen=True)
class Shown:
    """One study on the page."""

    name: str
    scale: str
    own: bool  # of this root; else it came with samgap
    folder: Path  # its files
    title: str
    header: dict[str, str]  # of the figure's YAML: claim, source, command, time, result, choices
    report: dict[str, Any] | None = None  # as `output.report` has it; None where nothing can be drawn
    plots: list[Plot] = field(default_factory=list)
    problem: str = ""  # why nothing can be drawn
    progress: Progress | None = None  # of an own one
    problems: dict[str, str] = field(default_factory=dict)  # run folder -> what went wrong

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"{self.name}-{self.scale}" + ("" if self.own else "-reference")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its first run, flat."""
        return identity.flat(self.report["provenance"]["settings_of_first_run"]) if self.report else {}


@dataclass(frozen=True)
class Rows:
    """The rows of a suite, and where they come from."""

    rows: list[dict[str, Any]]
    made: str
    own: bool


@dataclass(frozen=True)
class Collected:
    """All of the page."""

    studies: list[Shown]
    theory: Rows
    conformance: dict[str, Rows]  # by class
    bench: dict[str, Rows]  # by part

    def figures(self) -> dict[str, list[Shown]]:
        """Studies by figure, in the order of the paper, a root's own ones first."""
        grouped: dict[str, list[Shown]] = {}
        for study in sorted(self.studies, key=lambda study: (_place(study.name), not study.own, study.scale)):
            grouped.setdefault(study.name, []).append(study)
        return grouped


def collect(root: Path) -> Collected:
    """Evaluate every sweep below `root` and read what came with samgap."""
    own = [_own(root, name, scale) for name, scale in sweeps.find(root)]
    came = [_reference(path) for path in sorted(REFERENCE.glob("*/*/*.json"))]
    theory, theirs = _read(root, "theory/theory.json")
    bench, measured = _read(root, "bench/bench.json")
    parts = {
        part: Rows(values["rows"], f"{values['created'][:10]}, commit {values['commit'][:7]}", measured)
        for part, values in bench.items()
    }
    made = theory["provenance"]
    return Collected(
        [*own, *came],
        Rows(theory["rows"], f"{made['made'][:10]}, commit {made['commit'][:7]}, {made['draws']} draws a row", theirs),
        {values["target"]: rows for values, rows in _conformance(root)},
        parts,
    )


def _own(root: Path, name: str, scale: str) -> Shown:
    draw = _drawn(root, name, scale)
    shown = Shown(name, scale, True, root / name / scale, draw["title"], _header(name, scale))
    try:
        watch = Watch(sweeps.read(root, name, scale), root)
        shown = replace(shown, progress=watch.look(), problems=watch.problems)
        study = locate(draw["study"])(root, name, scale, draw, "paper")
    except SettingError as error:
        return replace(shown, problem=str(error))
    return replace(shown, report=output.clean(output.report(study)), plots=locate(draw["plotted"])(study.frame(), draw))


def _reference(path: Path) -> Shown:
    report = json.loads(path.read_text(encoding="utf-8"))
    name, scale = report["name"], report["scale"]
    draw = report["draw"]
    frame = pd.read_csv(path.with_suffix(".csv"))
    plots = locate(draw["plotted"])(frame, draw)
    return Shown(name, scale, False, path.parent, draw["title"], _header(name, scale), report, plots)


def _drawn(root: Path, name: str, scale: str) -> dict[str, Any]:
    """How a sweep is drawn: as it was drawn last, else as its figure says."""
    try:
        kept: dict[str, Any] = json.loads((root / name / scale / f"{name}.json").read_text(encoding="utf-8"))["draw"]
        return kept
    except (OSError, ValueError, KeyError):
        known = (Path(cli.CONF) / "figure" / name / f"{scale}.yaml").exists()
        overrides = [f"figure={name}/{scale}"] if known else []
        draw: dict[str, Any] = naming.plain(compose("draw", overrides=overrides), "draw")["draw"]
        return draw if known else draw | {"title": f"{draw['title']}: {name}"}


def _header(name: str, scale: str) -> dict[str, str]:
    """The words of a figure's YAML by their key: claim, source, ..."""
    path = Path(cli.CONF) / "figure" / name / f"{scale}.yaml"
    words: dict[str, str] = {}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if match := HEADER.match(line):
            key = match[1].lower()
            words[key] = match[2]
        elif key and line.startswith("#  "):
            words[key] += " " + line[1:].strip()
        elif not line.startswith("#"):
            key = ""
    return words


def _read(root: Path, path: str) -> tuple[dict[str, Any], bool]:
    """A file of this root, else the one that came with samgap, and whether it is the root's own."""
    own = root / path
    values: dict[str, Any] = json.loads((own if own.exists() else REFERENCE / path).read_text(encoding="utf-8"))
    return values, own.exists()


def _conformance(root: Path) -> Iterator[tuple[Mapping[str, Any], Rows]]:
    for folder, own in ((REFERENCE, False), (root, True)):
        for path in sorted((folder / "conformance").glob("*.json")):
            values = json.loads(path.read_text(encoding="utf-8"))
            made = f"{values['made'][:10]}, commit {values['commit'][:7]}, torch {values['torch']}"
            yield values, Rows(values["rows"], made, own)


def _place(name: str) -> tuple[int, str]:
    number = re.fullmatch(r"fig(\d+)", name)
    return (int(number[1]) if number else 99, name)

"""The contents of the page as plain values: the studies of a root, evaluated now, and the results of samgap itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra import compose

from samgap import cli, naming
from samgap.errors import SettingError
from samgap.figures import kind, output
from samgap.figures.archive import REFERENCE
from samgap.figures.chart import Chart, Map
from samgap.figures.evidence import tables
from samgap.figures.evidence.results import order
from samgap.figures.evidence.tables import Tables
from samgap.figures.significance import holm
from samgap.figures.table import read_frame
from samgap.files import read_json
from samgap.reference import card
from samgap.runs import identity, sweeps
from samgap.runs.sweeps import Progress, Watch

SCALES = {"own": 1, "cpu": 2, "gpu": 3, "paper": 4, "registered": 5}  # the larger, the more a study says
AGAIN = "move it away, or make it again"  # if a file is damaged


@dataclass(frozen=True)
class Shown:
    """One study on the page."""

    name: str
    scale: str
    own: bool  # whether it is of this root; else it came with samgap
    folder: Path  # with the study's files
    title: str
    about: dict[str, str]  # the figure's claim, source, left_open, choices, cost, ...; {} without a figure
    report: dict[str, Any] | None = None  # the dict of `output.report`; None if nothing can be drawn
    charts: Sequence[Chart | Map] = ()
    problem: str = ""  # why nothing can be drawn
    progress: Progress | None = None  # None if it came with samgap
    problems: dict[str, str] = field(default_factory=dict)  # run folder -> error

    @property
    def anchor(self) -> str:
        """The HTML id of the study on the page."""
        return f"{self.name}-{self.scale}" + ("" if self.own else "-reference")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the first run, with dotted keys."""
        return identity.flat(self.report["provenance"]["settings_of_first_run"]) if self.report else {}


@dataclass(frozen=True)
class Rows:
    """The rows of a suite, and their origin."""

    rows: list[dict[str, Any]]
    made: str
    own: bool


@dataclass(frozen=True)
class Card:
    """The results of check-gpu on a GPU."""

    name: str  # of the GPU, with memory, libraries and so on
    made: str
    own: bool
    checks: list[dict[str, Any]]
    speeds: list[dict[str, Any]]
    ended: dict[str, str]  # part -> why it failed or was skipped


@dataclass(frozen=True, eq=False)
class Evidence:
    """The analyses of all studies together."""

    tables: Tables
    made: str
    own: bool


@dataclass(frozen=True)
class Collected:
    """All contents of the page."""

    studies: list[Shown]
    evidence: Evidence
    theory: Rows
    conformance: dict[str, Rows]  # by class
    bench: dict[str, Rows]  # by part
    card: Card | None  # None without a result of check-gpu

    def figures(self) -> dict[str, list[Shown]]:
        """Return the studies by figure, in the order of the paper; those of the root come first."""
        grouped: dict[str, list[Shown]] = {}
        for study in sorted(self.studies, key=lambda study: (order(study.name), not study.own, study.scale)):
            grouped.setdefault(study.name, []).append(study)
        return grouped

    def answers(self) -> list[Shown]:
        """Return the most informative study of each figure, in the order of the paper.

        It is the one of the largest scale that can be drawn; the root's studies come before samgap's. Figures without
        a larger scale than smoke are left out.
        """
        return [
            max(known, key=lambda study: (SCALES.get(study.scale.split("_")[0], 1), study.own))
            for studies in self.figures().values()
            if (known := [study for study in studies if study.report and study.scale != "smoke"])
        ]

    def corrected(self) -> tuple[dict[tuple[str, int], float], int]:
        """Return Holm's p value by anchor of the study and position of the verdict, and the number of questions.

        Verdicts with the same numbers are one question, such as those of two figures with the same runs. Verdicts of
        smoke scale and verdicts without a single p value do not count.
        """
        places: dict[tuple[Any, ...], list[tuple[str, int]]] = {}
        p_values: dict[tuple[Any, ...], float] = {}
        for study in self.studies:
            for place, verdict in enumerate(
                study.report["verdicts"] if study.report and study.scale != "smoke" else ()
            ):
                p = verdict.get("p_up", verdict.get("p"))
                if p is not None:
                    numbers = tuple(value for value in verdict.values() if isinstance(value, int | float))
                    question = (verdict.get("claim"), *numbers)
                    p_values[question] = p
                    places.setdefault(question, []).append((study.anchor, place))
        corrected = zip(p_values, holm([*p_values.values()]), strict=True)
        return {place: p for question, p in corrected for place in places[question]}, len(p_values)


def collect(root: Path) -> Collected:
    """Evaluate every sweep below `root`, and read the results that came with samgap."""
    own = [evaluate(root, name, scale) for name, scale in sweeps.find(root)]
    came = [_reference(path) for path in sorted(REFERENCE.glob("*/*/*.json"))]
    return Collected([*own, *came], _evidence(root), _theory(root), _conformance(root), _bench(root), _card(root))


def evaluate(root: Path, name: str, scale: str) -> Shown:
    """Return a sweep below `root` for the page, with a problem if it cannot be drawn."""
    draw, about = _figure(name, scale)
    draw = _kept(root / name / scale / f"{name}.json") or draw
    shown = Shown(name, scale, True, root / name / scale, draw["title"], about)
    try:
        watch = Watch(sweeps.read(root, name, scale), root)
        shown = replace(shown, progress=watch.look(), problems=watch.problems)
        drawn = kind.made(draw)
        study = drawn.evaluate(root, name, scale, "paper")
    except SettingError as error:
        return replace(shown, problem=str(error))
    return replace(shown, report=output.clean(output.report(study)), charts=drawn.charts(study.frame, study.statistics))


def _reference(path: Path) -> Shown:
    report = read_json(path, AGAIN)
    name, scale = report["name"], report["scale"]
    draw = report["draw"]
    frame = read_frame(path.with_suffix(".csv"))
    charts = kind.made(draw).charts(frame, report)
    return Shown(name, scale, False, path.parent, draw["title"], _figure(name, scale)[1], report, charts)


def _kept(path: Path) -> dict[str, Any]:
    """Return the group `draw` of the last time that a sweep was drawn, or {}."""
    try:
        return read_json(path, AGAIN)["draw"]
    except (OSError, SettingError, KeyError):
        return {}


def _figure(name: str, scale: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `draw` and `about` of a figure in conf/; for a sweep without figure, `gap` with its name, and {}."""
    known = (Path(cli.CONF) / "figure" / name / f"{scale}.yaml").exists()
    values = naming.plain(compose("draw", [f"figure={name}/{scale}"] if known else []), "draw", "about")
    if not known:
        values["draw"]["title"] += f": {name}"
    return values["draw"], values["about"]


def _evidence(root: Path) -> Evidence:
    values, own = _read(root, f"evidence/{tables.MADE}")
    return Evidence(
        tables.read((root if own else REFERENCE) / "evidence"), _when(values["made"], values["commit"]), own
    )


def _theory(root: Path) -> Rows:
    values, own = _read(root, "theory/theory.json")
    made = values["provenance"]
    return Rows(values["rows"], f"{_when(made['made'], made['commit'])}, {made['draws']} draws a row", own)


def _conformance(root: Path) -> dict[str, Rows]:
    """Return rows by class, samgap's classes first; results of this root replace those that came with samgap."""
    found = {}
    for folder, own in ((REFERENCE, False), (root, True)):
        for path in sorted((folder / "conformance").glob("*.json")):
            values = _load(path)
            made = f"{_when(values['made'], values['commit'])}, torch {values['torch']}"
            found[values["target"]] = Rows(values["rows"], made, own)
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("samgap."), item[0])))


def _bench(root: Path) -> dict[str, Rows]:
    values, own = _read(root, "bench/bench.json")
    return {part: Rows(each["rows"], _when(each["created"], each["commit"]), own) for part, each in values.items()}


def _card(root: Path) -> Card | None:
    own = root / "check_gpu" / card.FILE
    found = card.read(own) if own.exists() else card.newest()
    if found is None:
        return None
    rows = [row for part in found["parts"].values() for row in part["rows"]]
    checks, speeds = ([row for row in rows if ("holds" in row) is check] for check in (True, False))
    ended = {name: f"{part['status']}: {part['said']}" for name, part in found["parts"].items() if part["said"]}
    facts = ", ".join(f"{what} {value}" for what, value in found["device"].items())
    return Card(f"{found['card']} ({facts})", card.made(found), own.exists(), checks, speeds, ended)


def _read(root: Path, path: str) -> tuple[dict[str, Any], bool]:
    """Return the contents of a file of this root, or else of samgap, and whether it is of this root."""
    own = (root / path).exists()
    return _load((root if own else REFERENCE) / path), own


def _load(path: Path) -> dict[str, Any]:
    values = read_json(path, AGAIN)
    if not isinstance(values, dict):
        raise SettingError(f"{path} is damaged (no table): {AGAIN}.")
    return values


def _when(made: str, commit: str) -> str:
    return f"{made[:10]}, commit {commit[:7]}"

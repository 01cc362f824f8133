"""Collects the contents of the page: the sweeps of a root, evaluated now, and the results that came with samgap."""

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

SCALES = {"own": 1, "cpu": 2, "gpu": 3, "paper": 4, "registered": 5}  # larger means more informative
ADVICE = "move it away, or make it again"  # if a file is damaged


@dataclass(frozen=True)
class StudyEntry:
    """One study on the page."""

    name: str
    scale: str
    own: bool  # whether it is from this root; else it came with samgap
    folder: Path  # with the study's files
    title: str
    about: dict[str, str]  # the figure's claim, source, left_open, choices, cost, ...; {} without a figure
    report: dict[str, Any] | None = None  # the dict of `output.report`; None if nothing can be drawn
    charts: Sequence[Chart | Map] = ()
    problem: str = ""  # reason why nothing can be drawn
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
    """The rows of a test suite, and their origin."""

    rows: list[dict[str, Any]]
    made: str  # date and commit
    own: bool  # as in `StudyEntry`


@dataclass(frozen=True)
class Card:
    """The results of check-gpu on a GPU."""

    name: str  # GPU, with memory, libraries and so on
    made: str
    own: bool
    checks: list[dict[str, Any]]
    speeds: list[dict[str, Any]]
    ended: dict[str, str]  # part -> reason why it failed or was skipped


@dataclass(frozen=True, eq=False)
class Evidence:
    """The analyses that combine all studies."""

    tables: Tables
    made: str
    own: bool


@dataclass(frozen=True)
class Collected:
    """All contents of the page."""

    studies: list[StudyEntry]
    evidence: Evidence
    theory: Rows
    conformance: dict[str, Rows]  # by class
    bench: dict[str, Rows]  # by part
    card: Card | None  # None without a result of check-gpu

    def figures(self) -> dict[str, list[StudyEntry]]:
        """Return the studies by figure, in the order of the paper; studies of the root come first."""
        grouped: dict[str, list[StudyEntry]] = {}
        for study in sorted(self.studies, key=lambda study: (order(study.name), not study.own, study.scale)):
            grouped.setdefault(study.name, []).append(study)
        return grouped

    def answers(self) -> list[StudyEntry]:
        """Return the most informative study of each figure, in the order of the paper.

        It is the study of the largest scale that can be drawn; of equal scales, that of the root. Figures with only
        smoke scale are left out.
        """
        return [
            max(drawable, key=lambda study: (SCALES.get(study.scale.split("_")[0], 1), study.own))
            for studies in self.figures().values()
            if (drawable := [study for study in studies if study.report and study.scale != "smoke"])
        ]

    def corrected(self) -> tuple[dict[tuple[str, int], float], int]:
        """Return p values with Holm's correction, and the number of tests.

        Keys are the anchor of a study and the position of its verdict. Verdicts with equal numbers are one test, such
        as those of two figures with the same runs. Smoke scale and verdicts without a single p value do not count.
        """
        positions: dict[tuple[Any, ...], list[tuple[str, int]]] = {}
        p_by_test: dict[tuple[Any, ...], float] = {}
        for study in self.studies:
            for place, verdict in enumerate(
                study.report["verdicts"] if study.report and study.scale != "smoke" else ()
            ):
                p = verdict.get("p_up", verdict.get("p"))
                if p is not None:
                    numbers = tuple(value for value in verdict.values() if isinstance(value, int | float))
                    test = (verdict.get("claim"), *numbers)
                    p_by_test[test] = p
                    positions.setdefault(test, []).append((study.anchor, place))
        corrected = zip(p_by_test, holm([*p_by_test.values()]), strict=True)
        return {place: p for test, p in corrected for place in positions[test]}, len(p_by_test)


def collect(root: Path) -> Collected:
    """Evaluate every sweep below `root`, and read the results that came with samgap."""
    # First what takes no time, so that a damaged file is reported at once.
    try:
        rest = (_evidence(root), _theory(root), _conformance(root), _bench(root), _card(root))
    except (KeyError, TypeError, AttributeError) as error:
        raise SettingError(
            f"A file in evidence, theory, conformance, bench or check_gpu below {root} is of another version of samgap "
            f"({type(error).__name__}: {error}): move these folders away, or make them again."
        ) from error
    own = [evaluate(root, name, scale) for name, scale in sweeps.find(root)]
    shipped = [_reference(path) for path in sorted(REFERENCE.glob("*/*/*.json"))]
    return Collected([*own, *shipped], *rest)


def evaluate(root: Path, name: str, scale: str) -> StudyEntry:
    """Evaluate a sweep below `root` for the page; the entry has a `problem` if the sweep cannot be drawn."""
    draw, about = _figure(name, scale)
    draw = _last_draw(root / name / scale / f"{name}.json") or draw
    entry = StudyEntry(name, scale, True, root / name / scale, draw["title"], about)
    try:
        watch = Watch(sweeps.read(root, name, scale), root)
        entry = replace(entry, progress=watch.update(), problems=watch.problems)
        figure = kind.from_settings(draw)
        study = figure.evaluate(root, name, scale, "paper")
    except SettingError as error:
        return replace(entry, problem=str(error))
    report, charts = output.clean(output.report(study)), figure.charts(study.frame, study.statistics)
    return replace(entry, report=report, charts=charts)


def _reference(path: Path) -> StudyEntry:
    report = read_json(path, ADVICE)
    name, scale = report["name"], report["scale"]
    draw = report["draw"]
    frame = read_frame(path.with_suffix(".csv"))
    charts = kind.from_settings(draw).charts(frame, report)
    return StudyEntry(name, scale, False, path.parent, draw["title"], _figure(name, scale)[1], report, charts)


def _last_draw(path: Path) -> dict[str, Any]:
    """Return the group `draw` with which a sweep was last drawn, or {}."""
    try:
        return read_json(path, ADVICE)["draw"]
    except (OSError, SettingError, KeyError):
        return {}


def _figure(name: str, scale: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `draw` and `about` of a figure in conf/; for other sweeps, the default `draw` with the name, and {}."""
    in_conf = (Path(cli.CONF) / "figure" / name / f"{scale}.yaml").exists()
    values = naming.plain(compose("draw", [f"figure={name}/{scale}"] if in_conf else []), "draw", "about")
    if not in_conf:
        values["draw"]["title"] += f": {name}"
    return values["draw"], values["about"]


def _evidence(root: Path) -> Evidence:
    values, own = _read(root, f"evidence/{tables.MADE}")
    return Evidence(
        tables.read((root if own else REFERENCE) / "evidence"), _made(values["made"], values["commit"]), own
    )


def _theory(root: Path) -> Rows:
    values, own = _read(root, "theory/theory.json")
    origin = values["provenance"]
    return Rows(values["rows"], f"{_made(origin['made'], origin['commit'])}, {origin['draws']} draws a row", own)


def _conformance(root: Path) -> dict[str, Rows]:
    """Return rows by class, samgap's classes first; results of this root replace those that came with samgap."""
    by_class = {}
    for folder, own in ((REFERENCE, False), (root, True)):
        for path in sorted((folder / "conformance").glob("*.json")):
            values = _load(path)
            made = f"{_made(values['made'], values['commit'])}, torch {values['torch']}"
            by_class[values["target"]] = Rows(values["rows"], made, own)
    return dict(sorted(by_class.items(), key=lambda item: (not item[0].startswith("samgap."), item[0])))


def _bench(root: Path) -> dict[str, Rows]:
    values, own = _read(root, "bench/bench.json")
    return {part: Rows(run["rows"], _made(run["created"], run["commit"]), own) for part, run in values.items()}


def _card(root: Path) -> Card | None:
    own = root / "check_gpu" / card.FILE
    result = card.read(own) if own.exists() else card.newest()
    if result is None:
        return None
    rows = [row for part in result["parts"].values() for row in part["rows"]]
    checks, speeds = ([row for row in rows if ("holds" in row) is check] for check in (True, False))
    ended = {name: f"{part['status']}: {part['said']}" for name, part in result["parts"].items() if part["said"]}
    facts = ", ".join(f"{key} {value}" for key, value in result["device"].items())
    return Card(f"{result['card']} ({facts})", card.made(result), own.exists(), checks, speeds, ended)


def _read(root: Path, path: str) -> tuple[dict[str, Any], bool]:
    """Return the contents of a file, from this root or else from samgap, and whether it is from this root."""
    own = (root / path).exists()
    return _load((root if own else REFERENCE) / path), own


def _load(path: Path) -> dict[str, Any]:
    values = read_json(path, ADVICE)
    if not isinstance(values, dict):
        raise SettingError(f"{path} is damaged (no table): {ADVICE}.")
    return values


def _made(made: str, commit: str) -> str:
    return f"{made[:10]}, commit {commit[:7]}"

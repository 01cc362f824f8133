"""The runs that a sweep requests (sweep.yaml), and its progress, which is read from the run folders alone."""

import dataclasses
import fcntl
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from samgap.errors import SettingError, said
from samgap.files import replace_text
from samgap.runs import measurements, records
from samgap.runs.records import LAST, LOCK, METRICS, RunRecord

State = Literal["done", "diverged", "running", "failed", "damaged", "unfinished", "missing"]
FINISHED: tuple[State, ...] = ("done", "diverged")
SWEEP = "sweep.yaml"
A_WORD = "a word of letters, digits, _, - and ."
A_NAME = f"{A_WORD}, and not runs or wandb"
RHO, SEED, REPLICATE = "ascent.rho", "seed", "replicate"


@dataclass(frozen=True)
class Member:
    """One point of a sweep's grid, and its run."""

    identity: str
    folder: str  # below multirun/runs/
    axes: dict[str, Any]  # dotted key -> number or text, for the swept keys, ascent.rho and seed
    cost: float  # estimated seconds on one CPU thread


@dataclass(frozen=True)
class Sweep:
    """A named grid of runs."""

    name: str
    scale: str
    axes: list[str]  # dotted keys that were swept
    command: str
    commit: str
    created: str  # ISO 8601, UTC
    members: list[Member]
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)  # name of a requested probe -> settings

    def __str__(self) -> str:
        return f"{self.name}/{self.scale}"

    def folder(self, root: Path) -> Path:
        """Return the folder root/<name>/<scale>."""
        return root / self.name / self.scale

    def unique(self) -> list[Member]:
        """Return one member for each run; several points of the grid may share a run."""
        return list({member.folder: member for member in self.members}.values())


@dataclass
class Progress:
    """The number of runs of a sweep in each state, and their cost and time."""

    counts: Counter[State] = field(default_factory=Counter)
    cost_left: float = 0.0
    cost_done: float = 0.0
    seconds_done: float = 0.0

    @property
    def total(self) -> int:
        """The number of runs of the sweep."""
        return sum(self.counts.values())

    @property
    def finished(self) -> int:
        """The number of runs with a record."""
        return self.counts["done"] + self.counts["diverged"]

    @property
    def seconds_per_cost(self) -> float:
        """The ratio for the finished runs; 1 without any, since costs are estimated seconds."""
        return self.seconds_done / self.cost_done if self.cost_done else 1.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that one worker still needs at the speed of the finished runs; None without any."""
        return self.cost_left * self.seconds_per_cost if self.cost_done else None

    def text(self) -> str:
        """Return a text such as "12/48 done, 2 running, 1 failed"."""
        parts = [f"{self.finished}/{self.total} done"]
        order: tuple[State, ...] = ("running", "failed", "damaged", "diverged", "unfinished", "missing")
        for state in order:
            if self.counts[state]:
                parts.append(f"{self.counts[state]} {state}")
        return ", ".join(parts)


def is_word(value: Any) -> bool:
    """Return whether this can be the name of a folder."""
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


def is_name(value: Any) -> bool:
    """Return whether this can be the name of a sweep, whose folder is beside the folders `runs` and `wandb`."""
    return is_word(value) and value not in ("runs", "wandb", "None")


def runs(root: Path) -> Path:
    """Return the folder of all runs. There is only one, so that figures share runs."""
    return root / "runs"


def write(sweep: Sweep, root: Path) -> Path:
    """Write sweep.yaml in one step and return its path.

    Raises:
        SettingError: name or scale cannot be the name of a folder below `root`.
    """
    for key, value, valid, expected in (("name", sweep.name, is_name, A_NAME), ("scale", sweep.scale, is_word, A_WORD)):
        if not valid(value):
            raise SettingError(f"{key} must be {expected}, got {said(value)}.")
    path = sweep.folder(root) / SWEEP
    replace_text(path, yaml.safe_dump(dataclasses.asdict(sweep), sort_keys=False, allow_unicode=True))
    return path


def read(root: Path, name: str, scale: str) -> Sweep:
    """Read the sweep of this name and scale.

    Raises:
        SettingError: the sweep was never started, or its file is damaged.
    """
    path = root / name / scale / SWEEP
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        sweep = parse(yaml.load(path.read_text(encoding="utf-8"), Loader=loader))
        if str(sweep) != f"{name}/{scale}":
            raise SettingError(
                f"{path} is of {sweep}: keep a copy of a study in another root, in a folder of its name."
            )
        return sweep
    except FileNotFoundError:
        raise SettingError(
            f"No runs of {name}/{scale} in {root}: start the sweep first "
            f"(python -m samgap.train -m {override_for(name, scale)}), or set root to where it was done."
        ) from None
    except (yaml.YAMLError, TypeError, AttributeError, KeyError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is damaged ({type(error).__name__}): start the same sweep again.") from error


def parse(values: dict[str, Any]) -> Sweep:
    """Return a sweep from its plain values; a value of a wrong type raises a TypeError or KeyError."""
    sweep = Sweep(**values | {"members": [Member(**member) for member in values["members"]]})
    _ = {**sweep.probes}
    for member in sweep.members:  # these sums are of texts, or of numbers, and nothing else
        _ = "" + member.identity + member.folder, 0.0 + member.cost + member.axes[RHO] + member.axes[SEED]
        _ = [member.axes[axis] for axis in sweep.axes]
    return sweep


def override_for(name: str, scale: str) -> str:
    """Return the override that selects a sweep on the command line."""
    return f"name={name}" if scale == "own" else f"figure={name}/{scale}"


def find(root: Path) -> list[tuple[str, str]]:
    """Return (name, scale) of every sweep below `root`."""
    return sorted((path.parent.parent.name, path.parent.name) for path in root.glob(f"*/*/{SWEEP}"))


def state(
    folder: Path, expected: str = "", probes: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[State, RunRecord | None, str]:
    """Return (state, record, sentence about the failure) of a run folder.

    Args:
        folder: of the run.
        expected: identity that the record must have; "" accepts any.
        probes: settings by name; without one of their results the run is not done and has no record.
    """
    try:
        record = records.read(folder, expected)
    except SettingError as error:
        return "damaged", None, str(error)
    if record is not None and (record.status == "diverged" or not measurements.missing(probes or {}, folder)):
        return record.status, record, ""
    if _locked(folder / LOCK):
        return "running", None, ""
    if problem := records.failure(folder):
        return "failed", None, problem
    return ("missing" if record is None and not (folder / LAST).exists() else "unfinished"), None, ""


def epoch(folder: Path) -> str | None:
    """Return the progress of a run, such as "epoch 12/200"; None before the end of its first epoch."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
        epochs = re.search(r"^epochs: (\S+)", (folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"), re.M)
    except OSError:
        return None
    done = [line.partition(",")[0] for line in lines[1:] if line.endswith("\n")]  # the last one may be incomplete
    return f"epoch {done[-1]}/{epochs[1]}" if done and epochs else None


class Watch:
    """Reads the progress of a sweep repeatedly. The folder of a finished run is read only once."""

    def __init__(self, sweep: Sweep, root: Path) -> None:
        self.sweep, self.members, self.runs = sweep, sweep.unique(), runs(root)
        self.records: dict[str, RunRecord] = {}
        self.problems: dict[str, str] = {}  # folder -> sentence, at the last `update`
        self.running: list[str] = []  # folders, at the last `update`

    def update(self) -> Progress:
        """Read the run folders and return the progress."""
        progress = Progress()
        self.problems, self.running = {}, []
        for member in self.members:
            record = self.records.get(member.folder)
            if record is not None:
                run_state: State = record.status
            else:
                run_state, record, problem = state(self.runs / member.folder, member.identity, self.sweep.probes)
                if problem:
                    self.problems[member.folder] = problem
                if run_state == "running":
                    self.running.append(member.folder)
            progress.counts[run_state] += 1
            if record is not None:
                self.records[member.folder] = record
                progress.cost_done += member.cost
                progress.seconds_done += record.seconds
            else:
                progress.cost_left += member.cost
        return progress


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            # Shared, since that needs no right to write, and since two readers must not see each other's locks.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except OSError as error:  # locked; on a disk without such locks filelock keeps the file only while it is locked
        return not isinstance(error, FileNotFoundError)

"""The result of one run in one file, record.json, which is written once and in one step."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from samgap.errors import SettingError, said
from samgap.files import replace_text
from samgap.runs import identity

# Files in a run's folder.
RECORD, METRICS, ERROR, LOCK, LAST = "record.json", "metrics.csv", "error.txt", ".lock", "last.ckpt"
FORMAT = 1


@dataclass(frozen=True)
class RunRecord:
    """Settings and results of a run. Accuracies are fractions from 0 to 1, losses are means in the loss's unit.

    "final" is after the last epoch, "best" is the largest over the evaluated epochs. Diverged runs and regressions have
    no accuracies.
    """

    identity: str
    folder: str
    settings: dict[str, Any]  # all scientific settings
    status: Literal["done", "diverged"]
    arm: Literal["SGD", "SAM"]
    test_acc_final: float | None
    test_acc_best: float | None
    test_loss_final: float | None
    holdout_acc_final: float | None  # None without a holdout
    holdout_acc_best: float | None
    train_acc_final: float | None  # in evaluation mode, without augmentation, on the (noisy) training labels
    train_loss_final: float | None
    params_total: int
    params_live: int  # total without pruned weights; biases and batch norm count
    epochs: int  # carried out; fewer than requested if the run diverged or reached stop_loss
    steps: int
    data_sha256: str  # of all images and labels that the run saw
    seconds: float  # of training and evaluation, over all starts of the run
    device: str  # name of the GPU, or cpu
    host: str
    started: str  # ISO 8601, UTC; of the last start
    finished: str
    commit: str
    dirty: bool  # the working tree had uncommitted changes
    versions: dict[str, str]
    stepper: str = "eager"  # or compiled, graph, stacked, and other variants; results differ by rounding
    sparsity_by_layer: dict[str, float] = dataclasses.field(default_factory=dict)  # of kernels; empty when dense
    # Compute capability of the GPU, versions of CUDA and cuDNN; empty on a CPU.
    cuda: dict[str, str] = dataclasses.field(default_factory=dict)
    restored: bool = False  # restored from an archived result; weights and curve may be missing
    scored_acc_final: float | None = None  # on test and unused images together; None unless data.score_unused
    format: int = FORMAT

    @property
    def rho(self) -> float:
        """Radius of the ascent; 0 in the SGD arm."""
        return float(self.settings["ascent"].get("rho") or 0)


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run that its process returns to the launcher, and the launcher to the sweeper."""

    folder: str  # name of the run's folder
    status: Literal["done", "diverged", "busy", "skipped", "stopped", "failed"]
    error: str = ""  # one sentence if it failed


def write(record: RunRecord, folder: Path) -> None:
    """Write record.json into the run's folder, in one step."""
    text = json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False)
    replace_text(folder / RECORD, text + "\n")


def read(folder: Path, expected: str = "") -> RunRecord | None:
    """Return the record in a run's folder, None if there is none yet.

    Args:
        folder: of the run.
        expected: identity that the record must have, "" for any.

    Raises:
        SettingError: the file is damaged, or is the record of another run.
    """
    path = folder / RECORD
    try:
        record = parse(path.read_text(encoding="utf-8"))
        if expected and record.identity != expected:
            raise ValueError(f"it is that of {record.folder}")
        return record
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingError(
            f"{path} cannot be read ({error.strerror}): make it readable, or set root elsewhere."
        ) from error
    except ValueError as error:
        reason = (str(error) or "empty").splitlines()[0]
        raise SettingError(f"{path} is damaged ({reason}): move it away and start the run again.") from error


def parse(text: str) -> RunRecord:
    """Return the record in a text that `write` wrote.

    Raises:
        ValueError: the text is not a valid record.
    """
    try:
        record = RunRecord(**json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from error
    if problem := _problem(record):
        raise ValueError(problem)
    return record


def _problem(record: RunRecord) -> str | None:
    if record.format != FORMAT:
        return f"format {record.format}, this version reads {FORMAT}"
    if record.status not in ("done", "diverged") or not isinstance(record.settings, dict):
        return "no valid status or settings"
    if record.identity != identity.identity(record.settings):
        return "it holds the record of other settings"
    if isinstance(record.seconds, bool) or not isinstance(record.seconds, float | int):
        return f"seconds is {said(record.seconds)} and not a number"
    if not isinstance(record.versions, dict):
        return f"versions is {said(record.versions)} and not a mapping"
    if record.status == "done":
        loss = record.train_loss_final
        if not isinstance(loss, float | int) or not math.isfinite(loss):
            return f"train_loss_final is {said(loss)} and not a number"
        accuracies = {name: getattr(record, name) for name in ("test_acc_final", "test_acc_best", "train_acc_final")}
        classifies = record.settings.get("loss", {}).get("name") == "cross_entropy"
        if not classifies and not any(value is not None for value in accuracies.values()):
            return None  # a regression
        if record.settings["data"].get("score_unused"):
            accuracies["scored_acc_final"] = record.scored_acc_final
        for name, value in accuracies.items():
            if not isinstance(value, float | int) or not math.isfinite(value) or not 0 <= value <= 1:
                return f"{name} is {said(value)} and not a fraction from 0 to 1"
    return None


def failure(folder: Path) -> str:
    """Return why a run failed, from the end of its error.txt; "" if it has none."""
    try:
        text = (folder / ERROR).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    # After the indented frames of a stack comes "Type: message", and the message may have further lines.
    _, stack, end = text.rpartition("Traceback (most recent call last):")
    lines = [line for line in end.splitlines() if line[:1].strip()] or [f"see {ERROR}"]
    line = lines[0 if stack else -1]
    return line.partition(": ")[2] or line

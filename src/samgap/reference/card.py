"""Reads results of `python -m samgap.check_gpu`, and computes from them the seconds of a pass on a GPU."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samgap.errors import SettingError

SHIPPED = Path(__file__).parent / "results" / "gpu"  # results that come with samgap
FILE = "check-gpu.json"


@dataclass(frozen=True)
class Rates:
    """The speed of forward and backward passes in float32 (precision=32-true)."""

    rate: float  # operations per second in training
    passes: Mapping[str, float]  # model -> seconds of a pass that is too small to use the whole GPU
    card: str = ""  # GPU on which both were measured; "" for guesses
    made: str = ""  # date and commit

    def seconds(self, model: str, operations: float) -> float:
        """Return the seconds of a pass with this number of operations."""
        kind = model if model in self.passes else "resnet18" if model.startswith("resnet") else "mlp"
        return max(self.passes[kind], operations / self.rate)


def read(path: Path) -> dict[str, Any]:
    """Return the contents of a result file.

    Raises:
        SettingError: the file is damaged, or from a rehearsal, which measures no GPU.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if missing := {"rehearsal", "card", "device", "created", "commit", "parts"} - result.keys():
            raise KeyError(*missing)
    except (ValueError, KeyError, AttributeError) as error:
        raise SettingError(f"{path} is no result of check-gpu: move it away, or make it again.") from error
    if result["rehearsal"]:
        raise SettingError(f"{path} is of a rehearsal and no measurement: move it away.")
    return result


def newest() -> dict[str, Any] | None:
    """Return the newest result that came with samgap, or None; one without times of steps only if all are such."""
    results = [read(path) for path in SHIPPED.glob("check-gpu*.json")]
    return max(results, key=lambda result: (rates(result) is not None, str(result["created"])), default=None)


def made(result: Mapping[str, Any]) -> str:
    """Return date and commit of a result as text."""
    return f"{result['created'][:10]}, commit {result['commit'][:7]}"


def rates(result: Mapping[str, Any]) -> Rates | None:
    """Return the rates of a result; None if it lacks the steps of an MLP or a ResNet-18.

    The rate is the largest of a step of a ResNet; the seconds of a small pass are the smallest of its model.
    """
    steps = [
        row
        for part in result["parts"].values()
        for row in part["rows"]
        if row.get("case") and row["precision"] == "32-true"
    ]
    passes: dict[str, float] = {}
    for row in steps:
        model = row["case"]["model"]
        seconds = row["seconds"] / (2 if row["case"]["rho"] else 1)
        passes[model] = min(seconds, passes.get(model, seconds))
    best = max((row["rate"] for row in steps if row["case"]["model"].startswith("resnet")), default=0.0)
    passes.pop("resnet50", None)  # its only size uses the whole GPU
    if not {"mlp", "resnet18"} <= passes.keys():
        return None
    return Rates(best, passes, result["card"], made(result))

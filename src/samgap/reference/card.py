"""Results of `python -m samgap.check_gpu` on a GPU, and the cost of a pass there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samgap.errors import SettingError

CAME = Path(__file__).parent / "results" / "gpu"  # with samgap
FILE = "check-gpu.json"


@dataclass(frozen=True)
class Rates:
    """What passes cost in float32 (precision=32-true)."""

    rate: float  # operations a second that training keeps up
    passes: Mapping[str, float]  # model -> seconds of a forward and backward pass that is too small to fill a card
    card: str = ""  # on which both were measured; "" where they are guesses
    made: str = ""  # date and commit

    def seconds(self, model: str, operations: float) -> float:
        """Return the seconds of a pass with this number of operations."""
        kind = model if model in self.passes else "resnet18" if model.startswith("resnet") else "mlp"
        return max(self.passes[kind], operations / self.rate)


def read(path: Path) -> dict[str, Any]:
    """A result.

    Raises:
        SettingError: it is damaged, or of a rehearsal, which measures no card.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if lacking := {"rehearsal", "card", "device", "created", "commit", "parts"} - found.keys():
            raise KeyError(*lacking)
    except (ValueError, KeyError, AttributeError) as error:
        raise SettingError(f"{path} is no result of check-gpu: move it away, or make it again.") from error
    if found["rehearsal"]:
        raise SettingError(f"{path} is of a rehearsal and no measurement: move it away.")
    return found


def newest() -> dict[str, Any] | None:
    """The newest result that came with samgap, or None."""
    found = [read(path) for path in CAME.glob("check-gpu*.json")]
    return max(found, key=lambda one: str(one["created"]), default=None)


def made(found: Mapping[str, Any]) -> str:
    """Date and commit."""
    return f"{found['created'][:10]}, commit {found['commit'][:7]}"


def rates(found: Mapping[str, Any]) -> Rates | None:
    """The rates of a result; None if it lacks the steps of an MLP and a ResNet-18.

    The rate is the best that a step of a ResNet keeps up; a pass that fills no card is the fastest of its model.
    """
    steps = [
        row
        for part in found["parts"].values()
        for row in part["rows"]
        if row.get("case") and row["precision"] == "32-true"
    ]
    passes: dict[str, float] = {}
    for row in steps:
        model = row["case"]["model"]
        one = row["seconds"] / (2 if row["case"]["rho"] else 1)
        passes[model] = min(one, passes.get(model, one))
    best = max((row["rate"] for row in steps if row["case"]["model"].startswith("resnet")), default=0.0)
    passes.pop("resnet50", None)  # its one size fills a card
    if not {"mlp", "resnet18"} <= passes.keys():
        return None
    return Rates(best, passes, found["card"], made(found))

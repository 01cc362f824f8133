"""The two parts: figure 8 for as many epochs as fit, and figure 7 with as many seeds as fit."""

import contextlib
import heapq
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from samgap import files
from samgap.errors import SettingError
from samgap.gpu_evidence.workers import Workers
from samgap.runs import sweeps

FILL = 0.85  # share of the remaining time planned for steps; the rest is for evaluation and errors of the estimate
WARM_UP = 0.05  # share of the remaining time for the steps of the warm-up
SEEDS = 3  # of figure 7, as in the paper
PLAN = "plan.json"


def images(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> None:
    """Carry out the first part, figure 8, until the time `until` by `time.monotonic`.

    Raises:
        SettingError: a setting is wrong, runs failed, or there is too little time for one epoch of all runs.
    """
    epochs = plan(workers, overrides, root, until)
    workers.sweep("fig8/gpu", [*overrides, f"epochs={epochs}"], until)


def mlp(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> None:
    """Carry out the second part, figure 7, seed by seed, while the remaining time is at least that of the last seed.

    Raises:
        SettingError: a setting is wrong, or runs failed.
    """
    first = 1
    with contextlib.suppress(SettingError):  # there is no earlier sweep
        first = len({member.axes[sweeps.SEED] for member in sweeps.read(root, "fig7", _scale(overrides)).members})
    for seeds in range(first, SEEDS + 1):
        began = time.monotonic()
        workers.sweep("fig7/gpu", [*overrides, f"seed=range({seeds})"], until)
        if 2 * time.monotonic() - began > until:
            return


def plan(workers: Workers, overrides: Sequence[str], root: Path, until: float) -> int:
    """Return the number of epochs of each run of the first part, from a saved plan or from a warm-up of all runs.

    Raises:
        SettingError: the saved plan has other settings, or there is too little time for one epoch of all runs.
    """
    settings = [word for word in overrides if not word.startswith(("root=", "data_dir="))]
    path = root / "fig8" / _scale(overrides) / PLAN
    if path.exists():
        saved = files.read_json(path, "move it away")
        if saved["settings"] != settings:
            raise SettingError(
                f"{path} is the plan for {' '.join(saved['settings'])}, and the settings now are {' '.join(settings)}: "
                "give the same options, or another --root."
            )
        return int(saved["epochs"])
    with tempfile.TemporaryDirectory() as folder:
        outcomes = workers.sweep("fig8/gpu", [*overrides, f"root={folder}"], until, WARM_UP)
    taken = {outcome.folder: outcome.epoch_seconds for outcome in outcomes if outcome.epoch_seconds is not None}
    left = until - time.monotonic()
    epoch = makespan([*taken.values()], workers.size)
    if len(taken) < len(outcomes) or epoch > FILL * left:
        raise SettingError(
            f"{max(left, 0):.0f} s are left after the warm-up, too few for an epoch of each run: raise --minutes."
        )
    epochs: int = min(int(FILL * left / epoch), outcomes[0].epochs)
    values = {
        "epochs": epochs,
        "figure_epochs": outcomes[0].epochs,
        "planned_seconds": round(epochs * epoch, 1),
        "seconds_left": round(left, 1),
        "at_once": workers.size,
        "epoch_seconds": {folder: round(seconds, 3) for folder, seconds in taken.items()},
        "settings": settings,
    }
    files.replace_text(path, json.dumps(values, indent=1) + "\n")
    return epochs


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return the total time of runs of these `seconds` on `workers` workers, if longer runs start first."""
    ends = [0.0] * workers
    for duration in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def _scale(overrides: Sequence[str]) -> str:
    return next((word.removeprefix("scale=") for word in overrides if word.startswith("scale=")), "gpu")

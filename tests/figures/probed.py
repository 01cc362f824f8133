"""Made-up sweeps with probes: files are written without training."""

import copy
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from samgap.runs import measurements, records, sweeps
from samgap.runs.identity import folder, identity
from samgap.runs.records import RunRecord
from samgap.runs.sweeps import Member, Sweep
from tests.runs.test_records import make

Value = Callable[[float, int], float | None]  # (rho, seed) -> number; None = not found
STEPS = [-0.1, 0.0, 0.1]


@functools.cache
def base() -> RunRecord:
    return make("figure=fig6/smoke", "optimizer.lr=0.1", "epochs=30")


def setting(stop: float | None, rho: float, seed: int) -> dict[str, Any]:
    settings = copy.deepcopy(base().settings)
    settings["ascent"]["rho"], settings["seed"], settings["stop_loss"] = rho, seed, stop
    return settings


def probe(folder: Path, name: str, found: dict[str, Any], owner: str, settings: dict[str, Any] | None = None) -> None:
    measurements.write(folder, name, {"probe": name, "settings": settings or {}, "found": found, "identity": owner})


def bowl(steepness: float, hole: bool = False) -> list[list[float | None]]:
    losses: list[list[float | None]] = [[0.01 + steepness * (x * x + 2 * y * y) for y in STEPS] for x in STEPS]
    if hole:
        losses[0][0] = None
    return losses


def write(
    root: Path,
    top: Value,
    s_2: Value = lambda rho, seed: 20 - 50 * rho + 0.1 * seed,
    rhos: Iterable[float] = (0, 0.05, 0.2),
    seeds: Iterable[int] = (0, 1, 2),
    stops: Iterable[float | None] = (None,),
    diverged: Iterable[tuple[float, int]] = (),
    missing: Iterable[tuple[float, int]] = (),
    unseen: Iterable[tuple[float, int]] = (),
    not_converged: Iterable[tuple[float, int]] = (),
    ends_at: float = 0.001,
    examples: Callable[[int], int] = lambda seed: 50,
    change: Callable[[dict[str, Any]], None] = lambda settings: None,
    hole: bool = False,
) -> Path:
    """Write a sweep mine/own over rho, seed and, if there are several, stop_loss; s_3 = s_2 + 1 and s_4 = s_2 + 2."""
    stops = list(stops)
    members = []
    for stop, rho, seed in [(stop, rho, seed) for stop in stops for rho in rhos for seed in seeds]:
        settings = setting(stop, rho, seed)
        change(settings)
        owner, name = identity(settings), folder(settings)
        axes: dict[str, Any] = {"ascent.rho": rho, "seed": seed}
        if len(stops) > 1:
            axes["stop_loss"] = "null" if stop is None else stop
        members.append(Member(owner, name, axes, 1.0))
        if (rho, seed) in missing:
            continue
        path = sweeps.runs(root) / name
        path.mkdir(parents=True, exist_ok=True)
        fields = {**vars(base()), "identity": owner, "folder": name, "settings": settings}
        if (rho, seed) in diverged:
            records.write(RunRecord(**fields | {"status": "diverged", "train_loss_final": None}), path)
            continue
        records.write(RunRecord(**fields), path)
        (path / "metrics.csv").write_text(f"epoch,train_loss\n29,1\n30,{ends_at}\n")
        if (rho, seed) in unseen:
            continue
        sure = (rho, seed) not in not_converged
        probe(path, "hessian", {"n": 500, "eigenvalues": [top(rho, seed)], "converged": sure}, owner)
        value = s_2(rho, seed)
        s = {str(k): {"value": None if value is None else value + k - 2, "converged": True} for k in (2, 3, 4)}
        n = examples(seed)
        probe(path, "moments", {"n": n, "s": s}, owner, {"examples": n})
        surfaces = {name: {"losses": bowl(1 if rho else 9, hole and rho > 0)} for name in ("raw", "filter")}
        probe(path, "landscape", {"n": 500, "steps": STEPS, "surfaces": surfaces}, owner)
    keys = ["stop_loss"] * (len(stops) > 1) + ["ascent.rho", "seed"]
    sweeps.write(Sweep("mine", "own", keys, "", "", "", members), root)
    return root

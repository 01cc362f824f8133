"""Made-up tables of runs."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from samgap.figures.table import Table
from samgap.runs.sweeps import REPLICATE, RHO, SEED, Member, Sweep

Accuracy = Callable[[float, float, int], float | None]  # (width, rho, seed) -> fraction; None = diverged
PARAMS: Mapping[float, int] = {1: 1_000, 2: 10_000, 3: 100_000, 4: 1_000_000, 5: 10_000_000}


def table(
    test: Accuracy,
    widths: Iterable[float] = (1, 2, 3),
    rhos: Iterable[float] = (0, 0.1, 0.2),
    seeds: Iterable[int] = (0, 1, 2),
    holdout: Accuracy | None = None,
    missing: Iterable[tuple[float, float, int]] = (),
    train: Accuracy = lambda width, rho, seed: 1.0,
    extra: Mapping[str, Iterable[Any]] = {},
) -> Table:
    """Return a table over width, rho, seed and `extra` axes with the accuracies that `test` and `holdout` return."""
    rows, members = [], []
    more: list[dict[str, Any]] = [{}]
    for axis, values in extra.items():
        more = [point | {axis: value} for point in more for value in values]
    for width, rho, seed, point in [(w, r, s, m) for m in more for w in widths for r in rhos for s in seeds]:
        axes = {"model.width": width} | point | {RHO: rho, SEED: seed}
        name = "-".join(map(str, axes.values()))
        members.append(Member(name, name, axes, 1.0))
        row: dict[str, Any] = {REPLICATE: 0} | axes | {"status": "missing", "rightly": 1.0}
        if (width, rho, seed) not in missing:
            acc = test(width, rho, seed)
            row |= {
                "test_acc_final": acc,
                "scored_acc_final": acc,
                "holdout_acc_final": holdout(width, rho, seed) if holdout and acc is not None else None,
                "train_acc_final": None if acc is None else train(width, rho, seed),
                "seconds": 1.0 + (rho > 0),
                "status": "diverged" if acc is None else "done",
                "params_total": PARAMS[width],
                "params_live": PARAMS[width],
            }
        rows.append(row)
    sweep = Sweep("mine", "own", ["model.width", *extra, RHO, SEED], "", "", "", members)
    columns = ["test_acc_final", "scored_acc_final", "holdout_acc_final", "train_acc_final"]
    return Table(sweep, pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*rows[0], *columns]))), [], {})

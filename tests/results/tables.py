"""Tables made by hand."""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from samgap.results.sweeps import Member, Sweep
from samgap.results.table import RHO, SEED, Table

Accuracy = Callable[[float, float, int], float | None]  # (width, rho, seed) -> fraction; None = diverged
PARAMS: Mapping[float, int] = {1: 1_000, 2: 10_000, 3: 100_000, 4: 1_000_000, 5: 10_000_000}


def table(
    test: Accuracy,
    widths: Iterable[float] = (1, 2, 3),
    rhos: Iterable[float] = (0, 0.1, 0.2),
    seeds: Iterable[int] = (0, 1, 2),
    holdout: Accuracy | None = None,
    missing: Iterable[tuple[float, float, int]] = (),
    train: float = 1.0,
) -> Table:
    """A table of width x rho x seed with the accuracies that `test` and `holdout` give."""
    rows, members, diverged = [], [], []
    for width in widths:
        for rho in rhos:
            for seed in seeds:
                name = f"{width}-{rho}-{seed}"
                members.append(Member(name, name, {"model.width": width, RHO: rho, SEED: seed}, 1.0))
                if (width, rho, seed) in missing:
                    continue
                acc = test(width, rho, seed)
                if acc is None:
                    diverged.append(name)
                rows.append(
                    {
                        "model.width": width, RHO: rho, SEED: seed, "test_acc_final": acc, "test_acc_best": acc,
                        "holdout_acc_final": holdout(width, rho, seed) if holdout and acc is not None else None,
                        "train_acc_final": None if acc is None else train, "seconds": 1.0 + (rho > 0),
                        "status": "diverged" if acc is None else "done",
                        "params_total": PARAMS[width], "params_live": PARAMS[width],
                    }
                )  # fmt: skip
    sweep = Sweep("mine", "own", ["model.width", RHO, SEED], "", "", "", members)
    return Table(sweep, pd.DataFrame(rows), [], {}, diverged)

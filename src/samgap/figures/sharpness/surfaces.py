"""The training loss around the nets that SGD and SAM end with (poster figures 4 and 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from samgap.errors import SettingError
from samgap.figures.sharpness import probed
from samgap.figures.sharpness.probed import TOP, Probes
from samgap.figures.sharpness.study import Measured, remarks, requested_rhos
from samgap.figures.sharpness.verdict import flatter
from samgap.figures.table import collect
from samgap.runs import sweeps
from samgap.runs.sweeps import RHO, SEED

PROBES = ("hessian", "landscape")

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Surface:
    """The losses around one net."""

    series: str
    rho: float
    seed: int
    lambda_max: float
    train_loss: float
    n: int  # number of examples; each loss is their mean
    steps: Array  # (P,), along both directions
    losses: dict[str, Array]  # kind of directions -> (P, P), at steps[i] and steps[j]; nan = not finite


@dataclass(frozen=True, eq=False)
class Surfaces(Measured):
    """For each series, the surfaces of SGD and of the largest rho, at one seed."""

    surfaces: list[Surface]

    title: ClassVar[str] = "training loss around the nets that training ends with"

    def frame(self) -> pd.DataFrame:
        """Return a row for each point of a drawn surface."""
        rows = []
        for one in self.surfaces:
            for name, losses in one.losses.items():
                points = np.stack([*np.meshgrid(one.steps, one.steps, indexing="ij"), losses], axis=-1).reshape(-1, 3)
                part = pd.DataFrame(points, columns=["x", "y", "loss"])
                context = {"series": one.series, RHO: one.rho, SEED: one.seed, "directions": name}
                rows.append(part.assign(**context)[[*context, "x", "y", "loss"]])  # type: ignore[arg-type]
        return pd.concat(rows, ignore_index=True)


def evaluate(root: Path, name: str, scale: str, settings: Mapping[str, Any]) -> Surfaces:
    """Read the results of the probes hessian and landscape for a sweep, and choose the surfaces to draw.

    Args:
        root: the results folder.
        name, scale: of the sweep.
        settings: of the figure; only published is used, the name of a table of lambda_max.

    Raises:
        SettingError: no seed has finished all runs to be drawn; see also `table.collect` and `probed.look`.
    """
    table = collect(sweeps.read(root, name, scale), root)
    by_rho, tops = probed.references(settings["published"])
    found = probed.look(table, root, PROBES, PROBES[1:])
    runs = probed.load(table, root, found, PROBES)
    cells = probed.summary(runs, table.cell_axes, by_rho)
    series = list(dict.fromkeys(runs["series"]))
    verdicts = [flatter(runs[runs["series"] == named], requested_rhos(table, named)) for named in series]
    drawn = [
        one for named in series for one in choose(runs[runs["series"] == named], found, requested_rhos(table, named))
    ]
    if not drawn:
        sweep = f"{table.sweep.name}/{table.sweep.scale}"
        raise SettingError(f"No seed of {sweep} has its SGD run and that of the largest rho done: wait for the sweep.")
    seeds = ", ".join(dict.fromkeys(str(one.seed) for one in drawn))
    rhos = ", ".join(dict.fromkeys(f"{one.rho:g}" for one in drawn))
    notes = [
        f"Drawn: rho {rhos}, the ends of those swept, and seed {seeds}, the smallest that has them; raw and filter "
        "directions are the same for all nets, those of the largest eigenvalues are each net's own.",
        *_holes(drawn),
        *remarks(table, runs, tops),
        *probed.unseen(found, PROBES),
    ]
    return Surfaces(table, table.cell_axes, runs, cells, tops, notes, verdicts, drawn)


def choose(runs: pd.DataFrame, found: Mapping[str, Probes], rhos: Sequence[float]) -> list[Surface]:
    """Return the surfaces of SGD and of the largest rho at the smallest seed that has both, or [] if none has."""
    ends = list(dict.fromkeys((rhos[0], rhos[-1])))
    done = runs[(runs["status"] == "done") & runs[RHO].isin(ends)]
    for _, pair in done.groupby(SEED):
        if len(pair) == len(ends):
            return [surface(run, found[str(run["folder"])]) for _, run in pair.sort_values(RHO).iterrows()]
    return []


def surface(run: "pd.Series[Any]", found: Probes) -> Surface:
    """Return the surface of one run."""
    values = found["landscape"]["found"]
    losses = {name: np.array(one["losses"], dtype=float) for name, one in values["surfaces"].items()}
    named, rho, seed = str(run["series"]), float(run[RHO]), int(run[SEED])
    return Surface(named, rho, seed, run[TOP], run["train_loss"], values["n"], np.array(values["steps"]), losses)


def _holes(drawn: Sequence[Surface]) -> list[str]:
    holes = sum(int(np.isnan(losses).sum()) for one in drawn for losses in one.losses.values())
    return [f"At {holes} point(s) the loss is not finite; they are left white."] if holes else []

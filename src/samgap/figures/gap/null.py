"""Studies without any effect, simulated: what leaving one seed out does to p values and intervals.

Leaving one seed out, two seeds share most of the runs that choose rho for them, so their gaps agree by chance and are
not independent. What follows from that is read off simulated studies in which every run is noise: the same within a
cell, of the cell's own size where `gaps` is multiplied by it.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samgap.figures.gap import parabola
from samgap.figures.significance import LEVEL

STUDIES = 20_000  # of a part
PARTS = 20  # at most, for a p value near the level
BLOCKS = 20  # drawn one after the other, to bound memory

# How many rhos there are to choose from; or these themselves, where a parabola goes through their accuracies.
Rhos = int | tuple[float, ...]


@dataclass(frozen=True)
class Tail:
    """One-sided p values of a rise and of a fall, with the Monte Carlo standard error of the smaller."""

    up: float
    down: float
    error: float

    @property
    def borderline(self) -> bool:
        """More studies could move it to the other side of the level."""
        return bool(abs(min(self.up, self.down) - LEVEL) <= 2 * self.error)


@functools.lru_cache(maxsize=24)
def gaps(seeds: int, cells: int, rhos: Rhos, part: int = 0, sgd_runs: float = 1, *, own: bool = False) -> np.ndarray:
    """Gaps (studies, seeds, cells), each with a standard deviation of about 1; each seed's rho is the best of the other
    seeds' mean.

    Args:
        seeds, cells: how many.
        rhos: see `Rhos`.
        part: another one is other studies.
        sgd_runs: SGD runs a seed; SGD's noise is that of their mean.
        own: the best rho is that of the mean of all seeds instead, where they are a number.
    """
    several = rhos if isinstance(rhos, int) else len(rhos)
    random = np.random.default_rng(part)
    parts = []
    for _ in range(BLOCKS):
        sam = random.standard_normal((STUDIES // BLOCKS, seeds, cells, several), dtype=np.float32)
        sgd = random.standard_normal((STUDIES // BLOCKS, seeds, cells), dtype=np.float32)
        if isinstance(rhos, int):
            chosen = (sam.sum(axis=1, keepdims=True) - (0 if own else sam)).argmax(axis=-1)
            best = np.take_along_axis(sam, chosen[..., None], axis=-1)[..., 0]
        else:
            best = np.swapaxes(parabola.left_out(rhos, np.swapaxes(sam, 1, 2))[1], 1, 2)
        parts.append(best - sgd * np.float32(sgd_runs**-0.5))
    found: np.ndarray = np.concatenate(parts)
    found /= np.float32(math.sqrt(1 + 1 / sgd_runs)) if isinstance(rhos, int) else found.std()
    return found


def tails(statistic: float, studies: Callable[[int], np.ndarray]) -> Tail:
    """The shares of studies that reach at least, and at most, as far; near the level from more of them.

    Args:
        statistic: of the study that was made.
        studies: the statistics of a part's studies, by its number.
    """
    above = below = drawn = 0
    for part in range(PARTS):
        found = studies(part)
        above, below, drawn = above + (found >= statistic).sum(), below + (found <= statistic).sum(), drawn + len(found)
        up, down = (float((1 + count) / (1 + drawn)) for count in (above, below))
        error = math.sqrt(min(up, down) * (1 - min(up, down)) / drawn)
        if abs(min(up, down) - LEVEL) > 4 * error:
            break
    return Tail(up, down, error)


def half_width(values: np.ndarray, share: float = 0.95) -> float:
    """How many standard errors an interval reaches that holds the truth in this share of studies, where Student's t
    would be for independent seeds.

    Args:
        values: (studies, seeds), with mean 0 in truth.
        share: of the studies.
    """
    return float(np.quantile(np.abs(standardized(values)), share))


def standardized(values: np.ndarray) -> np.ndarray:
    """Means over seeds, the last axis, by their standard errors."""
    found: np.ndarray = values.mean(axis=-1) / (values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1]))
    return found


@functools.lru_cache(maxsize=64)
def gap_half_width(seeds: int, rhos: Rhos, sgd_runs: float = 1) -> float:
    """`half_width` for the gaps of one cell."""
    return half_width(gaps(seeds, 1, rhos, sgd_runs=sgd_runs)[..., 0])

"""Simulated studies without any effect, from which p values and intervals are computed.

If one seed is left out to choose its rho, two seeds share most of the runs that choose. So their gaps agree by chance
and are not independent. The simulated studies have the same dependence: every run is noise with a standard deviation of
1, to be multiplied by that of its cell.
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

# The number of rhos to choose from, or the rhos if a parabola goes through their accuracies.
Rhos = int | tuple[float, ...]


@dataclass(frozen=True)
class Tail:
    """One-sided p values of a rise and of a fall, and the Monte Carlo standard error of the smaller one."""

    up: float
    down: float
    error: float

    @property
    def borderline(self) -> bool:
        """Whether more studies could move the smaller p to the other side of the level."""
        return bool(abs(min(self.up, self.down) - LEVEL) <= 2 * self.error)


@functools.lru_cache(maxsize=24)
def gaps(seeds: int, cells: int, rhos: Rhos, part: int = 0, sgd_runs: float = 1, *, own: bool = False) -> np.ndarray:
    """Gaps (studies, seeds, cells) with a standard deviation of about 1. The other seeds choose the rho of each seed.

    Args:
        seeds, cells: how many.
        rhos: see `Rhos`.
        part: another number gives other studies.
        sgd_runs: SGD runs of a seed; SGD's noise is that of their mean.
        own: all seeds choose one rho instead; only if `rhos` is a number.
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
    """The shares of studies with a statistic at least, and at most, as large; near the level of more studies.

    Args:
        statistic: of the real study.
        studies: from the number of a part to the statistics of its studies.
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
    """The half-width, in standard errors, of an interval that contains the truth in this share of studies.

    For independent seeds it would be a quantile of Student's t.

    Args:
        values: (studies, seeds), with mean 0 in truth.
        share: of the studies.
    """
    return float(np.quantile(np.abs(standardized(values)), share))


def standardized(values: np.ndarray) -> np.ndarray:
    """Means over seeds, the last axis, divided by their standard errors; 0 if all seeds are equal."""
    error = values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
    return values.mean(axis=-1) / np.where(error > 0, error, np.inf)


@functools.lru_cache(maxsize=64)
def gap_half_width(seeds: int, rhos: Rhos, sgd_runs: float = 1) -> float:
    """`half_width` for the gaps of one cell."""
    return half_width(gaps(seeds, 1, rhos, sgd_runs=sgd_runs)[..., 0])

"""Simulated studies without any effect, from which p values and intervals are computed.

If the rho of a seed is chosen on the other seeds, two seeds share most of the runs that choose. So their gaps are
correlated even without effect. The simulated studies have the same correlation: every run is noise with a standard
deviation of 1, and the caller multiplies it by the standard deviation of the cell.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samgap.figures.gap import parabola
from samgap.figures.significance import LEVEL

STUDIES = 20_000  # in one part
PARTS = 20  # most parts, for a p value near the level
BLOCKS = 20  # in which a part is drawn, to bound memory

# The number of rhos to choose from, or the rhos if a parabola goes through their accuracies.
Rhos = int | tuple[float, ...]


@dataclass(frozen=True)
class PValues:
    """One-sided p values of a rise and of a fall, and the Monte Carlo standard error of the smaller one."""

    up: float
    down: float
    error: float

    @property
    def borderline(self) -> bool:
        """Whether more studies could move the smaller p to the other side of the level."""
        return bool(abs(min(self.up, self.down) - LEVEL) <= 2 * self.error)


@functools.lru_cache(maxsize=24)
def gaps(seeds: int, cells: int, rhos: Rhos, part: int = 0, sgd_runs: float = 1, *, joint: bool = False) -> np.ndarray:
    """Return gaps (studies, seeds, cells) with a standard deviation of about 1, each at the rho best on other seeds.

    Args:
        seeds, cells: their numbers.
        rhos: see `Rhos`.
        part: seed of the simulation; each part has other studies.
        sgd_runs: SGD runs of a seed; SGD's noise is that of their mean.
        joint: choose one rho on all seeds together instead; only if `rhos` is a number.
    """
    count = rhos if isinstance(rhos, int) else len(rhos)
    random = np.random.default_rng(part)
    blocks = []
    for _ in range(BLOCKS):
        sam = random.standard_normal((STUDIES // BLOCKS, seeds, cells, count), dtype=np.float32)
        sgd = random.standard_normal((STUDIES // BLOCKS, seeds, cells), dtype=np.float32)
        if isinstance(rhos, int):
            chosen = (sam.sum(axis=1, keepdims=True) - (0 if joint else sam)).argmax(axis=-1)
            best = np.take_along_axis(sam, chosen[..., None], axis=-1)[..., 0]
        else:
            best = np.swapaxes(parabola.left_out(rhos, np.swapaxes(sam, 1, 2))[1], 1, 2)
        blocks.append(best - sgd * np.float32(sgd_runs**-0.5))
    result: np.ndarray = np.concatenate(blocks)
    result /= np.float32(math.sqrt(1 + 1 / sgd_runs)) if isinstance(rhos, int) else result.std()
    return result


def p_values(statistic: float, studies: Callable[[int], np.ndarray]) -> PValues:
    """Return the shares of simulated studies with a statistic at least, and at most, that of the real study.

    Parts are added, up to `PARTS`, until the smaller share is clearly on one side of the level.

    Args:
        statistic: of the real study.
        studies: maps the number of a part to the statistics (studies,) of its studies.
    """
    rises = falls = drawn = 0
    for part in range(PARTS):
        values = studies(part)
        rises, falls, drawn = (
            rises + (values >= statistic).sum(),
            falls + (values <= statistic).sum(),
            drawn + len(values),
        )
        up, down = (float((1 + count) / (1 + drawn)) for count in (rises, falls))
        error = math.sqrt(min(up, down) * (1 - min(up, down)) / drawn)
        if abs(min(up, down) - LEVEL) > 4 * error:
            break
    return PValues(up, down, error)


def half_width(values: np.ndarray, share: float = 0.95) -> float:
    """Return the half-width, in standard errors, of an interval that contains the true mean in a share of studies.

    For independent seeds it is a quantile of Student's t.

    Args:
        values: (studies, seeds), with a true mean of 0.
        share: of the studies.
    """
    return float(np.quantile(np.abs(standardized(values)), share))


def standardized(values: np.ndarray) -> np.ndarray:
    """Return the means (...) of values (..., seeds), divided by their standard errors."""
    return np.asarray(values.mean(axis=-1) / (values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])))


@functools.lru_cache(maxsize=64)
def gap_half_width(seeds: int, rhos: Rhos, sgd_runs: float = 1) -> float:
    """Return `half_width` for the gaps of one cell."""
    return half_width(gaps(seeds, 1, rhos, sgd_runs=sgd_runs)[..., 0])

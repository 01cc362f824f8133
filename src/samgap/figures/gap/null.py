"""Studies without any effect, simulated: what leaving one seed out does to p values and intervals.

Leaving one seed out, two seeds share most of the runs that choose rho for them, so their gaps agree by chance and are
not independent. What follows from that is read off simulated studies in which every run is the same noise.
"""

import functools

import numpy as np

STUDIES = 20_000
PARTS = 20  # drawn one after the other, to bound memory


@functools.lru_cache(maxsize=64)
def gaps(seeds: int, cells: int, rhos: int) -> np.ndarray:
    """Gaps (studies, seeds, cells) in units of a run's noise; each seed's rho is the best of the other seeds' mean."""
    random = np.random.default_rng(0)
    parts = []
    for _ in range(PARTS):
        sam = random.standard_normal((STUDIES // PARTS, seeds, cells, rhos))
        sgd = random.standard_normal((STUDIES // PARTS, seeds, cells))
        chosen = (sam.sum(axis=1, keepdims=True) - sam).argmax(axis=-1)
        parts.append(np.take_along_axis(sam, chosen[..., None], axis=-1)[..., 0] - sgd)
    return np.concatenate(parts)


@functools.lru_cache(maxsize=64)
def page(seeds: int, cells: int, rhos: int) -> np.ndarray:
    """Page's L of these studies, sorted. It is made of ranks, so the size of the noise does not matter."""
    ranks = gaps(seeds, cells, rhos).argsort(axis=-1).argsort(axis=-1) + 1
    return np.sort((ranks.sum(axis=1) * np.arange(1, cells + 1)).sum(axis=-1))


def reach(values: np.ndarray) -> float:
    """How many standard errors a 95 % interval reaches, where Student's t would be for independent seeds.

    Args:
        values: (studies, seeds), with mean 0 in truth.
    """
    error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return float(np.quantile(np.abs(values.mean(axis=1)) / error, 0.95))


def tails(values: np.ndarray, statistic: float) -> tuple[float, float]:
    """The shares of studies whose mean over its standard error is at least, and at most, `statistic`.

    Args:
        values: (studies, seeds), with mean 0 in truth.
        statistic: of the study that was made.
    """
    found = np.sort(values.mean(axis=1) / (values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])))
    above, below = len(found) - np.searchsorted(found, statistic), np.searchsorted(found, statistic, side="right")
    return float((1 + above) / (1 + len(found))), float((1 + below) / (1 + len(found)))


@functools.lru_cache(maxsize=64)
def reach_of_gaps(seeds: int, rhos: int) -> float:
    """`reach` for the gaps of one cell."""
    return reach(gaps(seeds, 1, rhos)[..., 0])

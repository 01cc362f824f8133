"""A parabola in log rho through SAM's accuracies: the best rho between those swept, and the accuracy there.

All rhos determine the curve, so the choice and the accuracy have less noise than those of the runs at one rho. The
reported accuracy is the parabola's, which is biased if the true curve is not a parabola.
"""

from collections.abc import Sequence

import numpy as np

LEAST = 4  # rhos; a parabola goes through any three and smooths nothing


def fit(rhos: Sequence[float], accuracies: np.ndarray) -> np.ndarray:
    """Return coefficients (..., 3) of the least-squares parabola in log(rho) through accuracies (..., rhos)."""
    inverse = np.linalg.pinv(_powers(np.log(rhos))).astype(accuracies.dtype)
    return np.asarray(accuracies @ inverse.T)


def top(rhos: Sequence[float], coefficients: np.ndarray) -> np.ndarray:
    """Return log(rho) (...) where parabolas (..., 3) are largest, between the smallest and the largest rho."""
    low, high = np.log(min(rhos)), np.log(max(rhos))
    _, slope, curvature = np.moveaxis(coefficients, -1, 0)
    vertex = np.clip(-slope / np.where(curvature < 0, 2 * curvature, -np.inf), low, high)
    candidates = np.stack(np.broadcast_arrays(low, high, vertex), axis=-1)
    best = at(coefficients[..., None, :], candidates).argmax(axis=-1)
    return np.take_along_axis(candidates, best[..., None], axis=-1)[..., 0]


def at(coefficients: np.ndarray, log_rho: np.ndarray) -> np.ndarray:
    """Return the values (...) of parabolas (..., 3) at log(rho) (...)."""
    return np.asarray((coefficients * _powers(log_rho)).sum(axis=-1))


def left_out(rhos: Sequence[float], accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each seed the log(rho) that is best on the mean of the other seeds, and the seed's accuracy there.

    Args:
        rhos: rhos of SAM.
        accuracies: (..., seeds, rhos).

    Returns:
        Two arrays (..., seeds).
    """
    parabolas = fit(rhos, accuracies)
    log_rho = top(rhos, parabolas.sum(axis=-2, keepdims=True) - parabolas)
    return log_rho, at(parabolas, log_rho)


def _powers(log_rho: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(log_rho), log_rho, log_rho**2], axis=-1)

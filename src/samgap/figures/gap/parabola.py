"""A parabola in log rho through SAM's accuracies: the best rho between those swept, and the accuracy there.

All radii determine the curve, so the choice and the accuracy have less noise than those of the runs at one rho. The
reported accuracy is the parabola's: if the true curve is no parabola, it is that of the nearest one.
"""

from collections.abc import Sequence

import numpy as np

LEAST = 4  # rhos; a parabola goes through any three and smooths nothing


def fit(rhos: Sequence[float], accuracies: np.ndarray) -> np.ndarray:
    """Coefficients (..., 3) of the least-squares parabola in log(rho) through accuracies (..., rhos)."""
    solve = np.linalg.pinv(_powers(np.log(rhos))).astype(accuracies.dtype)
    return np.asarray(accuracies @ solve.T)


def top(rhos: Sequence[float], coefficients: np.ndarray) -> np.ndarray:
    """Log(rho) (...) at which parabolas (..., 3) are largest, between the smallest and the largest rho."""
    low, high = np.log(min(rhos)), np.log(max(rhos))
    _, slope, bend = np.moveaxis(coefficients, -1, 0)
    turn = np.clip(-slope / np.where(bend < 0, 2 * bend, -np.inf), low, high)
    places = np.stack(np.broadcast_arrays(low, high, turn), axis=-1)
    best = at(coefficients[..., None, :], places).argmax(axis=-1)
    return np.take_along_axis(places, best[..., None], axis=-1)[..., 0]


def at(coefficients: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Values (...) of parabolas (..., 3) at log(rho)."""
    return np.asarray((coefficients * _powers(place)).sum(axis=-1))


def left_out(rhos: Sequence[float], accuracies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each seed the log(rho) that is best on the mean of the other seeds, and its own accuracy there.

    Args:
        rhos: of SAM.
        accuracies: (..., seeds, rhos).

    Returns:
        Two arrays (..., seeds).
    """
    own = fit(rhos, accuracies)
    place = top(rhos, own.sum(axis=-2, keepdims=True) - own)
    return place, at(own, place)


def _powers(place: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(place), place, place**2], axis=-1)

"""The slack of lemmas 4 and 5 of arXiv 2311.17539 (poster) at a point, relative to the size of the terms.

Both lemmas are about one step of un-normalized stochastic SAM from x with draw i. Its ascent ends at
x + rho grad f_i(x).
"""

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.smooth import Smooth


def lemma_4(drawn: Smooth, mean: Array, x: Array, rho: float, beta: float) -> float:
    """Return the slack of <grad f_i(x + rho g), G> >= <g, G> - beta rho (|g|^2 + |G|^2) / 2, g = grad f_i, G = grad f.
    Args:
        drawn: f_i.
        mean: grad f(x), (d,).
        x: the point, (d,).
        rho: radius of the ascent.
        beta: the assumed smoothness of f_i.

    Returns:
        (left - right) / (|grad f_i| |grad f| + the subtracted terms); negative if the lemma is violated.
    """
    gradient = drawn.gradient(x)
    penalty = beta * rho * (gradient @ gradient + mean @ mean) / 2
    slack = drawn.gradient(x + rho * gradient) @ mean - gradient @ mean + penalty
    return float(slack / (np.linalg.norm(gradient) * np.linalg.norm(mean) + penalty + 1e-300))


def lemma_5(drawn: Smooth, x: Array, rho: float, beta: float) -> float:
    """Return the slack of |grad f_i(x + rho grad f_i)|^2 <= (1 + beta rho)^2 |grad f_i|^2, over the right side."""
    gradient = drawn.gradient(x)
    after = drawn.gradient(x + rho * gradient)
    return float(1 - after @ after / ((1 + beta * rho) ** 2 * (gradient @ gradient) + 1e-300))

"""The slack of lemmas 4 and 5 of arXiv 2311.17539 (poster) at a point, relative to the size of the terms.

Both lemmas are about one step of un-normalized stochastic SAM from x with draw i. Its ascent ends at
x + rho grad f_i(x).
"""

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.smooth import Smooth


def lemma_4(drawn: Smooth, mean: Array, x: Array, rho: float, beta: float) -> float:
    """Slack of <grad f_i(x + rho grad f_i), grad f> >= <grad f_i, grad f> - beta rho (|grad f_i|^2 + |grad f|^2) / 2.

    Args:
        drawn: f_i.
        mean: grad f(x).
        x: the point.
        rho: radius of the ascent.
        beta: the assumed smoothness of f_i.

    Returns:
        (left - right) / (|grad f_i| |grad f| + the subtracted terms); negative if the lemma is violated.
    """
    own = drawn.gradient(x)
    lost = beta * rho * (own @ own + mean @ mean) / 2
    slack = drawn.gradient(x + rho * own) @ mean - own @ mean + lost
    return float(slack / (np.linalg.norm(own) * np.linalg.norm(mean) + lost + 1e-300))


def lemma_5(drawn: Smooth, x: Array, rho: float, beta: float) -> float:
    """Slack of |grad f_i(x + rho grad f_i)|^2 <= (1 + beta rho)^2 |grad f_i|^2, as a share of the right side."""
    own = drawn.gradient(x)
    after = drawn.gradient(x + rho * own)
    return float(1 - after @ after / ((1 + beta * rho) ** 2 * (own @ own) + 1e-300))

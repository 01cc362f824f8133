"""Theorem 6 of arXiv 2311.17539 (poster): the rate of un-normalized stochastic SAM under interpolation.

With D = alpha - (beta + alpha / 2) beta rho its proof gives, for any step eta > 0,
E f(x_{t+1}) <= f(x_t) [1 - eta D + lambda beta eta^2 (1 + beta rho)^2]; docs/theory.md derives it. The step of the
theorem minimizes the bracket.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """What the theorem assumes of a problem."""

    beta: float  # smoothness of every f_i
    lam: float  # smoothness of f
    alpha: float  # |grad f|^2 >= alpha f


def largest_rho(constants: Constants) -> float:
    """The limit of rho, where the descent D vanishes."""
    return constants.alpha / ((constants.beta + constants.alpha / 2) * constants.beta)


def descent(constants: Constants, rho: float) -> float:
    """D: negative beyond the limit."""
    return constants.alpha - (constants.beta + constants.alpha / 2) * constants.beta * rho


def best_step(constants: Constants, rho: float) -> float:
    """eta*, the step of the theorem; 0 at the limit."""
    stretch = (1 + constants.beta * rho) ** 2
    return descent(constants, rho) / (2 * constants.lam * constants.beta * stretch)


def factor(constants: Constants, rho: float) -> float:
    """What E f(x_t) is at most multiplied by in a step of length eta*."""
    return 1 - descent(constants, rho) * best_step(constants, rho) / 2


def factor_at(constants: Constants, rho: float, eta: float) -> float:
    """What E f(x_t) is at most multiplied by in a step of length eta."""
    stretch = (1 + constants.beta * rho) ** 2
    return 1 - eta * descent(constants, rho) + constants.lam * constants.beta * eta**2 * stretch

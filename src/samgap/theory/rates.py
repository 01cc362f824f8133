"""Theorem 6 of arXiv 2311.17539 (poster): the rate of un-normalized stochastic SAM under interpolation.

Let D = alpha - (beta + alpha / 2) beta rho. The proof shows for any step size eta > 0 that
E f(x_{t+1}) <= f(x_t) [1 - eta D + lambda beta eta^2 (1 + beta rho)^2]; docs/theory.md derives it. The theorem's step
size eta* minimizes this factor.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """The constants in the theorem's assumptions."""

    beta: float  # smoothness of every f_i
    lam: float  # smoothness of f
    alpha: float  # |grad f|^2 >= alpha f


def largest_rho(constants: Constants) -> float:
    """Return the limit of rho, at which D is 0."""
    return constants.alpha / ((constants.beta + constants.alpha / 2) * constants.beta)


def descent(constants: Constants, rho: float) -> float:
    """Return D, which is negative beyond the limit of rho."""
    return constants.alpha - (constants.beta + constants.alpha / 2) * constants.beta * rho


def best_step(constants: Constants, rho: float) -> float:
    """Return eta*, which is 0 at the limit of rho."""
    stretch = (1 + constants.beta * rho) ** 2
    return descent(constants, rho) / (2 * constants.lam * constants.beta * stretch)


def factor(constants: Constants, rho: float) -> float:
    """Return the bound on E f(x_{t+1}) / f(x_t) for the step size eta*."""
    return 1 - descent(constants, rho) * best_step(constants, rho) / 2


def factor_at(constants: Constants, rho: float, eta: float) -> float:
    """Return the bound on E f(x_{t+1}) / f(x_t) for the step size eta."""
    stretch = (1 + constants.beta * rho) ** 2
    return 1 - eta * descent(constants, rho) + constants.lam * constants.beta * eta**2 * stretch

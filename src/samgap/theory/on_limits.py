"""Rows on theorem 6 outside its assumptions: f as the sum of the f_i, negative f_i, and rho beyond the limit."""

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from samgap.theory import expectation, rates
from samgap.theory.arrays import Array
from samgap.theory.problems import Problem, least_squares
from samgap.theory.rates import Constants
from samgap.theory.row import ROUNDING, Row, Setup, refuted, smallest, void


def as_a_sum(setup: Setup) -> Row:
    """Theorem 6 with the poster's f, the sum of the f_i: ten copies of x^2/2, f = 5 x^2."""
    constants = Constants(beta=1.0, lam=10.0, alpha=20.0)  # f'' = 10; f'^2 = 100 x^2 = 20 f
    statement = "the same with f = sum of the f_i, as the poster defines it"
    return _step_of_sgd("theorem 6, f the sum", statement, "10 copies of x^2/2", np.ones(10), constants)


def without_sign(setup: Setup) -> Row:
    """Theorem 6 without f_i >= 0: -x^2/2 and 3x^2/2."""
    hessians = np.array([-1.0, 3.0])
    constants = Constants(beta=3.0, lam=1.0, alpha=2.0)
    statement = "the same with f the mean, without f_i >= 0"
    return _step_of_sgd("theorem 6, some f_i < 0", statement, "-x^2/2 and 3x^2/2", hessians, constants)


def _step_of_sgd(name: str, statement: str, functions: str, hessians: Array, constants: Constants) -> Row:
    """Make the row of one exact step of SGD, from x = 1 with rho = 0, on the functions h x^2 / 2."""
    eta, claimed = rates.best_step(constants, 0), rates.factor(constants, 0)
    true = float(((1 - eta * hessians) ** 2).mean())
    margin = claimed - true
    evidence = f"{functions}: eta* = {eta:.4g}, factor {claimed:.4g}, but E f(x_1) / f(x_0) = {true:.4g}"
    instance = {"hessians": hessians.tolist(), "x_0": 1.0, "rho": 0, "eta": eta, "factor": claimed, "true": true}
    return Row(name, statement, "poster", refuted(margin, True), margin, None, evidence, instance)


def beyond(setup: Setup) -> Row:
    """Theorem 6 with rho beyond its limit: the factor in the proof, and the behavior of least squares."""
    named = least_squares(setup.rng(61), 0)
    settings = [(problem, share * rates.largest_rho(problem.constants)) for problem in named for share in (1.01, 2, 5)]
    # The factor is 1 - eta D + (a positive term), so it exceeds 1 for every step size eta if D < 0.
    margin = smallest(-rates.descent(problem.constants, rho) / problem.constants.alpha for problem, rho in settings)
    ends = {problem.name: divergence(problem) for problem in named}
    best = {problem.name: best_growth(problem, 10 * rates.largest_rho(problem.constants)) for problem in named}
    evidence = (
        f"no step has a factor below 1. With the step of half the limit least squares converges up to "
        f"{min(ends.values()):.1f} to {max(ends.values()):.0e} limits and then diverges, with the best step "
        f"also at 10, slowest by {1 - max(best.values()):.0e} a step. Not so in general: {uphill()[1]}"
    )
    supported = max(best.values()) < 1 and min(ends.values()) > 1 and uphill()[0] < 0
    instance = {"diverges_from_times_the_limit": ends, "best_growth_at_10_times": best}
    statement = "beyond the limit of rho"
    verdict = void(margin > ROUNDING, supported)
    return Row("theorem 6, larger rho", statement, "poster", verdict, margin, None, evidence, instance)


def divergence(problem: Problem) -> float:
    """Return the rho, as a multiple of its limit, above which least squares diverges with eta* of half the limit."""
    limit = rates.largest_rho(problem.constants)
    eta = rates.best_step(problem.constants, limit / 2)

    def above(log: float) -> float:
        return expectation.growth(problem, float(np.exp(log)) * limit, eta) - 1

    upper = 1.0
    while above(upper) < 0:  # ends, since A_i is unbounded in rho
        upper += 1
    return float(np.exp(brentq(above, -1, upper)))


def best_growth(problem: Problem, rho: float) -> float:
    """Return the smallest asymptotic factor per step of least squares over constant step sizes."""
    first = np.log(rates.best_step(problem.constants, 0))
    best = minimize_scalar(
        lambda log: expectation.growth(problem, rho, float(np.exp(log))),
        bounds=(first - 8, first + 3),
        method="bounded",
    )
    return float(best.fun)


def uphill() -> tuple[float, str]:
    """Return E <grad f_i(x_half), f'(x)> / f'(x)^2 and a sentence, for f_i 1 - cos x and x^2/8 at x = 2, rho = 3.

    f satisfies the PL inequality, since f' = (sin x + x/4) / 2 is 0 only at 0. If the number is negative, every small
    step increases E f.
    """
    x, rho, grid = 2.0, 3.0, np.linspace(0.01, 60, 600_000)  # beyond the grid, |f'|^2 / f tends to 1/4
    slope, value = (np.sin(grid) + grid / 4) / 2, (1 - np.cos(grid) + grid**2 / 8) / 2
    alpha = float((slope**2 / value).min())
    limit = rates.largest_rho(Constants(1.0, 0.625, alpha))
    first, second = np.sin(x), x / 4
    mean = (first + second) / 2
    drift = (np.sin(x + rho * first) + (x + rho * second) / 4) / 2
    share = float(drift * mean / mean**2)
    return share, f"with 1 - cos x and x^2/8, x = 2, rho {rho / limit:.0f} limits, every small step raises E f"

"""Rows on theorem 6 within its assumptions, for problems with known constants and exact expectations."""

from dataclasses import replace

import numpy as np

from samgap.theory import expectation, rates
from samgap.theory.arrays import Array
from samgap.theory.problems import Problem, copies, curved, least_squares
from samgap.theory.rates import Constants
from samgap.theory.row import ROUNDING, Row, Setup, smallest

SHARES = (0, 0.25, 0.5, 0.9, 0.99, 1)  # rho as a share of its limit
STEPS = 40
TREE = 6  # steps; with three functions there are 729 sequences of draws
LONG, RUNS = 200, 400  # steps and number of simulated runs
RATE = "E f(x_t) <= (1 - D eta*/2)^t f(x_0), f the mean, f_i >= 0, rho up to its limit"


def quadratics(setup: Setup) -> Row:
    """Theorem 6 on least squares, from the worst starting point for each t."""
    problems = least_squares(setup.rng(61), setup.draws // 100)
    inside = [_worst(problem, problem.constants, share) for problem in problems for share in SHARES]
    control = smallest(_worst(p, _overstated(p, 1.1), share) for p in problems for share in SHARES[:-1])
    evidence = (
        f"{len(problems)} least-squares problems x {len(SHARES)} rho, t to {STEPS}, every start, exact; "
        "room of the rate a step (0 at the limit, where eta* = 0); control: alpha 1.1 times"
    )
    return Row.tested("theorem 6", RATE, "poster", min(inside), control, evidence)


def general_step(setup: Setup) -> Row:
    """The factor in the proof, for step sizes other than the theorem's."""
    right, wrong = [], []
    for problem in least_squares(setup.rng(61), setup.draws // 100):
        halved = replace(problem.constants, lam=problem.constants.lam / 2)
        for share in (0, 0.5, 0.9, 1, 1.5):
            rho, unit = share * rates.largest_rho(problem.constants), rates.best_step(problem.constants, 0)
            for eta in unit * np.array([0.1, 0.3, 1, 2, 4]):
                exact = expectation.worst_ratios(problem, rho, eta, 1)[0]
                right.append((rates.factor_at(problem.constants, rho, eta) - exact) / max(exact, 1))
                wrong.append((rates.factor_at(halved, rho, eta) - exact) / max(exact, 1))
    statement = "E f(x_{t+1}) <= f(x_t) [1 - eta D + lambda beta eta^2 (1 + beta rho)^2] for any step eta"
    evidence = f"{len(right)} settings of least squares, every start, exact; room of the factor; control: lambda halved"
    return Row.tested("theorem 6, any step", statement, "its proof", smallest(right), smallest(wrong), evidence)


def curves(setup: Setup) -> Row:
    """Theorem 6 on non-quadratic f: one and six steps by exact expectation, 200 by simulation."""
    problems, rng = curved(setup.rng(63)), setup.rng(64)
    points = rng.normal(size=(setup.draws, 1)) * 3
    slacks, wrong, errors = list[float](), list[float](), list[float]()
    for problem in problems:
        starts = points * rng.normal(size=(setup.draws, problem.rows.shape[1]))
        for share in SHARES:
            slacks += [_one_step(problem, problem.constants, share, starts), _tree(problem, share, starts[0])]
        errors.append(_simulated(problem, starts[1], rng))
        wrong.append(_one_step(problem, _overstated(problem, 4), 0, starts))
    control = smallest(wrong)
    margin = smallest(slacks) if max(errors) <= 4 else -float(max(errors))
    evidence = (
        f"{len(problems)} problems, nonconvex and convex: one step from {setup.draws} points and all draws of {TREE} "
        f"steps, exact; {LONG} steps simulated, at worst {max(errors):+.1f} standard errors above the bound (4 fails); "
        "control: alpha 4 times"
    )
    return Row.tested("theorem 6, not quadratic", RATE, "poster", margin, control, evidence)


def attained(setup: Setup) -> Row:
    """By which factor the theorem underestimates progress, and that a problem attains its rate."""
    problems = [copies(10), *least_squares(setup.rng(61), setup.draws // 100)]
    loose = [looseness(problem, share) for problem in problems for share in (0, 0.5)]
    best = smallest(loose)
    evidence = (
        f"progress a step, 1 - factor, true over predicted, worst start: {best:.3f} (copies of x^2/2, rho = 0), "
        f"median {np.median(loose):.2f}, up to {max(loose):.0f}; margin: of the least to 1; control: of the median"
    )
    statement = "the rate of theorem 6 cannot be improved for all problems: some problem needs it"
    return Row.tested("theorem 6, tight", statement, "ours", 1 - best, 1 - float(np.median(loose)), evidence)


def looseness(problem: Problem, share: float) -> float:
    """For least squares, return (1 - exact one-step factor from the worst start) / (1 - predicted factor)."""
    rho = share * rates.largest_rho(problem.constants)
    exact = expectation.worst_ratios(problem, rho, rates.best_step(problem.constants, rho), 1)[0]
    return float((1 - exact) / (1 - rates.factor(problem.constants, rho)))


def _overstated(problem: Problem, times: float) -> Constants:
    return replace(problem.constants, alpha=times * problem.constants.alpha)


def _worst(problem: Problem, constants: Constants, share: float) -> float:
    """Return the smallest slack of the rate per step, over all starts and over t until rounding errors dominate."""
    rho = share * rates.largest_rho(constants)
    ratios = expectation.worst_ratios(problem, rho, rates.best_step(constants, rho), STEPS)
    ratios = ratios[: max(1, int((ratios > ROUNDING**2).sum()))]
    true_rates = ratios ** (1 / np.arange(1, len(ratios) + 1))
    return float(rates.factor(constants, rho) - true_rates.max())


def _one_step(problem: Problem, constants: Constants, share: float, points: Array) -> float:
    rho = share * rates.largest_rho(constants)
    after = problem.values(expectation.step(problem, points, rho, rates.best_step(constants, rho))).mean(-1)
    return smallest(rates.factor(constants, rho) - after / problem.values(points))


def _tree(problem: Problem, share: float, start: Array) -> float:
    rho = share * rates.largest_rho(problem.constants)
    means = expectation.tree(problem, start, rho, rates.best_step(problem.constants, rho), TREE)
    true_rates = (means[1:] / means[0]) ** (1 / np.arange(1, TREE + 1))
    return smallest(rates.factor(problem.constants, rho) - true_rates)


def _simulated(problem: Problem, start: Array, rng: np.random.Generator) -> float:
    """Return by how many standard errors the mean of simulated runs exceeds the bound, at half of rho's limit."""
    rho = rates.largest_rho(problem.constants) / 2
    eta = rates.best_step(problem.constants, rho)
    mean, error = expectation.sampled(problem, start, rho, eta, LONG, RUNS, rng)
    bound = rates.factor(problem.constants, rho) ** LONG * problem.values(start)
    return float((mean - bound) / (error + ROUNDING * bound))

"""Expectations over the draws of un-normalized stochastic SAM, exact where that can be done.

x_half = x + rho grad f_i(x), x_next = x - eta grad f_i(x_half), i uniform. For least squares with x* a solution
x_next - x* = A_i (x - x*), A_i = I - eta H_i - eta rho H_i^2, and f = (x - x*)'H(x - x*) / 2, so E f(x_t) is the
quadratic form of W_t with W_0 = H, W_{t+1} = mean A_i W_t A_i: exact, and for every start at once.
"""

import numpy as np

from samgap.theory.arrays import Array, positive_part, top
from samgap.theory.problems import Problem
from samgap.theory.stability import Minimum, jacobians, radius


def step(problem: Problem, points: Array, rho: float, eta: float) -> Array:
    """All n outcomes of one step from points (..., d), as (..., n, d)."""
    halves = points[..., None, :] + rho * problem.gradients(points)
    return np.asarray(points[..., None, :] - eta * _own(problem, halves))


def worst_ratios(problem: Problem, rho: float, eta: float, steps: int) -> Array:
    """Max over starts of E f(x_t) / f(x_0), t = 1 .. steps, of least squares."""
    matrices = whitened(problem, rho, eta)
    form, ratios = np.eye(matrices.shape[1]), []
    for _ in range(steps):
        form = (matrices.transpose(0, 2, 1) @ form @ matrices).mean(0)
        ratios.append(top(form))
    return np.array(ratios)


def growth(problem: Problem, rho: float, eta: float) -> float:
    """The factor by which E f(x_t) of least squares changes a step in the long run: a spectral radius."""
    hessians = problem.rows[:, :, None] * problem.rows[:, None, :]
    return radius(Minimum(hessians, eta, rho))


def whitened(problem: Problem, rho: float, eta: float) -> Array:
    """A_i of least squares in the coordinates H^(1/2) (x - x*) of the row space, in which f = |.|^2 / 2."""
    hessians = problem.rows[:, :, None] * problem.rows[:, None, :]
    values, basis = positive_part(hessians.mean(0))
    root = np.sqrt(values)
    return np.asarray(root[:, None] * (basis.T @ jacobians(Minimum(hessians, eta, rho)) @ basis) / root)


def tree(problem: Problem, start: Array, rho: float, eta: float, steps: int) -> Array:
    """E f(x_t), t = 0 .. steps, by going through all n^t sequences of draws."""
    points, means = start[None, :], [problem.values(start)]
    for _ in range(steps):
        points = step(problem, points, rho, eta).reshape(-1, len(start))
        means.append(problem.values(points).mean())
    return np.array(means)


def sampled(
    problem: Problem, start: Array, rho: float, eta: float, steps: int, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """(mean, its standard error) of f(x_steps) over `count` simulated trajectories."""
    points = np.tile(start, (count, 1))
    for _ in range(steps):
        draws = rng.integers(len(problem.rows), size=count)
        points = step(problem, points, rho, eta)[np.arange(count), draws]
    values = problem.values(points)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(count))


def _own(problem: Problem, halves: Array) -> Array:
    # halves[..., i, :] belongs to the draw i, so only grad f_i is wanted of it.
    residuals = (halves * problem.rows).sum(-1) - problem.offsets
    return np.asarray(problem.link.slope(residuals)[..., None] * problem.rows)

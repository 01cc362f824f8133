"""Expectations over the random draws of un-normalized stochastic SAM, exact if possible.

A step draws i uniformly: x_half = x + rho grad f_i(x), x_next = x - eta grad f_i(x_half). For least squares with a
solution x*, x_next - x* = A_i (x - x*) with A_i = I - eta H_i - eta rho H_i^2, and f = (x - x*)'H(x - x*) / 2. So
E f(x_t) is half the quadratic form of W_t at x_0 - x*, where W_0 = H and W_{t+1} = mean A_i W_t A_i. This is exact and
holds for all starting points.
"""

import numpy as np

from samgap.theory.arrays import Array, largest_eigenvalue, positive_part
from samgap.theory.problems import Problem
from samgap.theory.stability import Minimum, jacobians, spectral_radius


def step(problem: Problem, points: Array, rho: float, eta: float) -> Array:
    """Return all n outcomes of one step from points (..., d), as (..., n, d)."""
    halves = points[..., None, :] + rho * problem.gradients(points)
    return np.asarray(points[..., None, :] - eta * _drawn_gradients(problem, halves))


def worst_ratios(problem: Problem, rho: float, eta: float, steps: int) -> Array:
    """For least squares, return the maximum over starting points of E f(x_t) / f(x_0), t = 1 .. steps, (steps,)."""
    matrices = whitened(problem, rho, eta)
    form, ratios = np.eye(matrices.shape[1]), []
    for _ in range(steps):
        form = (matrices.transpose(0, 2, 1) @ form @ matrices).mean(0)
        ratios.append(largest_eigenvalue(form))
    return np.array(ratios)


def growth(problem: Problem, rho: float, eta: float) -> float:
    """For least squares, return the asymptotic factor of E f(x_t) per step, which is a spectral radius."""
    hessians = problem.rows[:, :, None] * problem.rows[:, None, :]
    return spectral_radius(Minimum(hessians, eta, rho))


def whitened(problem: Problem, rho: float, eta: float) -> Array:
    """For least squares, return A_i (n, r, r) in the coordinates y = H^(1/2) (x - x*), in which f = |y|^2 / 2."""
    hessians = problem.rows[:, :, None] * problem.rows[:, None, :]
    values, basis = positive_part(hessians.mean(0))
    root = np.sqrt(values)
    return np.asarray(root[:, None] * (basis.T @ jacobians(Minimum(hessians, eta, rho)) @ basis) / root)


def tree(problem: Problem, start: Array, rho: float, eta: float, steps: int) -> Array:
    """Compute E f(x_t), t = 0 .. steps, by enumerating all n^t sequences of draws; start (d,), result (steps + 1,)."""
    points, means = start[None, :], [problem.values(start)]
    for _ in range(steps):
        points = step(problem, points, rho, eta).reshape(-1, len(start))
        means.append(problem.values(points).mean())
    return np.array(means)


def sampled(
    problem: Problem, start: Array, rho: float, eta: float, steps: int, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the mean of f(x_steps) over `count` simulated trajectories, and its standard error."""
    points = np.tile(start, (count, 1))
    for _ in range(steps):
        draws = rng.integers(len(problem.rows), size=count)
        points = step(problem, points, rho, eta)[np.arange(count), draws]
    values = problem.values(points)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(count))


def _drawn_gradients(problem: Problem, halves: Array) -> Array:
    # halves[..., i, :] belongs to draw i, so only grad f_i is computed at it.
    residuals = (halves * problem.rows).sum(-1) - problem.offsets
    return np.asarray(problem.link.slope(residuals)[..., None] * problem.rows)

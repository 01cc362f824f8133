"""Linear stability of an interpolating minimum under un-normalized stochastic SAM (arXiv 2311.17539, poster).

Near the minimum x*, x_{t+1} - x* = A_i (x_t - x*) with A_i = I - eta H_i (I + rho H_i), symmetric H_i >= 0 and
uniform i. The minimum is linearly stable if E|x_t - x*|^2 <= C |x_0 - x*|^2 for all t. The operator
T(S) = mean A_i S A_i maps E (x_t - x*)(x_t - x*)' to the next step. T is symmetric, since the A_i are, so the minimum
is stable if and only if the largest |eigenvalue| of T is at most 1.
"""

from dataclasses import dataclass

import numpy as np

from samgap.theory.arrays import Array, largest_eigenvalue, positive_part

ORDERS = (2, 3, 4)


@dataclass(frozen=True)
class Minimum:
    """The Hessians at a minimum, shape (n, d, d), and eta and rho of SAM."""

    hessians: Array
    eta: float
    rho: float


def on_range(minimum: Minimum) -> Minimum:
    """Return the minimum without the directions in which all Hessians are 0, for which T has the eigenvalue 1."""
    _, basis = positive_part(minimum.hessians.mean(0))
    return Minimum(basis.T @ minimum.hessians @ basis, minimum.eta, minimum.rho)


def jacobians(minimum: Minimum) -> Array:
    """Return the A_i, (n, d, d)."""
    hessians, eta, rho = minimum.hessians, minimum.eta, minimum.rho
    return np.asarray(np.eye(hessians.shape[1]) - eta * hessians - eta * rho * hessians @ hessians)


def operator(minimum: Minimum) -> Array:
    """Return T as a (d^2, d^2) matrix, the mean of A_i kron A_i."""
    steps = jacobians(minimum)
    size = steps.shape[1] ** 2
    return np.asarray(np.einsum("nij,nkl->ikjl", steps, steps).reshape(size, size) / len(steps))


def spectral_radius(minimum: Minimum) -> float:
    """Return the largest |eigenvalue| of T without flat directions. Below 1 is strictly stable, above 1 unstable."""
    return float(np.abs(np.linalg.eigvalsh(operator(on_range(minimum)))).max())


def moment(minimum: Minimum, order: int) -> Array:
    """Return M_k, the mean of H_i^k, (d, d)."""
    return np.asarray(np.linalg.matrix_power(minimum.hessians, order).mean(0))


def curvature(minimum: Minimum) -> float:
    """Return the largest eigenvalue a of H = M_1."""
    return largest_eigenvalue(moment(minimum, 1))


def excess(minimum: Minimum, order: int) -> Array:
    """Return M_k - H^k, (d, d)."""
    return np.asarray(moment(minimum, order) - np.linalg.matrix_power(moment(minimum, 1), order))


def spread(minimum: Minimum, order: int) -> float:
    """Return s_k^k, the largest eigenvalue of M_k - H^k, with its sign."""
    return largest_eigenvalue(excess(minimum, order))


def bound(order: int, eta: float, rho: float) -> float:
    """Return the poster's bound on s_k^k; infinite if there is none."""
    if order == 2:
        return 1 / (eta * (eta - 2 * rho)) if eta > 2 * rho else np.inf
    if rho == 0:
        return np.inf
    return 1 / (2 * eta**2 * rho) if order == 3 else 1 / (eta * rho) ** 2


def ratio(minimum: Minimum, order: int) -> float:
    """Return s_k^k as a multiple of its bound."""
    return spread(minimum, order) / bound(order, minimum.eta, minimum.rho)


def sharpness(minimum: Minimum) -> float:
    """Return a (1 + rho a) as a multiple of 2 / eta."""
    a = curvature(minimum)
    return a * (1 + minimum.rho * a) * minimum.eta / 2


def largest_curvature(eta: float, rho: float) -> float:
    """Return the largest a with a (1 + rho a) <= 2 / eta."""
    return 2 / eta if rho == 0 else float((np.sqrt(1 + 8 * rho / eta) - 1) / (2 * rho))


def expected_square(minimum: Minimum) -> Array:
    """Return E A_i^2, (d, d). If its largest eigenvalue is at most 1, no step increases E|x - x*|^2 from any start."""
    steps = jacobians(minimum)
    return np.asarray((steps @ steps).mean(0))


def with_jacobians(steps: Array, eta: float, rho: float) -> Minimum:
    """Return the minimum with these A_i, by solving eta H_i (I + rho H_i) = I - A_i for the eigenvalues of H_i.

    Args:
        steps: the A_i, (n, d, d), symmetric, with no eigenvalue above 1.
        eta, rho: of SAM.
    """
    values, vectors = np.linalg.eigh((np.eye(steps.shape[1]) - steps) / eta)
    values = np.maximum(values, 0)  # rounding errors
    roots = values if rho == 0 else (np.sqrt(1 + 4 * rho * values) - 1) / (2 * rho)
    return Minimum((vectors * roots[:, None, :]) @ vectors.transpose(0, 2, 1), eta, rho)


def expected(minimum: Minimum, start: Array, steps: int) -> float:
    """Return the exact E|x_steps - x*|^2 for start = x_0 - x*, (d,)."""
    matrices, second = jacobians(minimum), np.outer(start, start)
    for _ in range(steps):
        second = (matrices @ second @ matrices).mean(0)
    return float(np.trace(second))


def simulate(minimum: Minimum, start: Array, steps: int, count: int, rng: np.random.Generator) -> Array:
    """Return `count` end points x_steps - x* of SAM, (count, d), simulated on quadratics with Hessians H_i."""
    points = np.tile(start, (count, 1))
    for _ in range(steps):
        hessians = minimum.hessians[rng.integers(len(minimum.hessians), size=count)]
        halves = points + minimum.rho * np.einsum("nij,nj->ni", hessians, points)
        points = points - minimum.eta * np.einsum("nij,nj->ni", hessians, halves)
    return points

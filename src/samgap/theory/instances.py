"""Minima that prove or refute a statement. Their Hessians were found by a search or by hand; eta is always 1.

`PAIRS_SGD`, `PAIRS_SAM`, `PAIRS_S3` and `PAIRS_S4` come from a search over two d x d matrices B_1, B_2. The four H_i
solve eta H_i (I + rho H_i) = Z_i, where the Z_i are B_1 B_1', B_2 B_2', and both with the signs of the first row and
column flipped. SLSQP (scipy.optimize) maximized s_k^k from ten random starts, subject to a spectral radius of at most
0.9985. The results are rounded to three digits. For `PAIRS_SGD`, `five_quarters` is the optimum in closed form.
"""

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.stability import Minimum, largest_curvature, with_jacobians


def _pairs(*hessians: list[list[float]]) -> Array:
    # Each matrix, and its copy with the signs of the first row and column flipped.
    plain = np.array(hessians)
    signs = np.ones(plain.shape[1])
    signs[0] = -1
    return np.concatenate([plain, signs[:, None] * plain * signs])


PAIRS_SGD = Minimum(_pairs([[1.0, 0.947], [0.947, 1.865]], [[1.0, 0.319], [0.319, 0.135]]), 1, 0)
PAIRS_SAM = Minimum(_pairs([[0.124, 0.352], [0.352, 1.0]], [[1.785, 0.879], [0.879, 0.905]]), 1, 0.02)
PAIRS_S3 = Minimum(
    _pairs(
        [[0.42, 0.568, -0.224], [0.568, 0.872, -0.042], [-0.224, -0.042, 0.782]],
        [[1.193, 0.226, 0.572], [0.226, 0.745, -0.051], [0.572, -0.051, 0.637]],
    ),
    1,
    0.4,
)
PAIRS_S4 = Minimum(_pairs([[0.397, 0.263], [0.263, 0.175]], [[0.412, 0.159], [0.159, 0.675]]), 1, 3)

# By hand: A +- B with A = diag(20, 3), B = (0, 1; 1, 2) are positive semidefinite, but M_3 - H^3 = AB^2 + BAB + B^2 A =
# (43, 52; 52, 62) has a negative determinant, since t^3 is not operator convex.
INDEFINITE = Minimum(np.array([[[20.0, 1.0], [1.0, 5.0]], [[20.0, -1.0], [-1.0, 1.0]]]), 1, 0.1)


def five_quarters(scale: float) -> Minimum:
    """Return a minimum of SGD in two dimensions. At `scale` 1, s_2^2 is 5/4 of its bound and the spectral radius is 1.

    H = (1, +-b; +-b, c) with (b^2, c) = (1 - q, 1 - q) or (q, 1 + q), q = sqrt(3)/2. On diagonal S the operator is
    (0, E b^2; E b^2, E (1 - c)^2) = (0, 1/2; 1/2, 3/4), and s_2^2 = Var c + E b^2. `scale` multiplies every b^2.
    """
    q = np.sqrt(3) / 2
    rows = [(np.sqrt(scale * (1 - q)), 1 - q), (np.sqrt(scale * q), 1 + q)]
    return Minimum(np.array([[[1, s * b], [s * b, c]] for b, c in rows for s in (1, -1)]), 1, 0)


def fan(arms: int, rho: float, scale: float) -> Minimum:
    """Return a minimum in arms + 1 dimensions. At rho = 0, s_2^2 grows like sqrt(arms), and all are stable.

    A draw selects an arm j and a sign. A is (-1/3, +-b; +-b, c) on the first axis and arm j, and 0 on the other arms,
    where c = 1 - 3 b^2 / 4, so that I - A is positive semidefinite. On the span of e_1 e_1' and the normalized sum of
    e_j e_j' over the arms, T is (1/9, b^2/sqrt(arms); b^2/sqrt(arms), c^2/arms). It has the eigenvalue 1 at
    b^2 = (4/9) (1 + sqrt(3 arms - 2)). At rho = 0, s_2^2 = b^2. `scale` multiplies b^2.
    """
    square = scale * 4 / 9 * (1 + np.sqrt(3 * arms - 2))
    steps = np.zeros((2 * arms, arms + 1, arms + 1))
    for draw in range(2 * arms):
        arm = 1 + draw // 2
        steps[draw, 0, 0], steps[draw, arm, arm] = -1 / 3, 1 - 3 * square / 4
        steps[draw, 0, arm] = steps[draw, arm, 0] = np.sqrt(square) * (1 - 2 * (draw % 2))
    return with_jacobians(steps, 1, rho)


def sometimes_flat(curved: int, flat: int, rho: float, share: float = 1) -> Minimum:
    """Return a one-dimensional minimum of `curved` functions with Hessian h and `flat` functions with Hessian 0.

    E A^2 <= 1 if and only if h (1 + rho h) <= 2 / eta, for any number of flat ones; h is `share` of that limit.
    """
    return Minimum(np.repeat([share * largest_curvature(1, rho), 0.0], [curved, flat]).reshape(-1, 1, 1), 1, rho)


def flat_threshold(curved_share: float) -> float:
    """Return the rho / eta above which `sometimes_flat` at its limit exceeds the bound on s_4.

    Let p be the share of curved functions. Then s_4^4 = (p - p^4) h^4, so the bound eta^2 rho^2 h^4 (p - p^4) <= 1 is
    violated if k = eta rho h^2 > (p - p^4)^(-1/2). At the limit, eta h = 2 - k, so rho / eta = k / (2 - k)^2. The
    threshold is lowest, 4.895, at p = 4^(-1/3).
    """
    k = (curved_share - curved_share**4) ** -0.5
    return float(k / (2 - k) ** 2)


def commuting(rng: np.random.Generator, rho: float) -> Minimum:
    """Return a minimum with random diagonal Hessians, scaled to a spectral radius from 0.9 to 1."""
    n, d = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    # (1 - z)^2 is A^2 on an axis; E (1 - z)^2 <= target is a quadratic in the scale of z.
    z = rng.exponential(size=(n, d)) * (rng.random((n, d)) < rng.uniform(0.3, 1)) + 1e-3
    first, second, target = z.mean(0), (z**2).mean(0), rng.uniform(0.9, 1, d)
    # If no scale meets the target, use the one at which E A^2 is smallest.
    z *= (first + np.sqrt(np.maximum(first**2 - second * (1 - target), 0))) / second
    return with_jacobians(np.eye(d) - z[:, None, :] * np.eye(d), 1, rho)


def random_minimum(rng: np.random.Generator, rho: float) -> Minimum:
    """Return a minimum with random Hessians of random rank and size."""
    n, d = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    factors = rng.normal(size=(n, d, int(rng.integers(1, d + 1)))) * rng.uniform(0.2, 1.5)
    return with_jacobians(np.eye(d) - factors @ factors.transpose(0, 2, 1), 1, rho)


def scaled_to_sharpness(minimum: Minimum, target: float) -> Minimum:
    """Return the minimum with its Hessians scaled so that a (1 + rho a) is `target` times 2 / eta."""
    eta, rho = minimum.eta, minimum.rho
    right = 2 * target / eta
    a = right if rho == 0 else (np.sqrt(1 + 4 * rho * right) - 1) / (2 * rho)
    return Minimum(minimum.hessians * (a / np.linalg.eigvalsh(minimum.hessians.mean(0))[-1]), eta, rho)

"""Interpolating problems f = mean of phi(a_i.x - b_i) with known constants beta, lambda and alpha of theorem 6.

Let |phi''| <= L and phi'^2 >= kappa phi, and let A have the rows a_i. Then beta = L max |a_i|^2 and
lambda = L lambda_max(A'A) / n. If sigma is the smallest eigenvalue of AA', then |grad f|^2 = |A'phi'|^2 / n^2 >=
sigma |phi'|^2 / n^2 >= (sigma kappa / n) f. So alpha = sigma kappa / n if A has full row rank. For least squares with a
solution, phi' = Ax - b is in the range of A, so sigma may be the smallest nonzero eigenvalue for any A.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.rates import Constants


@dataclass(frozen=True)
class Link:
    """A scalar function phi >= 0 with phi(0) = phi'(0) = 0."""

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: float  # L
    polyak: float  # kappa, of the Polyak-Lojasiewicz inequality


SQUARE = Link("u^2/2", lambda u: u**2 / 2, lambda u: u, 1, 2)
# Karimi, Nutini and Schmidt 2016: not convex, and phi'^2 >= phi / 16. On a fine grid the ratio is at least 0.35.
WAVY = Link("u^2 + 3 sin^2 u", lambda u: u**2 + 3 * np.sin(u) ** 2, lambda u: 2 * u + 3 * np.sin(2 * u), 8, 1 / 16)


def cosine(c: float) -> Link:
    """Return u^2/2 + c (1 - cos u), 0 <= c < 1; 1 - c <= phi'' <= 1 + c, so phi'^2 >= 2 (1 - c) phi."""
    return Link(
        f"u^2/2 + {c:g} (1 - cos u)",
        lambda u: u**2 / 2 + c * (1 - np.cos(u)),
        lambda u: u + c * np.sin(u),
        1 + c,
        2 * (1 - c),
    )


@dataclass(frozen=True)
class Problem:
    """f = mean of phi(a_i.x - b_i), and its constants."""

    name: str
    rows: Array  # (n, d)
    offsets: Array  # (n,)
    link: Link
    constants: Constants

    def values(self, points: Array) -> Array:
        """Return f, (...,), at points (..., d)."""
        return np.asarray(self.link.value(points @ self.rows.T - self.offsets).mean(-1))

    def gradients(self, points: Array) -> Array:
        """Return all grad f_i, (..., n, d), at points (..., d)."""
        return np.asarray(self.link.slope(points @ self.rows.T - self.offsets)[..., None] * self.rows)


def problem(name: str, rows: Array, offsets: Array, link: Link = SQUARE) -> Problem:
    """Make a problem with its constants, which the top of this file derives.

    Raises:
        ValueError: Ax = b has no solution, or A does not have full row rank and phi is not a square.
    """
    if np.linalg.norm(rows @ np.linalg.lstsq(rows, offsets)[0] - offsets) > 1e-9 * (1 + np.linalg.norm(offsets)):
        raise ValueError(f"{name}: no point interpolates")
    values = np.linalg.eigvalsh(rows @ rows.T)
    rank = int(np.linalg.matrix_rank(rows))
    if link is not SQUARE and rank < len(rows):
        raise ValueError(f"{name}: {link.name} needs rows of full rank")
    beta = link.curvature * (rows**2).sum(1).max()
    lam = link.curvature * values[-1] / len(rows)
    alpha = link.polyak * values[-rank] / len(rows)
    return Problem(name, rows, offsets, link, Constants(float(beta), float(lam), float(alpha)))


def copies(count: int) -> Problem:
    """Return the problem of `count` copies of x^2 / 2."""
    return problem(f"{count} copies of x^2/2", np.ones((count, 1)), np.zeros(count))


def least_squares(rng: np.random.Generator, randoms: int) -> list[Problem]:
    """Return the named least-squares problems, over- and underparameterized, and `randoms` random ones."""
    wide, tall = rng.normal(size=(4, 6)), rng.normal(size=(12, 4))
    left, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    right, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    steep = (left * np.geomspace(1, 1e-2, 6)) @ right
    strong = np.concatenate([np.eye(1, 4), 0.1 * rng.normal(size=(19, 4))])
    problems = [
        copies(10),
        problem("overparameterized", wide, rng.normal(size=4)),
        problem("underparameterized", tall, tall @ rng.normal(size=4)),
        problem("ill-conditioned", steep, rng.normal(size=6)),
        problem("one strong, many weak", strong, strong @ rng.normal(size=4)),
        problem("orthogonal", np.diag([1.0, 0.9, 0.7, 0.5, 0.3]), rng.normal(size=5)),
    ]
    for _ in range(randoms):
        rows = rng.normal(size=(int(rng.integers(1, 8)), int(rng.integers(1, 6)))) * 10 ** rng.uniform(-1, 1)
        problems.append(problem("random", rows, rows @ rng.normal(size=rows.shape[1])))
    return problems


def curved(rng: np.random.Generator) -> list[Problem]:
    """Return non-quadratic problems of three functions each, some nonconvex, some strongly convex along the rows."""
    problems = []
    for link in (WAVY, cosine(0.1), cosine(0.5), cosine(0.9)):
        for name, rows in (("orthogonal", np.eye(3)), ("random", rng.normal(size=(3, 5)))):
            problems.append(problem(f"{name} rows, {link.name}", rows, rng.normal(size=3), link))
    return problems

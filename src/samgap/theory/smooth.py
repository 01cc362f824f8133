"""Functions with known smoothness: quadratics, logistic losses, and softplus nets with one trained layer.

A function is beta-smooth if its gradient is beta-Lipschitz. The docstrings derive the constants; none needs convexity.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samgap.theory.arrays import Array


@dataclass(frozen=True)
class Smooth:
    """A function of a vector (d,), and a constant beta for which it is beta-smooth."""

    value: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    beta: float


def quadratic(matrix: Array) -> Smooth:
    """Return x'Qx / 2 with symmetric, possibly indefinite Q (d, d); beta is the largest |eigenvalue|."""
    beta = float(np.abs(np.linalg.eigvalsh(matrix)).max())
    return Smooth(lambda x: float(x @ matrix @ x) / 2, lambda x: matrix @ x, beta)


def logistic(example: Array, label: float) -> Smooth:
    """Return log(1 + exp(-y w.x)) of w; the second derivative in w.x is at most 1/4, so beta = |x|^2 / 4."""

    def value(weights: Array) -> float:
        return float(np.logaddexp(0, -label * example @ weights))

    def gradient(weights: Array) -> Array:
        return -label * _sigmoid(-label * example @ weights) * example

    return Smooth(value, gradient, float(example @ example) / 4)


def softplus_net(example: Array, label: float, outer: Array) -> Smooth:
    """Return log(1 + exp(-y v.softplus(W x))) of the flattened W; the outer weights v are fixed.

    With z = v.softplus(Wx) and the logistic loss l, the Hessian is l''(z) dz dz' + l'(z) d2z. Here l'' <= 1/4,
    |l'| <= 1, and |dz|^2 = |x|^2 sum (v_j sigmoid_j)^2 <= |x|^2 |v|^2. d2z has a block v_j sigmoid'_j xx' for each row
    of W, with sigmoid' <= 1/4. So beta = |x|^2 (|v|^2 / 4 + max |v_j| / 4).
    """
    shape = (len(outer), len(example))

    def value(weights: Array) -> float:
        hidden = np.logaddexp(0, weights.reshape(shape) @ example)
        return float(np.logaddexp(0, -label * outer @ hidden))

    def gradient(weights: Array) -> Array:
        before = weights.reshape(shape) @ example
        slope = -label * _sigmoid(-label * outer @ np.logaddexp(0, before))
        return np.outer(slope * outer * _sigmoid(before), example).ravel()

    beta = float(example @ example) * float(outer @ outer + np.abs(outer).max()) / 4
    return Smooth(value, gradient, beta)


def draw(family: str, count: int, rng: np.random.Generator) -> tuple[list[Smooth], Array]:
    """Return `count` random functions of one family with the same domain, and a point at which to evaluate them.

    A third of the quadratics have only the eigenvalues beta and -beta. For these the lemmas are equalities.
    """
    size, scale = int(rng.integers(1, 6)), 10 ** rng.uniform(-1, 1)
    if family == "quadratic":
        functions = [quadratic(_matrix(size, rng)) for _ in range(count)]
    elif family == "logistic":
        functions = [logistic(rng.normal(size=size), rng.choice([-1.0, 1.0])) for _ in range(count)]
    else:
        hidden = int(rng.integers(1, 5))
        outer = rng.normal(size=hidden)
        functions = [softplus_net(rng.normal(size=size), rng.choice([-1.0, 1.0]), outer) for _ in range(count)]
        size *= hidden
    return functions, scale * rng.normal(size=size)


FAMILIES = ("quadratic", "logistic", "softplus net")


def _matrix(size: int, rng: np.random.Generator) -> Array:
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    extreme = np.full(size, rng.choice([-1.0, 1.0])) if rng.random() < 0.5 else rng.choice([-1.0, 1.0], size)
    values = extreme if rng.random() < 1 / 3 else rng.normal(size=size)
    return np.asarray((basis * values * 10 ** rng.uniform(-1, 1)) @ basis.T)


def _sigmoid(value: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -value)))

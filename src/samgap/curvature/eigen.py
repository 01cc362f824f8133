"""The algebraically largest eigenvalues of a symmetric operator, with residuals.

Near a minimum of a net's loss, the most negative eigenvalue can have a larger magnitude than the largest one, but it is
not the sharpness.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh

from samgap import seeds
from samgap.curvature.vectors import Array, Symmetric
from samgap.errors import SettingError

TOL = 1e-5
MAXITER = 100  # restarts; ARPACK's own limit grows with P, and an operator that is only rounding errors never converges
KEPT = 8  # Lanczos vectors kept, in addition to 2 k
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Eigen:
    """Eigenvalues in descending order, with their accuracy and cost."""

    values: tuple[float, ...]  # NaN if not found
    residuals: tuple[float, ...]  # |A v - value v| / max(|value|, tiny) with the unit eigenvector v, NaN if not found
    products: int  # number of products with the operator, including those for the residuals
    converged: bool  # whether all met the tolerance; if not, larger eigenvalues may have been missed


def largest(operator: Symmetric, k: int = 1, *, tol: float = TOL, seed: int = 0, maxiter: int = MAXITER) -> Eigen:
    """Compute the k largest eigenvalues by Lanczos with restarts (ARPACK), each as often as it occurs.

    From one start, Lanczos finds an eigenvalue that occurs several times only once or a few times. With a squared loss,
    the Hessian of a last layer of C outputs has every eigenvalue C times. So for k > 1 further starts, orthogonal to
    what was found, search for larger ones than the last.

    Args:
        operator: (P, P).
        k: number of eigenvalues, 1 to P.
        tol: relative tolerance of an eigenvalue.
        seed: seed of the starting vector.
        maxiter: largest number of restarts, each of at most k + 8 products.

    Raises:
        SettingError: k is not from 1 to P, maxiter is below 1, or a product is not finite.
    """
    return _with_residuals(*_lanczos(operator, k, tol, seed, maxiter), k)


def vectors(operator: Symmetric, k: int = 1, *, tol: float = TOL, seed: int = 0, maxiter: int = MAXITER) -> Array:
    """Compute unit eigenvectors of the k largest eigenvalues, (P, k). The largest |entry| of each is positive.

    Args:
        operator, k, tol, seed, maxiter: see `largest`.

    Raises:
        SettingError: as for `largest`; or Lanczos did not converge.
    """
    _, values, columns, converged = _lanczos(operator, k, tol, seed, maxiter)
    if not converged:
        raise SettingError(
            f"Lanczos did not find {k} eigenvectors to {tol:g} in {maxiter} restarts: leave out what needs them, as "
            "probe.landscape.directions=[raw,filter] does."
        )
    columns = columns[:, np.argsort(values)[::-1]]
    signs = np.sign(columns[np.abs(columns).argmax(axis=0), np.arange(k)])
    return np.asarray(columns * signs)


def _lanczos(operator: Symmetric, k: int, tol: float, seed: int, maxiter: int) -> tuple["_Counted", Array, Array, bool]:
    size = operator.shape[0]
    if not 1 <= k <= size or maxiter < 1:
        raise SettingError(f"Wanted {k} eigenvalues of an operator that has {size}, in at most {maxiter} restarts.")
    counted = _Counted(operator)
    if k == size:  # ARPACK cannot compute all eigenvalues
        return counted, *np.linalg.eigh(np.stack([counted.matvec(row) for row in np.eye(size)])), True
    start, converged = _start(size, seed), True
    try:
        # The largest eigenvalues of a sharp net are well separated, and each product is a pass over the data. Half of
        # SciPy's default number of Lanczos vectors needs about half the products.
        kept = min(size, 2 * k + KEPT)
        values, columns = eigsh(counted, k=k, which="LA", tol=tol, v0=start, maxiter=maxiter, ncv=kept)
    except ArpackNoConvergence as failed:
        values, columns, converged = failed.eigenvalues, failed.eigenvectors, False
    except ArpackError:
        # ARPACK fails for the zero operator, which is the only one that maps a random start to 0.
        if counted.largest > 0:
            raise
        values, columns = np.zeros(k), np.linalg.qr(np.eye(size, k))[0]
    if converged and k > 1:
        values, columns, converged = _repeated(counted, values, columns, tol, seed, maxiter)
    return counted, values, columns, converged


def _repeated(
    counted: "_Counted", values: Array, columns: Array, tol: float, seed: int, maxiter: int
) -> tuple[Array, Array, bool]:
    """Replace the smallest of the eigenvalues while a new start finds a larger one among the other eigenvectors."""
    for number in range(1, len(values) + 1):
        rest = _Counted(_Without(counted, columns, 2 * float(np.abs(values).max())))
        start = _start(counted.shape[0], seed, number)
        try:
            found, vector = eigsh(rest, k=1, which="LA", tol=tol, v0=start - columns @ (columns.T @ start),
                                  maxiter=maxiter, ncv=min(counted.shape[0], 2 + KEPT))  # fmt: skip
        except ArpackNoConvergence:
            return values, columns, False
        except ArpackError:  # as for the zero operator: all other eigenvalues are 0
            break
        smallest = int(values.argmin())
        if found[0] <= values[smallest] + tol * np.abs(values).max():
            break
        column = vector[:, 0] - columns @ (columns.T @ vector[:, 0])
        values[smallest], columns[:, smallest] = found[0], column / np.linalg.norm(column)
    return values, columns, True


def _with_residuals(counted: "_Counted", values: Array, vectors: Array, converged: bool, k: int) -> Eigen:
    order = np.argsort(values)[::-1]
    ordered, residuals = [], []
    for value, vector in zip(values[order], vectors.T[order], strict=True):
        ordered.append(float(value))
        residuals.append(float(np.linalg.norm(counted.matvec(vector) - value * vector)) / max(abs(value), TINY))
    missing = [math.nan] * (k - len(ordered))
    return Eigen(tuple(ordered + missing), tuple(residuals + missing), counted.products, converged)


def _start(size: int, seed: int, *number: int) -> Array:
    # Drawn on the CPU, so that the starting vector is the same for every device.
    generator = seeds.generator(seed, "curvature", "eigen", *number)
    return np.asarray(torch.randn(size, generator=generator, dtype=torch.float64).numpy())


class _Without:
    """An operator on the complement of orthonormal columns (P, k), with the eigenvalue -low on the columns."""

    def __init__(self, operator: Symmetric, columns: Array, low: float) -> None:
        self.operator, self.columns, self.low, self.shape = operator, columns, low, operator.shape
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    def matvec(self, vector: Array) -> Array:
        inside = self.columns.T @ vector
        image = self.operator.matvec(vector - self.columns @ inside)
        return np.asarray(image - self.columns @ (self.columns.T @ image + self.low * inside))


class _Counted:
    """An operator that counts its products and stores the largest norm of a product."""

    def __init__(self, operator: Symmetric) -> None:
        self.operator, self.products, self.largest = operator, 0, 0.0
        self.shape: tuple[int, int] = operator.shape
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    def matvec(self, vector: Array) -> Array:
        self.products += 1
        image = self.operator.matvec(vector)
        length = float(np.linalg.norm(image))
        if not math.isfinite(length):
            raise SettingError("A product with the Hessian is not finite: the net's weights or its loss are not.")
        self.largest = max(self.largest, length)
        return image

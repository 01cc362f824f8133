"""The array type of the theory, and eigenvalues of symmetric matrices."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def largest_eigenvalue(matrix: Array) -> float:
    """Return the algebraically largest eigenvalue of a symmetric (d, d) matrix."""
    return float(np.linalg.eigvalsh(matrix)[-1])


def positive_part(matrix: Array) -> tuple[Array, Array]:
    """Return the r positive eigenvalues of a positive semidefinite matrix (d, d), and unit eigenvectors (d, r)."""
    values, vectors = np.linalg.eigh(matrix)
    positive = values > 1e-10 * max(values[-1], 1e-300)
    return values[positive], vectors[:, positive]

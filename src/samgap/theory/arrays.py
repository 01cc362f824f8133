"""The one type of array of the theory, and the two ways in which it takes a symmetric matrix apart."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def top(matrix: Array) -> float:
    """The largest eigenvalue, with its sign."""
    return float(np.linalg.eigvalsh(matrix)[-1])


def positive_part(matrix: Array) -> tuple[Array, Array]:
    """(positive eigenvalues, their orthonormal eigenvectors as columns) of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    positive = values > 1e-10 * max(values[-1], 1e-300)
    return values[positive], vectors[:, positive]

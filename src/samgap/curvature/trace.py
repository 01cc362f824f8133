"""An estimate of the trace of a symmetric operator from products. Hutchinson 1990."""

import numpy as np
import torch

from samgap import seeds
from samgap.curvature.vectors import Symmetric
from samgap.errors import SettingError, said


def estimate(operator: Symmetric, samples: int, *, seed: int = 0) -> tuple[float, float]:
    """The mean of z'A z over vectors z of random signs, unbiased, exact if A is diagonal; and its standard error.

    Args:
        operator: A, (P, P).
        samples: number of vectors z, from 2. Each takes one product.
        seed: of the signs. A larger sample contains the smaller ones of the same seed.

    Raises:
        SettingError: fewer than 2 samples.
    """
    if samples < 2:
        raise SettingError(f"The trace needs at least 2 samples for its standard error, got {said(samples)}.")
    found = []
    for sample in range(samples):
        draw = seeds.generator(seed, "curvature", "trace", sample)
        signs = (2 * torch.randint(0, 2, (operator.shape[0],), generator=draw).double() - 1).numpy()
        found.append(float(signs @ operator.matvec(signs)))
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(samples))

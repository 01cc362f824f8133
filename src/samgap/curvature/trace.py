"""An estimate of the trace of a symmetric operator from products. Hutchinson 1990."""

from dataclasses import dataclass

import numpy as np
import torch

from samgap import seeds
from samgap.curvature.vectors import Symmetric
from samgap.errors import SettingError, said


@dataclass(frozen=True)
class Trace:
    """An unbiased estimate."""

    value: float
    error: float  # standard error, from the spread of the samples
    samples: int


def estimate(operator: Symmetric, samples: int, *, seed: int = 0) -> Trace:
    """Estimate the trace of A by the mean of z'A z over vectors z of random signs; exact if A is diagonal.

    Args:
        operator: A, (P, P).
        samples: number of vectors z, at least 2. Each needs one product.
        seed: seed of the signs. A larger sample contains the smaller ones with the same seed.

    Raises:
        SettingError: fewer than 2 samples.
    """
    if samples < 2:
        raise SettingError(f"The trace needs at least 2 samples for its standard error, got {said(samples)}.")
    values = []
    for sample in range(samples):
        draw = seeds.generator(seed, "curvature", "trace", sample)
        signs = (2 * torch.randint(0, 2, (operator.shape[0],), generator=draw).double() - 1).numpy()
        values.append(float(signs @ operator.matvec(signs)))
    return Trace(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(samples)), samples)

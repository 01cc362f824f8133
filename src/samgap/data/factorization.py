"""The regression of figure 1: standard normal inputs x, targets A x, with a matrix A in R^{10x6} of full rank.

After Loizou et al. 2021, which the paper's appendix A.3 cites; the distribution of A is not published.
"""

from pathlib import Path

import torch
from torch import Tensor

from samgap import seeds
from samgap.data.sets import Raw, Split

INPUTS, OUTPUTS, SAMPLES = 6, 10, 1000


def load(folder: Path, condition: float = 10) -> Raw:
    """Make 1,000 training and 1,000 test inputs (N, 6, 1, 1), float32, and their targets (N, 10), float64.

    Args:
        folder: unused; `load` of each data set has it.
        condition: condition number of A, see `matrix`.
    """
    a = matrix(condition)
    draw = seeds.generator(0, "factorization", "inputs")

    def split() -> Split:
        x = torch.randn(SAMPLES, INPUTS, generator=draw, dtype=torch.float64)
        # Inputs are float32, as in all data sets. Targets are exact for the rounded inputs, so nets can interpolate.
        return Split(x.float()[:, :, None, None], x.float().double() @ a.T)

    return Raw(split(), split(), max_pixel=1)


def matrix(condition: float) -> Tensor:
    """Draw A (10, 6), float64: random singular vectors, singular values evenly spaced in log from 1 to 1 / condition.

    Args:
        condition: ratio of the largest to the smallest singular value, at least 1.
    """
    draw = seeds.generator(0, "factorization", "matrix")
    left, right = (
        torch.linalg.qr(torch.randn(size, INPUTS, generator=draw, dtype=torch.float64))[0] for size in (OUTPUTS, INPUTS)
    )
    values = torch.logspace(0, -1, INPUTS, base=condition, dtype=torch.float64)
    return left @ torch.diag(values) @ right.T

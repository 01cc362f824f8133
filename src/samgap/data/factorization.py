"""The matrix that figure 1 factorizes: targets A x of standard normal inputs, A in R^{10x6} of full rank.

After Loizou et al. 2021, to whom the paper's appendix A.3 refers; the law of A is not published.
"""

from pathlib import Path

import torch
from torch import Tensor

from samgap import seeds
from samgap.data.sets import Raw, Split

INPUTS, OUTPUTS, SAMPLES = 6, 10, 1000


def load(folder: Path, condition: float = 10) -> Raw:
    """1,000 training and 1,000 test inputs (N, 6, 1, 1) with their targets (N, 10), float64.

    Args:
        folder: not read; every data set's `load` takes it.
        condition: of A, see `matrix`.
    """
    a = matrix(condition)
    draw = seeds.generator(0, "factorization", "inputs")

    def split() -> Split:
        x = torch.randn(SAMPLES, INPUTS, generator=draw, dtype=torch.float64)
        # Inputs are float32 as those of all data sets; targets are exact for them, or nothing would interpolate.
        return Split(x.float()[:, :, None, None], x.float().double() @ a.T)

    return Raw(split(), split(), levels=1)


def matrix(condition: float) -> Tensor:
    """A (10, 6), float64: random orthonormal singular vectors, singular values from 1 down to 1 / condition in equal
    ratios.

    Args:
        condition: largest over smallest singular value, from 1.
    """
    draw = seeds.generator(0, "factorization", "matrix")
    left, right = (
        torch.linalg.qr(torch.randn(size, INPUTS, generator=draw, dtype=torch.float64))[0] for size in (OUTPUTS, INPUTS)
    )
    values = torch.logspace(0, -1, INPUTS, base=condition, dtype=torch.float64)
    a: Tensor = left @ torch.diag(values) @ right.T
    return a

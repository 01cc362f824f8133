import numpy as np
import pytest
import torch
from torch import nn

from samgap.curvature import trace
from samgap.curvature.hessian import Hessian
from samgap.errors import SettingError
from samgap.losses import squared
from tests.curvature.nets import diagonal, examples, explicit, smooth


def test_a_diagonal_hessian_has_its_trace_without_error() -> None:
    found = trace.estimate(Hessian(*diagonal([[1, -2, 5], [3, 0, -4]])), 2)
    assert found.value == pytest.approx(2 - 1 + 0.5, rel=1e-14)
    assert found.error == pytest.approx(0, abs=1e-14)


def test_the_trace_lies_within_its_error() -> None:
    torch.manual_seed(0)
    net, data = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double(), examples(40)
    matrix = explicit(net, squared, data)
    found = trace.estimate(Hessian(net, squared, data), 200)
    assert abs(found.value - np.trace(matrix)) < 4 * found.error
    # The variance of z'Az over random signs is 2 sum over i != j of A_ij^2.
    off = matrix - np.diag(np.diag(matrix))
    assert found.error == pytest.approx(np.sqrt(2 * (off**2).sum() / 200), rel=0.25)
    assert found.error < 0.01 * np.trace(matrix)


def test_a_seed_fixes_the_signs() -> None:
    operator = Hessian(smooth(), squared, examples())
    first, again, other = (trace.estimate(operator, 3, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.value != other.value


def test_one_sample_has_no_error() -> None:
    with pytest.raises(SettingError, match="at least 2 samples"):
        trace.estimate(Hessian(smooth(), squared, examples()), 1)

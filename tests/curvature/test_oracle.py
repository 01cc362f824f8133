"""Products and eigenvalues equal those of curvlinops, another implementation of both."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # a package that curvlinops imports calls torch.jit.script
    from curvlinops import HessianLinearOperator

from samgap.curvature import eigen
from samgap.curvature.hessian import Hessian
from samgap.losses import cross_entropy, squared
from tests.curvature.nets import CLASSES, NETS, examples

# torch's first product in forward mode calls a deprecated function of torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")


def theirs(net: nn.Module, loss: nn.Module) -> np.ndarray:
    """Return the matrix of an operator of curvlinops, over two blocks of the examples."""
    data = examples()
    targets = data.labels
    if isinstance(loss, nn.MSELoss):
        targets = nn.functional.one_hot(targets, CLASSES).double()
    blocks = list(zip(data.inputs.split(4), targets.split(4), strict=True))
    operator = HessianLinearOperator(net.eval(), loss, list(net.parameters()), blocks, check_deterministic=False)
    return (operator @ torch.eye(operator.shape[1], dtype=torch.float64)).detach().numpy()


@pytest.mark.parametrize(("loss", "peer", "scale"), [(cross_entropy, nn.CrossEntropyLoss, 1), (squared, nn.MSELoss, 3)])
@pytest.mark.parametrize("build", NETS)
def test_the_hessian_is_theirs(build, loss, peer, scale: float) -> None:
    # curvlinops requires torch's mean squared error, which is a mean over outputs too.
    net = build()
    matrix = scale * theirs(net, peer())
    operator = Hessian(net, loss, examples())
    vector = np.random.default_rng(0).normal(size=len(matrix))
    np.testing.assert_allclose(operator.matvec(vector), matrix @ vector, atol=1e-12)
    found = eigen.largest(operator, 3, tol=1e-12)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix)[:-4:-1], rtol=1e-9)

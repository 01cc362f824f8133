"""Hessian products equal those of explicit Hessians, and the net is left unchanged."""

import gc

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samgap.curvature.examples import Examples
from samgap.curvature.hessian import Hessian
from samgap.losses import cross_entropy, squared
from tests.curvature.nets import NETS, conv, examples, explicit, masked, matrix_of, mlp, smooth

VECTOR = np.random.default_rng(0).normal(size=200)


@pytest.mark.parametrize("loss", [squared, cross_entropy])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("build", NETS)
def test_products_are_those_of_the_whole_matrix(build, sparse: bool, loss) -> None:
    net, data = build(), examples()
    masks = masked(net) if sparse else None
    expected = explicit(net, loss, data, masks)
    operator = Hessian(net, loss, data, masks)
    assert operator.shape == expected.shape
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(matrix_of(operator), expected, atol=1e-12)


def test_batch_norm_keeps_its_running_statistics_in_a_net_that_trains() -> None:
    net, data = conv(), examples()
    net.train()
    vector = VECTOR[:72]
    np.testing.assert_allclose(
        Hessian(net, squared, data).matvec(vector), explicit(net, squared, data) @ vector, atol=1e-12
    )


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_blocks_move_nothing_beyond_rounding(block: int) -> None:
    # 7 examples: a smaller last block must have a smaller weight.
    net, data, vector = conv(), examples(), VECTOR[:72]
    whole = Hessian(net, cross_entropy, data).matvec(vector)
    np.testing.assert_allclose(Hessian(net, cross_entropy, data, block=block).matvec(vector), whole, atol=1e-13)


def test_linear_regression_in_closed_form() -> None:
    # L = mean |W x - y|^2, so H = I kron (2 / n) X'X in the rows of W.
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = nn.Linear(4, 3, bias=False).double()
    operator = Hessian(net, squared, Examples(inputs, torch.tensor([0, 1, 2, 0, 1])))
    expected = np.kron(np.eye(3), 2 / 5 * inputs.numpy().T @ inputs.numpy())
    np.testing.assert_allclose(matrix_of(operator), expected, atol=1e-13)


def test_products_in_the_net_s_precision() -> None:
    net, data, vector = smooth(), examples(), VECTOR[:40]
    expected = Hessian(net, squared, data).matvec(vector)
    found = Hessian(net.float(), squared, data).matvec(vector)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, expected, atol=1e-10, rtol=0)


def test_blocks_add_up_in_float64() -> None:
    # Curvatures 2 and 2^-24 times that: in a float32 sum the second is lost.
    net = nn.Linear(1, 1, bias=False)
    data = Examples(torch.tensor([[1.0], [2.0**-12]]), torch.zeros(2, 1))
    assert float(Hessian(net, squared, data, block=1).matvec(np.ones(1))[0]) == 1 + 2.0**-24


def test_products_are_counted() -> None:
    operator = Hessian(smooth(), squared, examples(), block=2)
    for _ in range(3):
        operator.matvec(VECTOR[:40])
    assert operator.gradients == 3


class Restless(nn.Module):
    """A net that draws random numbers and replaces a buffer even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes = self.passes + 1
        torch.rand(2)
        return self.inner(images)


@pytest.mark.parametrize("broken", [False, True])
def test_the_net_is_left_as_it_was(broken: bool) -> None:
    net, data = Restless(), examples()
    net.train()
    net.inner[1].eval()
    net.inner[4].bias.requires_grad_(False)
    squared(net(data.inputs), data.labels).backward()
    weights = dict(net.named_parameters())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = {name: None if weight.grad is None else weight.grad.clone() for name, weight in weights.items()}
    state = torch.get_rng_state()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if broken:
            raise ZeroDivisionError
        return squared(logits, labels)

    operator = Hessian(net, loss, data)
    if broken:
        with pytest.raises(ZeroDivisionError):
            operator.matvec(VECTOR[: operator.shape[0]])
    else:
        operator.matvec(VECTOR[: operator.shape[0]])
    assert net.training
    assert not net.inner[1].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [name for name, weight in net.named_parameters() if not weight.requires_grad] == ["inner.4.bias"]
    for name, weight in net.named_parameters():
        assert weight is weights[name]
        if name == "inner.4.bias":
            assert weight.grad is None
        else:
            assert torch.equal(weight.grad, gradients[name])


def test_no_graph_stays_behind() -> None:
    operator = Hessian(mlp(), squared, examples())

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    operator.matvec(VECTOR[:125])
    before = tensors()
    for _ in range(3):
        operator.matvec(VECTOR[:125])
    assert tensors() == before

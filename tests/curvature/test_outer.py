"""Powers of single Hessians as outer products, and when they apply."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samgap.curvature import moments, outer
from samgap.curvature.examples import Examples
from samgap.curvature.hessian import Hessian
from samgap.curvature.moments import Excess
from samgap.losses import cross_entropy, mean_squared, squared
from tests.curvature.nets import conv, examples, mlp, one_by_one, smooth


class Twice(nn.Module):
    """A net that runs a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Rows(nn.Module):
    """A net whose layer gets several rows for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unsqueeze(1).repeat(1, 2, 1)).tanh().sum(1)


class Idle(nn.Module):
    """A net with an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("loss", [squared, mean_squared, cross_entropy])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("build", [mlp, smooth])
def test_powers_are_those_of_hessians_written_out(build, order: int, loss) -> None:
    net, data = build().eval(), examples(5)
    operator = Hessian(net, loss, data)
    each = one_by_one(net, loss, data)
    vector = np.random.default_rng(1).normal(size=each.shape[1])
    along = operator.coordinates.split(torch.tensor(vector))
    found = outer.powers(net, loss, data.inputs, data.labels, along, order)
    expected = sum(np.linalg.matrix_power(one, order) for one in each) @ vector
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(
        operator.coordinates.join(found).numpy(), expected, atol=1e-12 * max(1, np.abs(each).max() ** order)
    )


@pytest.mark.parametrize("build", [mlp, smooth])
def test_both_ways_to_a_product_agree(build, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = build(), examples()
    vector = np.random.default_rng(2).normal(size=Hessian(net, squared, data).shape[0])
    products = [Excess(Hessian(net, squared, data, block=block), 3).matvec(vector) for block in (500, 2)]
    monkeypatch.setattr(moments.outer, "applies", lambda net, one: False)
    expected = Excess(Hessian(net, squared, data), 3).matvec(vector)
    for product in products:
        np.testing.assert_allclose(product, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("build", [Twice, Rows, Idle])
def test_other_nets_take_the_other_way(build) -> None:
    torch.manual_seed(0)
    net = build().double()
    data = Examples(torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
    assert not outer.applies(net, data.inputs[:1])
    each = one_by_one(net, squared, data)
    vector = np.random.default_rng(0).normal(size=each.shape[1])
    expected = np.mean([one @ one for one in each], axis=0) @ vector - each.mean(0) @ each.mean(0) @ vector
    np.testing.assert_allclose(Excess(Hessian(net, squared, data), 2).matvec(vector), expected, atol=1e-11)


def test_it_applies_to_linear_layers_and_leaves_no_hook() -> None:
    net = mlp()
    assert outer.applies(net, examples().inputs[:1])
    assert not outer.applies(conv(), examples().inputs[:1])
    tied = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16)).double()
    assert outer.applies(tied, examples().inputs[:1])
    tied[2].weight = tied[1].weight
    assert not outer.applies(tied, examples().inputs[:1])
    frozen = mlp()
    next(frozen.parameters()).requires_grad_(False)
    assert not outer.applies(frozen, examples().inputs[:1])
    data = examples()
    outer.powers(net, squared, data.inputs, data.labels, Hessian(net, squared, data).coordinates.weights(net), 2)
    assert not any(module._forward_hooks for module in net.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())

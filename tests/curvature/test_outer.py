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


class Tied(nn.Module):
    """An autoencoder with the transposed encoder as decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.layer(x).tanh(), self.layer.weight.t())


class Patches(nn.Module):
    """A net with a layer that gets patches of all examples as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(-1, 1)).tanh().reshape(len(x), -1)


class Features(nn.Module):
    """A net with a first layer without gradient in a pass, and a second that gets its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x)
        return self.second(input=x).tanh() + 0 * sum(weight.sum() for weight in self.first.parameters())


def activated() -> nn.Module:
    """Return a net with an activation that forward over reverse mode does not support."""
    return nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 3))


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
    monkeypatch.setattr(moments.outer, "applies", lambda net: False)
    expected = Excess(Hessian(net, squared, data), 3).matvec(vector)
    for product in products:
        np.testing.assert_allclose(product, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("build", [Twice, Rows, Idle, Tied, Patches, Features, activated])
def test_other_nets_take_the_other_way(build) -> None:
    torch.manual_seed(0)
    net = build().double()
    data = Examples(torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0]))
    each = one_by_one(net, squared, data)
    vector = np.random.default_rng(0).normal(size=each.shape[1])
    expected = np.mean([one @ one for one in each], axis=0) @ vector - each.mean(0) @ each.mean(0) @ vector
    excess = Excess(Hessian(net, squared, data), 2)
    np.testing.assert_allclose(excess.matvec(vector), expected, atol=1e-11)
    assert not excess._shortcut
    assert not any(module._forward_hooks for module in net.modules())


def test_it_applies_to_linear_layers_and_leaves_no_hook() -> None:
    net = mlp()
    assert outer.applies(net)
    assert not outer.applies(conv())
    tied = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16)).double()
    assert outer.applies(tied)
    tied[2].weight = tied[1].weight
    assert not outer.applies(tied)
    frozen = mlp()
    next(frozen.parameters()).requires_grad_(False)
    assert not outer.applies(frozen)
    data = examples()
    outer.powers(net, squared, data.inputs, data.labels, Hessian(net, squared, data).coordinates.weights(net), 2)
    assert not any(module._forward_hooks for module in net.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())

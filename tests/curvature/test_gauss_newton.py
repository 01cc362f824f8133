"""Gram matrices against output gradients written out, and their moments against Hessians at zero residual."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samgap.curvature import eigen
from samgap.curvature.examples import Examples
from samgap.curvature.gauss_newton import Gram, by_jacobians, gram, measure
from samgap.curvature.hessian import Hessian
from samgap.curvature.layers import by_layers, of_linear_layers
from samgap.curvature.moments import moment
from samgap.curvature.vectors import Array
from samgap.errors import SettingError
from samgap.losses import squared
from tests.curvature.nets import CLASSES, NETS, conv, examples, masked, mlp, one_by_one, smooth


def jacobian(net: nn.Module, inputs: Tensor, masks: dict[str, Tensor] | None = None) -> Array:
    """J by one backward pass an output, (n C, P)."""
    rows = []
    net.eval()
    for outputs in net(inputs):
        for output in outputs:
            gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
            pairs = zip(net.named_parameters(), gradients, strict=True)
            live = [part[masks[name]] if masks and name in masks else part.flatten() for (name, _), part in pairs]
            rows.append(torch.cat(live))
    return np.asarray(torch.stack(rows).numpy())


def fitted(net: nn.Module, count: int = 5) -> Examples:
    """Examples whose targets are what the net gives."""
    inputs = examples(count).inputs
    with torch.no_grad():
        return Examples(inputs, net.eval()(inputs))


@pytest.mark.parametrize("chunk", [1, 2, 16])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("build", NETS)
def test_the_gram_matrix_is_that_of_the_output_gradients(build, sparse: bool, chunk: int) -> None:
    net, inputs = build(), examples(5).inputs
    masks = masked(net) if sparse else None
    rows = jacobian(net, inputs, masks)
    for found in (gram(net, inputs, masks, chunk).matrix, by_jacobians(net, inputs, masks, chunk)):
        np.testing.assert_allclose(found, rows @ rows.T, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 16])
@pytest.mark.parametrize("build", [mlp, smooth])
def test_layer_by_layer_it_is_the_same(build, chunk: int) -> None:
    net, inputs = build(), examples(5).inputs
    assert of_linear_layers(net)
    net.train()
    expected = by_jacobians(net, inputs)
    np.testing.assert_allclose(by_layers(net, inputs, chunk), expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1
    assert net.training
    assert all(weight.grad is None for weight in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    with torch.no_grad():
        np.testing.assert_allclose(by_layers(net, inputs, chunk), expected, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("build", NETS)
def test_at_zero_residual_it_has_the_curvature_of_the_loss(build, sparse: bool) -> None:
    net = build()
    masks = masked(net) if sparse else None
    data = fitted(net)
    each = one_by_one(net, squared, data, masks)
    found = measure(gram(net, data.inputs, masks))
    assert found.n == 5
    assert found.top == pytest.approx(np.linalg.eigvalsh(each.mean(0))[-1], rel=1e-10)
    for order in (2, 3, 4):
        powers = np.mean([np.linalg.matrix_power(one, order) for one in each], axis=0)
        top = np.linalg.eigvalsh(powers - np.linalg.matrix_power(each.mean(0), order))[-1]
        assert found.s[order] == pytest.approx(top ** (1 / order), rel=1e-9)


def test_both_ways_to_the_curvature_agree() -> None:
    net = mlp()
    data = fitted(net, 12)
    found = measure(gram(net, data.inputs))
    assert found.top == pytest.approx(eigen.largest(Hessian(net, squared, data), tol=1e-10).values[0], rel=1e-8)
    for order in (2, 3, 4):
        assert found.s[order] == pytest.approx(moment(net, squared, data, order, tol=1e-10).s, rel=1e-8)


def test_fewer_weights_than_outputs() -> None:
    # Two weights and five outputs: K has three eigenvalues 0 that no direction of weights stands for.
    net = nn.Linear(2, 1, bias=False).double()
    inputs = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = 2 * np.einsum("ni,nj->nij", inputs.numpy(), inputs.numpy())
    found = measure(gram(net, inputs))
    assert found.top == pytest.approx(np.linalg.eigvalsh(each.mean(0))[-1])
    for order in (2, 3, 4):
        powers = np.mean([np.linalg.matrix_power(one, order) for one in each], axis=0)
        top = np.linalg.eigvalsh(powers - np.linalg.matrix_power(each.mean(0), order))[-1]
        assert found.s[order] ** order == pytest.approx(top)


def test_one_weight_in_closed_form() -> None:
    # Inputs 1 and 2: G_i = 2 and 8, so s_2^2 = 34 - 25, s_3^3 = 260 - 125, s_4^4 = 2056 - 625.
    found = measure(gram(nn.Linear(1, 1, bias=False).double(), torch.tensor([[1.0], [2.0]])))
    assert found.top == pytest.approx(5)
    assert {order: s**order for order, s in found.s.items()} == pytest.approx({2: 9, 3: 135, 4: 1431})


def test_equal_examples_are_uniform() -> None:
    inputs = examples(1).inputs.expand(4, -1, -1, -1)
    found = measure(gram(mlp(), inputs))
    assert found.top > 1
    for order, s in found.s.items():
        assert 0 <= s**order < 1e-12 * found.top**order


def test_outputs_that_move_with_no_weight_are_flat() -> None:
    assert measure(Gram(np.zeros((6, 6)), 3)).s == {2: 0, 3: 0, 4: 0}
    assert measure(Gram(np.zeros((6, 6)), 3)).top == 0


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(self.inner(images.flatten(1)).tanh())[:, :CLASSES]


def test_what_is_not_layer_by_layer() -> None:
    inputs = examples(3).inputs
    with pytest.raises(SettingError, match="passes a layer twice or with several rows an example"):
        gram(Twice(), inputs)
    with pytest.raises(SettingError, match="several rows"):
        by_layers(nn.Linear(4, 2).double(), inputs, 16)
    with pytest.raises(SettingError, match="trained linear layers alone"):
        by_layers(conv(), inputs, 16)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert not of_linear_layers(tied)
    frozen = mlp()
    next(frozen.parameters()).requires_grad_(False)
    assert not of_linear_layers(frozen)
    assert by_jacobians(Twice(), inputs).shape == (9, 9)


def test_hooks_are_gone_after_an_error() -> None:
    net = Twice()
    with pytest.raises(SettingError):
        by_layers(net, examples(3).inputs, 16)
    assert not net.inner._forward_hooks


def test_bad_input() -> None:
    inputs = examples(3).inputs
    with pytest.raises(SettingError, match="got 0 and 16"):
        gram(mlp(), inputs[:0])
    with pytest.raises(SettingError, match="got 3 and 0"):
        gram(mlp(), inputs, chunk=0)
    with pytest.raises(SettingError, match="not finite"):
        measure(Gram(np.full((2, 2), np.nan), 1))

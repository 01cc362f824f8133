"""Non-uniformities equal those of explicit Hessians of single examples."""

import numpy as np
import pytest
import torch
from torch import nn

from samgap.curvature.examples import Examples
from samgap.curvature.hessian import Hessian
from samgap.curvature.moments import Excess, moment, signed_root
from samgap.curvature.vectors import Array
from samgap.errors import SettingError
from samgap.losses import cross_entropy, squared
from tests.curvature.nets import NETS, conv, diagonal, examples, masked, matrix_of, one_by_one, smooth


def excess(each: Array, order: int) -> Array:
    mean = np.mean([np.linalg.matrix_power(one, order) for one in each], axis=0)
    return np.asarray(mean - np.linalg.matrix_power(each.mean(0), order))


@pytest.mark.parametrize("loss", [squared, cross_entropy])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("build", NETS)
def test_products_are_those_of_single_hessians(build, sparse: bool, loss) -> None:
    net, data = build(), examples(5)
    masks = masked(net) if sparse else None
    each = one_by_one(net, loss, data, masks)
    vector = np.random.default_rng(0).normal(size=each.shape[1])
    for order in (2, 3, 4):
        expected = excess(each, order) @ vector
        assert np.abs(expected).max() > 1e-4
        operator = Excess(Hessian(net, loss, data, masks), order, chunk=2)
        np.testing.assert_allclose(operator.matvec(vector), expected, atol=1e-11 * max(1, np.abs(each).max() ** order))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_non_uniformity_of_a_net(order: int) -> None:
    net, data = smooth(), examples()
    matrix = excess(one_by_one(net, cross_entropy, data), order)
    values = np.linalg.eigvalsh(matrix)
    if order == 3:
        assert values[0] < -0.1 * values[-1] < 0  # indefinite
    found = moment(Hessian(net, cross_entropy, data), order, tol=1e-10)
    assert found.s == pytest.approx(values[-1] ** (1 / order), rel=1e-8)
    assert found.eigen.values[0] == pytest.approx(values[-1], rel=1e-8)
    assert found.eigen.converged
    assert (found.order, found.n) == (order, 7)
    assert found.gradients == 2 * order * found.eigen.products


def test_diagonal_hessians_in_closed_form() -> None:
    # s_2^2 is the largest variance of a coordinate's curvature.
    rows = np.array([[1.0, -2, 5, 0], [3, 0, -4, 1], [2, 2, 2, 2]])
    found = moment(Hessian(*diagonal(rows.tolist())), 2)
    assert found.s**2 == pytest.approx(rows.var(axis=0).max(), rel=1e-12)
    for order in (3, 4):
        largest = ((rows**order).mean(0) - rows.mean(0) ** order).max()
        assert moment(Hessian(*diagonal(rows.tolist())), order).s == pytest.approx(largest ** (1 / order), rel=1e-12)


def test_a_negative_largest_eigenvalue_keeps_its_sign() -> None:
    # Curvatures -3 and 1: M_3 = -13, H^3 = -1; the second coordinate's -4 and 0 give -32 + 8.
    found = moment(Hessian(*diagonal([[-3, -4], [1, 0]])), 3)
    assert found.eigen.values[0] == pytest.approx(-12)
    assert found.s == pytest.approx(-(12 ** (1 / 3)))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_equal_examples_are_uniform(order: int) -> None:
    single = examples(1)
    data = Examples(single.inputs.expand(4, -1, -1, -1), single.labels.expand(4))
    net = smooth()
    top = np.abs(one_by_one(net, squared, single)).max()
    assert top > 0.5
    # Its k-th power is rounding.
    assert abs(moment(Hessian(net, squared, data), order, maxiter=20).eigen.values[0]) < 1e-13 * max(1, top**order) * 10


def test_chunks_and_blocks_move_nothing_beyond_rounding() -> None:
    net, data = conv(), examples()
    vector = np.random.default_rng(0).normal(size=72)
    whole = Excess(Hessian(net, cross_entropy, data), 3).matvec(vector)
    for size in (1, 3):
        found = Excess(Hessian(net, cross_entropy, data, block=size), 3, chunk=size).matvec(vector)
        np.testing.assert_allclose(found, whole, atol=1e-12 * np.abs(whole).max())


def test_the_net_is_left_as_it_was() -> None:
    net = conv()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    moment(Hessian(net, squared, examples()), 2, tol=1e-2)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_operator_is_symmetric() -> None:
    matrix = matrix_of(Excess(Hessian(nn.Sequential(*smooth()), squared, examples(3)), 4))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12 * np.abs(matrix).max())


def test_roots() -> None:
    assert signed_root(16, 4) == pytest.approx(2)
    assert signed_root(-8, 3) == pytest.approx(-2)
    assert signed_root(0, 2) == 0
    assert np.isnan(signed_root(np.nan, 2))


@pytest.mark.parametrize("order", [1, 5])
def test_other_orders(order: int) -> None:
    with pytest.raises(SettingError, match=f"order 2, 3 or 4, got {order}"):
        moment(Hessian(smooth(), squared, examples()), order)

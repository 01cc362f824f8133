import math

import numpy as np
import pytest
import torch
from torch import nn

from samgap.curvature import eigen
from samgap.curvature.examples import Examples
from samgap.curvature.hessian import Hessian
from samgap.curvature.vectors import Array
from samgap.errors import SettingError
from samgap.losses import cross_entropy, squared
from tests.curvature.nets import examples, explicit, smooth


class Matrix:
    def __init__(self, matrix: Array) -> None:
        self.matrix, self.shape, self.dtype, self.products = matrix, matrix.shape, np.dtype(float), 0

    def matvec(self, vector: Array) -> Array:
        self.products += 1
        return self.matrix @ vector


def with_values(values: list[float], seed: int = 0) -> Matrix:
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return Matrix(basis * values @ basis.T)


def test_the_largest_are_so_with_their_sign() -> None:
    operator = with_values([-50, -20, *np.linspace(-1, 1, 40), 3, 7])
    found = eigen.largest(operator, 3, tol=1e-12)
    np.testing.assert_allclose(found.values, [7, 3, 1], atol=1e-9)
    assert found.converged
    assert found.products == operator.products


def test_the_largest_of_a_negative_operator_is_the_nearest_to_0() -> None:
    found = eigen.largest(with_values([*np.linspace(-9, -2, 30)]), tol=1e-12)
    assert found.values[0] == pytest.approx(-2, abs=1e-9)


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-12])
def test_an_eigenvalue_is_found_as_often_as_it_occurs(tol: float) -> None:
    operator = with_values([*np.linspace(-9, 1, 60), 2, 3, 3, 3, 5, 5, 5])
    for k in (2, 4, 6, 8):
        found = eigen.largest(operator, k, tol=tol)
        np.testing.assert_allclose(found.values, [5, 5, 5, 3, 3, 3, 2, 1][:k], rtol=10 * tol)
        assert found.converged
        assert max(found.residuals) <= max(10 * tol, 1e-9)
    columns = eigen.vectors(operator, 4, tol=tol)
    np.testing.assert_allclose(columns.T @ columns, np.eye(4), atol=1e-9)


def test_a_linear_layer_with_a_squared_loss_has_every_eigenvalue_once_for_each_output() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Linear(20, 3).double(), torch.randn(30, 20, dtype=torch.float64)
    hessian = Hessian(net, squared, Examples(inputs, torch.arange(30) % 3))
    expected = np.linalg.eigvalsh(explicit(net, squared, hessian.examples))[::-1]
    found = eigen.largest(hessian, 6)
    np.testing.assert_allclose(found.values, expected[:6], rtol=1e-4)
    assert expected[0] == pytest.approx(expected[2])


@pytest.mark.parametrize("tol", [1e-1, 1e-8])
def test_residuals_bound_the_error(tol: float) -> None:
    # A symmetric matrix has an eigenvalue within |Av - value v|; here it is the largest.
    operator = with_values([*np.linspace(0, 5, 60), 6, 6.5])
    found = eigen.largest(operator, tol=tol)
    error = abs(found.values[0] - 6.5)
    assert error <= found.residuals[0] * found.values[0] + 1e-12
    assert found.residuals[0] <= 10 * tol


def test_what_did_not_converge_is_said() -> None:
    operator = with_values([*np.linspace(0, 5, 200)])
    found = eigen.largest(operator, 2, tol=1e-12, maxiter=1)
    assert not found.converged
    assert len(found.values) == len(found.residuals) == 2
    assert any(math.isnan(value) for value in found.values)
    assert [math.isnan(value) for value in found.values] == [math.isnan(each) for each in found.residuals]
    assert found.products == operator.products
    with pytest.raises(SettingError, match=r"did not find 2 eigenvectors to 1e-12 in 1 restarts: leave out"):
        eigen.vectors(operator, 2, tol=1e-12, maxiter=1)


def test_eigenvectors_come_largest_first_and_with_one_sign() -> None:
    operator = with_values([-7, 1, 5, 3, 0, 2])
    found = eigen.vectors(operator, 2, tol=1e-10)
    for value, vector in zip((5, 3), found.T, strict=True):
        np.testing.assert_allclose(operator.matvec(vector), value * vector, atol=1e-8)
        assert np.linalg.norm(vector) == pytest.approx(1)
        assert vector[np.abs(vector).argmax()] > 0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_eigenvalues(size: int) -> None:
    values = [2.0, -3, 1, 0, 5][:size]
    found = eigen.largest(with_values(values), size)
    np.testing.assert_allclose(found.values, sorted(values, reverse=True), atol=1e-12)
    assert max(found.residuals[:1]) < 1e-12
    assert found.products == 2 * size


@pytest.mark.parametrize("k", [1, 3])
def test_an_operator_that_is_0(k: int) -> None:
    found = eigen.largest(Matrix(np.zeros((40, 40))), k)
    assert found.values == (0.0,) * k
    assert found.residuals == (0.0,) * k
    assert found.converged


def test_a_seed_fixes_the_start() -> None:
    operator = with_values([*np.linspace(0, 5, 60)])
    first, again, other = (eigen.largest(operator, seed=seed, tol=1e-3) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_sharpness_of_a_net() -> None:
    # Cross-entropy away from a minimum: the Hessian is indefinite.
    net, data = smooth(), examples()
    values = np.linalg.eigvalsh(explicit(net, cross_entropy, data))
    assert values[0] < -0.01
    operator = Hessian(net, cross_entropy, data)
    found = eigen.largest(operator, 4, tol=1e-10)
    np.testing.assert_allclose(found.values, values[:-5:-1], atol=1e-9)
    assert found.products == operator.gradients


def test_bad_input() -> None:
    operator = with_values([1, 2, 3])
    for k in (0, 4):
        with pytest.raises(SettingError, match=f"Wanted {k} eigenvalues of an operator that has 3"):
            eigen.largest(operator, k)
    with pytest.raises(SettingError, match="in at most 0 restarts"):
        eigen.largest(operator, maxiter=0)
    with pytest.raises(SettingError, match="not finite"):
        eigen.largest(Matrix(np.full((30, 30), np.nan)))

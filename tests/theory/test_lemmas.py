import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samgap.theory import smooth
from samgap.theory.lemmas import lemma_4, lemma_5
from samgap.theory.smooth import FAMILIES

many = settings(max_examples=1200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
cases = given(st.sampled_from(FAMILIES), st.integers(1, 3), st.integers(0, 2**32 - 1), st.floats(-3, 1))


@many
@cases
def test_lemma_4(family: str, count: int, seed: int, log_rho: float) -> None:
    functions, x = smooth.draw(family, count, np.random.default_rng(seed))
    mean = np.mean([function.gradient(x) for function in functions], axis=0)
    drawn = functions[0]
    assert lemma_4(drawn, mean, x, 10**log_rho / drawn.beta, drawn.beta) >= -1e-9


@many
@cases
def test_lemma_5(family: str, count: int, seed: int, log_rho: float) -> None:
    functions, x = smooth.draw(family, count, np.random.default_rng(seed))
    drawn = functions[0]
    assert lemma_5(drawn, x, 10**log_rho / drawn.beta, drawn.beta) >= -1e-9


def test_a_beta_that_is_too_small_is_caught() -> None:
    up, down = smooth.quadratic(np.eye(2)), smooth.quadratic(-np.eye(2))
    x = np.array([1.0, 2.0])
    assert lemma_5(up, x, 1, 1) == pytest.approx(0)
    assert lemma_5(up, x, 1, 0.5) < -0.1
    assert lemma_4(down, down.gradient(x), x, 1, 1) == pytest.approx(0)
    assert lemma_4(down, down.gradient(x), x, 1, 0.5) < -0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_values(family: str) -> None:
    rng, step = np.random.default_rng(3), 1e-6
    for _ in range(30):
        functions, x = smooth.draw(family, 1, rng)
        drawn = functions[0]
        numeric = [(drawn.value(x + step * e) - drawn.value(x - step * e)) / (2 * step) for e in np.eye(len(x))]
        np.testing.assert_allclose(drawn.gradient(x), numeric, atol=1e-7 * max(1, drawn.beta * np.linalg.norm(x) ** 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_hessian_exceeds_beta(family: str) -> None:
    rng, step, largest = np.random.default_rng(4), 1e-5, 0.0
    for _ in range(300):
        functions, x = smooth.draw(family, 1, rng)
        drawn = functions[0]
        hessian = np.stack(
            [(drawn.gradient(x + step * e) - drawn.gradient(x - step * e)) / (2 * step) for e in np.eye(len(x))]
        )
        largest = max(largest, float(np.abs(np.linalg.eigvalsh((hessian + hessian.T) / 2)).max()) / drawn.beta)
    assert 0.5 < largest <= 1 + 1e-4

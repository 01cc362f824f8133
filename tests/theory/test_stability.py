import itertools

import numpy as np
import pytest

from samgap.theory import instances, on_counterexamples, on_stability, suite
from samgap.theory import stability as linear
from samgap.theory.row import Setup
from samgap.theory.stability import Minimum

QUICK = Setup(draws=200)


def minimum(seed: int = 0, eta: float = 0.7, rho: float = 0.3) -> Minimum:
    factors = np.random.default_rng(seed).normal(size=(2, 3, 2))
    return Minimum(factors @ factors.transpose(0, 2, 1) / 3, eta, rho)


def test_the_poster_s_parts_of_the_expected_square_add_up() -> None:
    for seed, eta, rho in ((0, 0.7, 0.3), (1, 1, 0), (2, 0.2, 4)):
        each = minimum(seed, eta, rho)
        mean = linear.moment(each, 1)
        drift = np.eye(3) - eta * mean - eta * rho * mean @ mean
        parts = eta * (eta - 2 * rho), 2 * eta**2 * rho, (eta * rho) ** 2  # coefficients of the excess of order 2, 3, 4
        total = drift @ drift + sum(part * linear.excess(each, k) for k, part in enumerate(parts, start=2))
        np.testing.assert_allclose(linear.expected_square(each), total, rtol=1e-10, atol=1e-10)


def test_the_operator_is_the_mean_over_all_sequences_of_draws() -> None:
    each, start = minimum(), np.array([1.0, -2.0, 0.5])
    ends = []
    for draws in itertools.product(range(2), repeat=5):
        x = start
        for hessian in each.hessians[list(draws)]:
            x = x - each.eta * hessian @ (x + each.rho * hessian @ x)
        ends.append(x @ x)
    assert linear.expected(each, start, 5) == pytest.approx(np.mean(ends), rel=1e-12)
    power = np.linalg.matrix_power(linear.operator(each), 5) @ np.outer(start, start).ravel()
    assert power.reshape(3, 3).trace() == pytest.approx(np.mean(ends), rel=1e-12)
    np.testing.assert_allclose(linear.operator(each), linear.operator(each).T)


def test_simulation_agrees_with_the_operator() -> None:
    each, start = minimum(), np.array([1.0, -2.0, 0.5])
    squares = (linear.simulate(each, start, 5, 20_000, np.random.default_rng(1)) ** 2).sum(1)
    assert abs(squares.mean() - linear.expected(each, start, 5)) < 4 * squares.std() / np.sqrt(len(squares))


def test_flat_directions_are_left_out_of_the_radius() -> None:
    flat = Minimum(np.array([np.diag([1.0, 0.0])]), 0.5, 0)
    assert np.abs(np.linalg.eigvalsh(linear.operator(flat))).max() == pytest.approx(1)
    assert linear.spectral_radius(flat) == pytest.approx(0.25)


def test_a_minimum_can_be_made_from_its_steps() -> None:
    steps = linear.jacobians(minimum())
    again = linear.with_jacobians(steps, 0.7, 0.3)
    np.testing.assert_allclose(again.hessians, minimum().hessians, atol=1e-12)


def test_the_hand_made_instances_are_what_they_say() -> None:
    assert linear.spectral_radius(instances.five_quarters(1)) == pytest.approx(1)
    assert linear.ratio(instances.five_quarters(1), 2) == pytest.approx(5 / 4)
    for arms in (1, 2, 9):
        each = instances.fan(arms, 0, 1)
        assert linear.spectral_radius(each) == pytest.approx(1)
        assert linear.spread(each, 2) == pytest.approx(4 / 9 * (1 + np.sqrt(3 * arms - 2)))
    assert instances.flat_threshold(4 ** (-1 / 3)) == pytest.approx(4.8950, abs=1e-4)
    assert linear.spectral_radius(instances.sometimes_flat(5, 3, 6)) == pytest.approx(1)


HOLD = [statement for statement, (_, verdict) in suite.STATEMENTS.items() if verdict == "holds"]


@pytest.mark.parametrize(
    "statement", [each for each in HOLD if each.__module__ == on_stability.__name__], ids=lambda each: each.__name__
)
def test_what_holds(statement) -> None:
    row = statement(QUICK)
    assert row.verdict == "holds"
    assert row.control < 0


def test_the_bound_on_s_2_is_looser_for_sam() -> None:
    assert on_stability.tighter_variance(QUICK).verdict == "fails as stated"


COUNTEREXAMPLES = [
    on_counterexamples.variance_of_sgd,
    on_counterexamples.variance,
    on_counterexamples.third,
    on_counterexamples.fourth,
]


@pytest.mark.parametrize("statement", COUNTEREXAMPLES, ids=lambda statement: statement.__name__)
def test_strictly_stable_minima_beyond_a_bound(statement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_counterexamples, "LATE", 1500)
    monkeypatch.setattr(on_counterexamples, "RUNS", 1000)
    row = statement(QUICK)
    assert row.verdict == "fails as stated"
    assert all(case["ratio"] > 1 for case in row.instance.values())


def test_a_counterexample_that_does_not_verify_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_counterexamples, "LATE", 1500)
    monkeypatch.setattr(on_counterexamples, "RUNS", 1000)
    hessians = instances.PAIRS_SGD.hessians
    for factor, verdict in ((0.5, "holds"), (1.01, "unsettled")):  # one does not violate the bound; one is not stable
        monkeypatch.setattr(instances, "PAIRS_SGD", Minimum(factor * hessians, 1, 0))
        assert on_counterexamples.variance_of_sgd(QUICK).verdict == verdict


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        (on_counterexamples.unbounded, "holds"),
        (on_counterexamples.threshold, "holds"),
        (on_counterexamples.no_second, "void"),
        (on_counterexamples.indefinite, "fails as stated"),
        (on_counterexamples.never_negative, "holds"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_rest(statement, verdict: str) -> None:
    assert statement(QUICK).verdict == verdict

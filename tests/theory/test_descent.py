import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD

from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.theory import expectation, on_descent, on_limits, problems, rates
from samgap.theory.problems import Problem
from samgap.theory.rates import Constants
from samgap.theory.row import Setup

QUICK = Setup(draws=200)


def small() -> tuple[Problem, np.ndarray, float, float]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 3))
    each = problems.problem("small", rows, rng.normal(size=2))
    rho = rates.largest_rho(each.constants) / 2
    return each, rng.normal(size=3), rho, 20 * rates.best_step(each.constants, rho)


def test_the_exact_recursion_is_the_mean_over_all_sequences_of_draws() -> None:
    each, start, rho, eta = small()
    finals = []
    for draws in itertools.product(range(2), repeat=5):
        x = start
        for i in draws:
            row, offset = each.rows[i], each.offsets[i]
            half = x + rho * (row @ x - offset) * row
            x = x - eta * (row @ half - offset) * row
        finals.append(float(each.values(x)))
    tree = expectation.tree(each, start, rho, eta, 5)
    assert tree[5] == pytest.approx(np.mean(finals), rel=1e-12)
    ratios = expectation.worst_ratios(each, rho, eta, 5)
    assert (tree[1:] / tree[0] <= ratios + 1e-12).all()
    # The worst starting point of the first step attains its ratio.
    matrices = expectation.whitened(each, rho, eta)
    worst = np.linalg.eigh((matrices.transpose(0, 2, 1) @ matrices).mean(0))[1][:, -1]
    hessian = each.rows.T @ each.rows / 2
    values, basis = np.linalg.eigh(hessian)
    kept = values > 1e-10
    solution = np.linalg.lstsq(each.rows, each.offsets)[0]
    x = solution + basis[:, kept] @ (worst / np.sqrt(values[kept]))
    tree = expectation.tree(each, x, rho, eta, 1)
    assert tree[1] / tree[0] == pytest.approx(ratios[0], rel=1e-9)


def test_simulation_agrees_with_the_tree() -> None:
    each, start, rho, eta = small()
    mean, error = expectation.sampled(each, start, rho, eta, 5, 20_000, np.random.default_rng(1))
    assert abs(mean - expectation.tree(each, start, rho, eta, 5)[5]) < 4 * error


@pytest.mark.parametrize("link", [problems.SQUARE, problems.WAVY, problems.cosine(0.5)], ids=lambda link: link.name)
def test_a_step_is_that_of_the_optimizer(link: problems.Link) -> None:
    rng = np.random.default_rng(2)
    each = problems.problem("steps", rng.normal(size=(3, 4)), rng.normal(size=3), link)
    start, rho, eta = rng.normal(size=4), 0.07, 0.03
    outcomes = expectation.step(each, start, rho, eta)

    def phi(u: torch.Tensor) -> torch.Tensor:
        if link is problems.SQUARE:
            return u**2 / 2
        return u**2 + 3 * torch.sin(u) ** 2 if link is problems.WAVY else u**2 / 2 + 0.5 * (1 - torch.cos(u))

    for i in range(3):
        model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
        model.weight.data = torch.tensor(start[None, :])
        optimizer = SAMUnnormalized(SGD(model.parameters(), lr=eta), rho, model)

        def closure(i: int = i, model: nn.Linear = model, optimizer: SAMUnnormalized = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = phi(model(torch.tensor(each.rows[i])) - each.offsets[i]).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        np.testing.assert_allclose(model.weight.detach().numpy()[0], outcomes[i], rtol=0, atol=1e-12)


def test_links_meet_their_constants() -> None:
    u = np.linspace(-30, 30, 600_001)
    u = u[np.abs(u) > 1e-3]
    for link in (problems.SQUARE, problems.WAVY, problems.cosine(0.1), problems.cosine(0.9)):
        assert (link.slope(u) ** 2 / link.value(u)).min() >= link.polyak * (1 - 1e-9)
        second = np.gradient(link.slope(u), u)
        assert np.abs(second).max() <= link.curvature * (1 + 1e-6)
        numeric = np.gradient(link.value(u), u)
        np.testing.assert_allclose(numeric[1:-1], link.slope(u)[1:-1], atol=1e-3)


def test_problems_meet_their_constants() -> None:
    rng = np.random.default_rng(5)
    for each in [*problems.least_squares(rng, 10), *problems.curved(rng)]:
        points = rng.normal(size=(500, each.rows.shape[1])) * 3
        gradients = each.gradients(points).mean(-2)
        assert ((gradients**2).sum(-1) >= each.constants.alpha * each.values(points) * (1 - 1e-9)).all()
        moved = each.gradients(points + 1e-3)
        assert (np.linalg.norm(moved.mean(-2) - gradients, axis=-1) <= each.constants.lam * (1 + 1e-6)).all()
        shift = np.linalg.norm(np.full(each.rows.shape[1], 1e-3))
        assert (np.linalg.norm(moved - each.gradients(points), axis=-1) <= each.constants.beta * shift * 1.000001).all()


def test_a_problem_without_a_solution_or_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="no point interpolates"):
        problems.problem("contradiction", np.ones((2, 1)), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="rows of full rank"):
        problems.problem("double", np.ones((2, 1)), np.zeros(2), problems.WAVY)


def test_the_step_of_the_theorem_minimizes_the_bracket() -> None:
    constants = Constants(2.0, 1.5, 0.7)
    rho = rates.largest_rho(constants) / 3
    eta = rates.best_step(constants, rho)
    best = rates.factor(constants, rho)
    assert rates.factor_at(constants, rho, eta) == pytest.approx(best)
    assert all(rates.factor_at(constants, rho, eta * by) > best for by in (0.9, 1.1))
    assert rates.best_step(constants, rates.largest_rho(constants)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    "statement", [on_descent.quadratics, on_descent.curves, on_descent.general_step, on_descent.attained]
)
def test_theorem_6_holds(statement) -> None:
    row = statement(QUICK)
    assert row.verdict == "holds"
    assert row.control < 0


def test_theorem_6_fails_with_f_as_the_sum() -> None:
    row = on_limits.as_a_sum(QUICK)
    assert row.verdict == "fails as stated"
    assert (row.instance["eta"], row.instance["factor"], row.instance["true"]) == (1, -9, 0)


def test_theorem_6_fails_without_the_sign() -> None:
    row = on_limits.without_sign(QUICK)
    assert row.verdict == "fails as stated"
    assert row.instance["factor"] == pytest.approx(2 / 3)
    assert row.instance["true"] == pytest.approx(8 / 9)


def test_theorem_6_is_void_beyond_its_limit() -> None:
    row = on_limits.beyond(QUICK)
    assert row.verdict == "void"
    assert row.instance["diverges_from_times_the_limit"]["10 copies of x^2/2"] == pytest.approx(8)

"""Rows on lemmas 4 and 5 of arXiv 2311.17539 (poster), for random functions of three families with known beta.

Both lemmas are about one step of un-normalized stochastic SAM from x with draw i. Its ascent ends at
x + rho grad f_i(x).
"""

from collections.abc import Callable, Iterator

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.row import Row, Setup
from samgap.theory.smooth import FAMILIES, Smooth, draw

Slack = Callable[[Smooth, Array, Array, float, float], float]


def fourth(setup: Setup) -> Row:
    """Lemma 4."""
    return _row("lemma 4", "<gi(x + rho gi), g> >= <gi, g> - beta rho (|gi|^2 + |g|^2) / 2", lemma_4, setup, 4)


def fifth(setup: Setup) -> Row:
    """Lemma 5."""
    statement = "|gi(x + rho gi)|^2 <= (1 + beta rho)^2 |gi|^2"
    return _row("lemma 5", statement, lambda f, _, x, rho, beta: lemma_5(f, x, rho, beta), setup, 5)


def _row(name: str, statement: str, slack: Slack, setup: Setup, stream: int) -> Row:
    right, wrong = [], []
    for drawn, mean, x, rho in _points(setup, stream):
        right.append(slack(drawn, mean, x, rho, drawn.beta))
        wrong.append(slack(drawn, mean, x, rho, drawn.beta / 2))
    margin, control = min(right), min(wrong)
    evidence = f"{len(right)} functions; least room as a share of the terms; control: beta halved"
    return Row.tested(name, statement, "poster", margin, control, evidence)


def _points(setup: Setup, stream: int) -> Iterator[tuple[Smooth, Array, Array, float]]:
    # f is the mean of one to three functions. With one, grad f_i = grad f, and lemma 4 is tight.
    rng = setup.rng(stream)
    for number in range(setup.draws):
        functions, x = draw(FAMILIES[number % len(FAMILIES)], int(rng.integers(1, 4)), rng)
        mean = np.mean([function.gradient(x) for function in functions], axis=0)
        yield functions[0], mean, x, 10 ** rng.uniform(-3, 1) / functions[0].beta


def lemma_4(drawn: Smooth, mean: Array, x: Array, rho: float, beta: float) -> float:
    """Slack of <grad f_i(x + rho grad f_i), grad f> >= <grad f_i, grad f> - beta rho (|grad f_i|^2 + |grad f|^2) / 2.

    Args:
        drawn: f_i.
        mean: grad f(x).
        x: the point.
        rho: radius of the ascent.
        beta: the assumed smoothness of f_i.

    Returns:
        (left - right) / (|grad f_i| |grad f| + the subtracted terms); negative if the lemma is violated.
    """
    own = drawn.gradient(x)
    lost = beta * rho * (own @ own + mean @ mean) / 2
    slack = drawn.gradient(x + rho * own) @ mean - own @ mean + lost
    return float(slack / (np.linalg.norm(own) * np.linalg.norm(mean) + lost + 1e-300))


def lemma_5(drawn: Smooth, x: Array, rho: float, beta: float) -> float:
    """Slack of |grad f_i(x + rho grad f_i)|^2 <= (1 + beta rho)^2 |grad f_i|^2, as a share of the right side."""
    own = drawn.gradient(x)
    after = drawn.gradient(x + rho * own)
    return float(1 - after @ after / ((1 + beta * rho) ** 2 * (own @ own) + 1e-300))

"""Rows on lemmas 4 and 5, for random functions of three families with known beta."""

from collections.abc import Callable, Iterator

import numpy as np

from samgap.theory.arrays import Array
from samgap.theory.lemmas import lemma_4, lemma_5
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

"""The figure of the theory: the rate of theorem 6 and the exact rate, and stable minima that violate the bounds (7)."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samgap import style
from samgap.theory import expectation, instances, rates
from samgap.theory import stability as linear
from samgap.theory.problems import least_squares
from samgap.theory.row import Setup

CLOUD = 300  # number of random minima in the background


def draw(setup: Setup) -> Figure:
    """Draw two panels. Call it inside `style.style()`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 5.37), layout="constrained")  # three rows of legends
    _rates(left, setup)
    _stable(right, setup)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    figure.suptitle(
        "Un-normalized SAM: theorem 6 holds; minima beyond the bounds (7b) to (7d) can be stable", fontweight="bold"
    )
    return figure


def _rates(axes: Axes, setup: Setup) -> None:
    names = ("10 copies of x^2/2", "overparameterized", "orthogonal", "one strong, many weak")
    problems = [problem for problem in least_squares(setup.rng(61), 0) if problem.name in names]
    shares = np.linspace(0, 0.99, 34)
    for problem, look in zip(problems, style.looks(len(problems)), strict=True):
        radii = shares * rates.largest_rho(problem.constants)
        steps = [rates.best_step(problem.constants, rho) for rho in radii]
        pairs = list(zip(radii, steps, strict=True))
        exact = [1 - expectation.worst_ratios(problem, rho, eta, 1)[0] for rho, eta in pairs]
        claimed = [1 - rates.factor(problem.constants, rho) for rho in radii]
        axes.plot(shares, exact, color=look.color, marker=look.marker, markevery=6, label=problem.name)
        axes.plot(shares, claimed, color=look.color, linestyle="--")
    axes.plot([], [], color="#404040", linestyle="--", label="what theorem 6 promises (dashed)")
    axes.set_yscale("log")
    axes.set(
        xlabel="ρ as a share of the theorem's limit",
        ylabel="1 − E f(x₁) / f(x₀), worst start",
        title="theorem 6: progress of a step on least squares",
    )


def _stable(axes: Axes, setup: Setup) -> None:
    rng, looks = setup.rng(90), style.looks(5)
    cloud = [instances.random_minimum(rng, 0.1) for _ in range(CLOUD)]
    axes.scatter(
        [linear.ratio(minimum, 2) for minimum in cloud], [linear.spectral_radius(minimum) for minimum in cloud],
        s=9, color=style.PUBLISHED, alpha=0.6, label="random, s₂, ρ = 0.1η",
    )  # fmt: skip
    groups = {
        "d = 2, s₂: SGD, ρ = 0.02η": ([(instances.PAIRS_SGD, 2), (instances.PAIRS_SAM, 2)], looks[0]),
        "family, d = 3 to 25, s₂, ρ = 0": ([(instances.fan(k, 0, 0.98), 2) for k in (2, 4, 8, 16, 24)], looks[1]),
        "family, d = 4 to 25, s₃, ρ = 0.4η": ([(instances.fan(k, 0.4, 0.96), 3) for k in (3, 6, 12, 24)], looks[2]),
        "d = 1, s₄, ρ = 6η to 100η": (
            [(instances.sometimes_flat(5, 3, rho, 0.99), 4) for rho in (6, 10, 30, 100)], looks[4]
        ),
    }  # fmt: skip
    for label, (cases, look) in groups.items():
        ratios = [linear.ratio(minimum, order) for minimum, order in cases]
        radii = [linear.spectral_radius(minimum) for minimum, _ in cases]
        axes.scatter(ratios, radii, s=48, color=look.color, marker=look.marker, label=label, zorder=3)
    axes.axvline(1, color="#606060", linewidth=0.8)
    axes.axhline(1, color="#606060", linewidth=0.8)
    axes.fill_between([1, 6], 0.5, 1, color="#E69F00", alpha=0.12, linewidth=0)
    axes.text(1.6, 0.56, "stable, though beyond the bound")
    axes.set(
        xlim=(0, 6), ylim=(0.5, 1.5), xlabel="sₖᵏ as a multiple of its bound",
        ylabel="spectral radius (below 1: stable)", title="bounds (7b) to (7d) and stability",
    )  # fmt: skip

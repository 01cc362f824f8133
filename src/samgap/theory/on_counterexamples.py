"""Rows on the stability bounds (7) of the poster that stable minima violate, or that are void.

A counterexample is valid if it is strictly stable by the exact operator, its Hessians are positive semidefinite, and
simulated E|x_t - x*|^2 agrees with the exact value after `EARLY` steps and is small after `LATE` steps.
"""

from collections.abc import Mapping

import numpy as np

from samgap.theory import instances
from samgap.theory import stability as linear
from samgap.theory.row import ROUNDING, Row, Setup, judged, refuted, shown, smallest, void
from samgap.theory.stability import Minimum

# After step `EARLY`, rare large values dominate the mean, and its standard error is no longer reliable.
EARLY, LATE, RUNS = 4, 3000, 2000
FANS = (2, 6, 12, 24)


def variance_of_sgd(setup: Setup) -> Row:
    """(7b) at rho = 0."""
    minima = {
        "d=2": instances.PAIRS_SGD,
        "d=2, by hand": instances.five_quarters(0.99),
        "d=3": instances.fan(2, 0, 0.99),
    }
    return _violated("(7b) of SGD", "s_2^2 <= 1 / eta^2", 2, minima, setup)


def variance(setup: Setup) -> Row:
    """(7b) with eta > 2 rho."""
    minima = {"d=2, rho=0.02": instances.PAIRS_SAM, "d=9, rho=0.1": instances.fan(8, 0.1, 0.99)}
    return _violated("(7b)", "s_2^2 <= 1 / (eta (eta - 2 rho))", 2, minima, setup)


def third(setup: Setup) -> Row:
    """(7c)."""
    minima = {"d=3, rho=0.4": instances.PAIRS_S3, "d=4, rho=0.4": instances.fan(3, 0.4, 0.99)}
    return _violated("(7c)", "s_3^3 <= 1 / (2 eta^2 rho)", 3, minima, setup)


def fourth(setup: Setup) -> Row:
    """(7d), in one dimension above a threshold of rho and in several below it."""
    minima = {
        "d=1, rho=6": instances.sometimes_flat(5, 3, 6, 0.999),
        "d=1, rho=100": instances.sometimes_flat(5, 3, 100, 0.999),
        "d=2, rho=3": instances.PAIRS_S4,
        "d=17, rho=0.4": instances.fan(16, 0.4, 0.995),
    }
    return _violated("(7d)", "s_4^4 <= 1 / (eta^2 rho^2)", 4, minima, setup)


def _violated(name: str, statement: str, order: int, minima: Mapping[str, Minimum], setup: Setup) -> Row:
    ratios = {key: linear.ratio(minimum, order) for key, minimum in minima.items()}
    radii = {key: linear.spectral_radius(minimum) for key, minimum in minima.items()}
    trials = {key: simulated(minimum, setup) for key, minimum in minima.items()}
    supported = all(radii[key] < 1 and semidefinite(minimum) and trials[key] for key, minimum in minima.items())
    margin = 1 - smallest(ratios.values())
    listed = "; ".join(f"{key}: {ratios[key]:.3f} of it, radius {radii[key]:.4f}" for key in minima)
    agree = "simulation agrees" if all(trials.values()) else "simulation disagrees"
    return Row(
        name, f"{statement} at a linearly stable minimum", "poster", refuted(margin, supported), margin, None,
        f"{listed}; {agree}", {key: shown(minimum) | {"ratio": ratios[key]} for key, minimum in minima.items()},
    )  # fmt: skip


def semidefinite(minimum: Minimum) -> bool:
    """Return whether all Hessians are positive semidefinite, up to rounding."""
    return float(np.linalg.eigvalsh(minimum.hessians).min()) >= -ROUNDING


def simulated(minimum: Minimum, setup: Setup) -> bool:
    """Return whether simulated E|x_t|^2 is within 4 s.e. of the exact value early and below |x_0|^2 / 2 late."""
    rng = setup.rng(80)
    start = np.linalg.eigh(linear.expected_square(minimum))[1][:, -1]
    early = (linear.simulate(minimum, start, EARLY, 10 * RUNS, rng) ** 2).sum(1)
    error = float(early.std(ddof=1)) / np.sqrt(len(early))
    exact = linear.expected(minimum, start, EARLY)
    late = (linear.simulate(minimum, start, LATE, RUNS, rng) ** 2).sum(1).mean()
    return bool(abs(early.mean() - exact) <= 4 * error + ROUNDING and late < 0.5)


def unbounded(setup: Setup) -> Row:
    """No multiple of the bounds holds: the family `fan` violates them by a factor that grows with dimension."""
    growing = {
        (order, rho): [linear.ratio(instances.fan(arms, rho, 0.99), order) for arms in FANS]
        for order, rho in ((2, 0.0), (3, 0.4), (4, 0.4))
    }
    stable = max(linear.spectral_radius(instances.fan(arms, rho, 0.99)) for arms in FANS for rho in (0, 0.4)) < 1
    # The margin requires growth like the fourth root of the dimension, which doubles between the last two.
    growth = smallest(values[-1] / values[-2] for values in growing.values())
    margin = min(growth - 2**0.25, smallest(values[-1] for values in growing.values()) - 1)
    control = growth - 2
    listed = "; ".join(
        f"s_{k} rho={rho:g}: {', '.join(f'{v:.2f}' for v in values)}" for (k, rho), values in growing.items()
    )
    evidence = (
        f"d = {', '.join(str(arms + 1) for arms in FANS)}: {listed} of the bound; margin: of the last above 1, and of "
        "its growth by a doubling above a fourth root; control: growth like the dimension"
    )
    statement = "no constant times (7b) of SGD, (7c), (7d) bounds all strictly stable minima: a family outgrows any"
    verdict = judged(margin, control) if stable else "unsettled"
    return Row("(7b-d), any constant", statement, "ours", verdict, margin, control, evidence)


def threshold(setup: Setup) -> Row:
    """The rho above which one dimension with flat functions violates (7d), in closed form."""
    claimed, best = instances.flat_threshold(5 / 8), 4 ** (-1 / 3)

    def shares(rho: float) -> tuple[float, float]:
        """Return s_4^4 as a share of its bound, just below and just above `rho`."""
        below, above = (linear.ratio(instances.sometimes_flat(5, 3, rho * by), 4) for by in (0.999, 1.001))
        return below, above

    below, above = shares(claimed)
    others = [shares(by * claimed) for by in (0.99, 1.01)]
    margin, control = min(1 - below, above - 1), max(min(1 - low, high - 1) for low, high in others)
    evidence = (
        f"Hessians 0 and h, 3 to 5: {claimed:.4f}, share {below:.4f} just below, {above:.4f} just above; "
        f"best mixture {instances.flat_threshold(best):.4f}; large rho: up to {4 * (best - best**4):.3f}; "
        "control: a threshold 1 % off"
    )
    statement = (
        "one dimension, Hessians 0 and h: (7d) is broken exactly from rho = k eta / (2 - k)^2, k = (p - p^4)^(-1/2)"
    )
    return Row.tested("(7d), threshold", statement, "ours", margin, control, evidence)


def no_second(setup: Setup) -> Row:
    """(7b) with eta <= 2 rho."""
    bounds = [1 / (1 - 2 * rho) if rho != 0.5 else np.inf for rho in (0.5, 0.6, 1)]
    stable = [instances.sometimes_flat(1, 1, rho, 0.9) for rho in (0.5, 0.6, 1)]
    vacuous = all(bound == np.inf or bound < 0 for bound in bounds)
    supported = max(map(linear.spectral_radius, stable)) < 1 and min(linear.spread(m, 2) for m in stable) > 0
    evidence = (
        f"eta 1, rho 0.5, 0.6, 1: bound {', '.join(f'{b:.3g}' for b in bounds)}, yet stable minima with s_2 > 0 exist"
    )
    return Row("(7b), eta <= 2 rho", "(7b) for eta <= 2 rho", "poster", void(vacuous, supported), 0, None, evidence)


def indefinite(setup: Setup) -> Row:
    """M_3 - H^3 may be indefinite, so s_3 is defined by its largest eigenvalue, with its sign."""
    values = np.linalg.eigvalsh(linear.excess(instances.INDEFINITE, 3))
    margin = float(values[0] / values[-1])
    evidence = f"A +- B, A = diag(20, 3), B = (0, 1; 1, 2): eigenvalues {values[0]:.3f} and {values[-1]:.3f}"
    verdict = refuted(margin, semidefinite(instances.INDEFINITE))
    statement = "M_3 - H^3 is positive semidefinite, as a cube root of it would have it"
    return Row("s_3, sign", statement, "ours", verdict, margin, None, evidence, shown(instances.INDEFINITE))


def never_negative(setup: Setup) -> Row:
    """The signed root is never negative, since the trace of a cube is convex on positive semidefinite matrices."""
    rng = setup.rng(81)
    shares, wrong = list[float](), list[float]()
    for _ in range(setup.draws):
        values = np.linalg.eigvalsh(linear.excess(instances.random_minimum(rng, 0), 3))
        size = max(np.abs(values).max(), ROUNDING)
        shares.append(float(values[-1] / size))
        wrong.append(float(values[0] / size))
    evidence = (
        f"{setup.draws} minima, least share of the largest |eigenvalue|; control: the smallest eigenvalue instead"
    )
    statement = "lambda_max(M_3 - H^3) >= 0, so the signed root s_3 >= 0"
    return Row.tested("s_3, least", statement, "ours", smallest(shares), smallest(wrong), evidence)

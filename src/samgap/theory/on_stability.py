"""Rows on the stability bounds (7) of the poster that hold: (7a) always, the others if Hessians commute."""

import numpy as np

from samgap.theory import instances
from samgap.theory import stability as linear
from samgap.theory.arrays import largest_eigenvalue
from samgap.theory.row import ROUNDING, Row, Setup, judged, refuted, smallest
from samgap.theory.stability import Minimum

STABLE = "at a linearly stable minimum"


def sharpest(setup: Setup) -> Row:
    """(7a): a (1 + rho a) <= 2 / eta."""
    return _sharpness("(7a)", f"a (1 + rho a) <= 2 / eta {STABLE}", setup, 74, (0.05, 0.4, 2))


def sharpest_of_sgd(setup: Setup) -> Row:
    """(7a) at rho = 0: a <= 2 / eta."""
    return _sharpness("(7a) of SGD", f"a <= 2 / eta {STABLE} of SGD", setup, 72, (0,))


def _sharpness(name: str, statement: str, setup: Setup, stream: int, radii: tuple[float, ...]) -> Row:
    rng = setup.rng(stream)
    drawn = [
        instances.scaled_to_sharpness(instances.random_minimum(rng, rho), rng.uniform(0.3, 1.5))
        for rho in radii
        for _ in range(setup.draws // len(radii))
    ]
    # Equal Hessians attain the bound, so these would violate a bound that is too low.
    drawn += [instances.sometimes_flat(2, 0, rho, 0.999) for rho in radii]
    stable = [linear.sharpness(minimum) for minimum in drawn if linear.spectral_radius(minimum) <= 1]
    outside = [minimum for minimum in drawn if linear.sharpness(minimum) > 1]
    margin, control = 1 - max(stable), 0.95 - max(stable)
    agree = all(_mean_grows(minimum, rng) for minimum in outside[:: max(1, len(outside) // 10)][:10])
    verdict = judged(margin, control) if agree else "unsettled"
    evidence = (
        f"{len(stable)} stable minima, largest {max(stable):.4f} of it; {len(outside)} beyond it: radius at least "
        f"{smallest(map(linear.spectral_radius, outside)):.3f}, of ten the simulated mean "
        f"{'grows as it should' if agree else 'does not grow'}; control: bound 0.95 times"
    )
    return Row(name, statement, "poster", verdict, margin, control, evidence)


def _mean_grows(minimum: Minimum, rng: np.random.Generator, steps: int = 4) -> bool:
    """Return whether the mean of simulated x_t grows like the t-th power of the mean Jacobian, within 5 s.e."""
    values, vectors = np.linalg.eigh(linear.jacobians(minimum).mean(0))
    worst = int(np.abs(values).argmax())
    start, exact = vectors[:, worst], float(values[worst]) ** steps
    along = linear.simulate(minimum, start, steps, 4000, rng) @ start
    error = float(along.std(ddof=1)) / np.sqrt(len(along))
    return abs(exact) > 1 and bool(abs(along.mean() - exact) <= 5 * error + ROUNDING * abs(exact))


def commuting(setup: Setup) -> Row:
    """(7b) to (7d) for commuting Hessians and eta > 2 rho."""
    rng, largest = setup.rng(75), dict.fromkeys(linear.ORDERS, 0.0)
    drawn = [instances.commuting(rng, rng.choice([0, 0.01, 0.1, 0.3, 0.49])) for _ in range(setup.draws)]
    near = [
        instances.sometimes_flat(1, 1, 0),
        instances.sometimes_flat(1, 1, 0.01),
        instances.sometimes_flat(5, 3, 0.49),
    ]
    stable = [minimum for minimum in drawn + near if linear.spectral_radius(minimum) <= 1 + 1e-12]
    for minimum in stable:
        largest = {order: max(largest[order], linear.ratio(minimum, order)) for order in linear.ORDERS}
    margin, worst = 1 - max(largest.values()), max(largest, key=lambda order: largest[order])
    listed = ", ".join(f"s_{order} {value:.3f}" for order, value in largest.items())
    evidence = (
        f"{len(stable)} stable minima; largest share of its bound: {listed}; control: bound of s_{worst} 0.95 times"
    )
    statement = f"(7b), (7c), (7d) {STABLE} with commuting Hessians and eta > 2 rho"
    return Row.tested("(7b-d), commuting", statement, "ours", margin, margin - 0.05, evidence)


def commuting_variance(setup: Setup) -> Row:
    """For commuting Hessians, SGD's bound on s_2 holds for SAM with any rho. It is sharper than (7b)."""
    rng = setup.rng(76)
    drawn = [instances.commuting(rng, rng.choice([0.01, 0.1, 0.3, 0.49, 1, 5])) for _ in range(setup.draws)]
    drawn += [instances.sometimes_flat(1, 1, rho) for rho in (1e-3, 0.1, 1)]
    shares = [m.eta**2 * linear.spread(m, 2) for m in drawn if linear.spectral_radius(m) <= 1 + 1e-12]
    margin = 1 - max(shares)
    evidence = f"{len(shares)} stable minima, rho to 5 eta; largest share {max(shares):.3f}; control: bound 0.95 times"
    statement = f"s_2^2 <= 1 / eta^2 {STABLE} with commuting Hessians, whatever rho"
    return Row.tested("s_2, commuting", statement, "ours", margin, margin - 0.05, evidence)


def one_step(setup: Setup) -> Row:
    """(7b) to (7d) under the condition that the poster's proof uses: E A^2 <= 1, so that every step contracts."""
    rng = setup.rng(77)
    drawn = [instances.random_minimum(rng, rng.choice([0, 0.02, 0.1, 0.3, 0.49])) for _ in range(setup.draws)]
    drawn += [instances.sometimes_flat(1, 1, rho) for rho in (0, 0.01)]
    kept = [minimum for minimum in drawn if largest_eigenvalue(linear.expected_square(minimum)) <= 1 + 1e-12]
    largest = max(linear.ratio(minimum, order) for minimum in kept for order in linear.ORDERS)
    of_sam = max(linear.ratio(minimum, order) for minimum in kept if minimum.rho for order in linear.ORDERS)
    evidence = (
        f"{len(kept)} minima, largest share of a bound {largest:.3f}, with rho > 0 {of_sam:.3f}; proved for SGD's s_2 "
        "only; control: with rho > 0, bounds 0.9 times"
    )
    statement = "(7b), (7c), (7d) where one step contracts E|x - x*|^2 from every start, eta > 2 rho"
    return Row.tested("(7b-d), one step", statement, "its proof", 1 - largest, 0.9 - of_sam, evidence)


def square_root(setup: Setup) -> Row:
    """Stability implies lambda_max(E A^2) <= sqrt(rank) for one step."""
    rng = setup.rng(78)
    drawn = [instances.random_minimum(rng, rng.choice([0, 0.1, 1])) for _ in range(setup.draws)]
    drawn += [instances.fan(arms, 0, 1) for arms in (2, 6, 16)]
    shares, factors = list[float](), list[float]()
    for minimum in map(linear.on_range, drawn):
        if linear.spectral_radius(minimum) <= 1 + 1e-12:
            factors.append(largest_eigenvalue(linear.expected_square(minimum)))
            shares.append(factors[-1] / np.sqrt(minimum.hessians.shape[1]))
    margin, control = 1 - max(shares), 1 - max(factors)
    evidence = (
        f"{len(shares)} stable minima; largest lambda_max(E A^2) {max(factors):.3f}, {max(shares):.3f} of the bound; "
        "control: without sqrt(r)"
    )
    statement = f"lambda_max(E A^2) <= sqrt(r) {STABLE}, r the rank of H; so s_2^2 <= sqrt(r) / eta^2 for SGD"
    return Row.tested("one step, repaired", statement, "ours", margin, control, evidence)


def tighter_sharpness(setup: Setup) -> Row:
    """SAM's bound on a, compared with SGD's."""
    radii = np.concatenate([[0], np.geomspace(1e-3, 1e3, setup.draws)])
    limits = np.array([linear.largest_curvature(1, rho) for rho in radii])
    margin = float((limits[:-1] - limits[1:]).min())
    seconds = np.array([linear.bound(2, 1, rho) for rho in radii if rho < 0.5])
    control = float((seconds[:-1] - seconds[1:]).min())
    evidence = (
        f"2/eta at rho = 0, {linear.largest_curvature(1, 0.1):.3f}/eta at 0.1 eta, "
        f"{linear.largest_curvature(1, 1):.3f}/eta at eta, falling throughout; control: the same of (7b)"
    )
    statement = "(7a) allows less a with SAM than with SGD: (sqrt(1 + 8 rho/eta) - 1) / (2 rho) falls with rho"
    return Row.tested("SAM tighter, a", statement, "poster", margin, control, evidence)


def tighter_variance(setup: Setup) -> Row:
    """SAM's bound on s_2, compared with SGD's."""
    radii = np.linspace(0.01, 0.49, 49)
    sgd, sam = linear.bound(2, 1, 0), np.array([linear.bound(2, 1, rho) for rho in radii])
    margin = smallest((sgd - sam) / sam)
    evidence = f"1/(eta (eta - 2 rho)) > 1/eta^2: {linear.bound(2, 1, 0.1):.2f} against {sgd:g} at eta 1, rho 0.1"
    statement = "(7b) allows less s_2 with SAM than with SGD"
    verdict = refuted(margin, bool(np.isfinite(sam).all()))
    return Row("SAM tighter, s_2", statement, "poster", verdict, margin, None, evidence)

"""All rows, and the verdict that docs/theory.md publishes for each."""

from collections.abc import Callable

from samgap.theory import on_counterexamples, on_descent, on_lemmas, on_limits, on_stability
from samgap.theory.row import Row, Setup, Verdict

# The command fails if a row has another verdict, for example because its counterexample is invalid.
STATEMENTS: dict[Callable[[Setup], Row], tuple[str, Verdict]] = {
    on_lemmas.fourth: ("lemma 4", "holds"),
    on_lemmas.fifth: ("lemma 5", "holds"),
    on_descent.quadratics: ("theorem 6", "holds"),
    on_descent.curves: ("theorem 6, not quadratic", "holds"),
    on_descent.general_step: ("theorem 6, any step", "holds"),
    on_descent.attained: ("theorem 6, tight", "holds"),
    on_limits.as_a_sum: ("theorem 6, f the sum", "fails as stated"),
    on_limits.without_sign: ("theorem 6, some f_i < 0", "fails as stated"),
    on_limits.beyond: ("theorem 6, larger rho", "void"),
    on_stability.sharpest: ("(7a)", "holds"),
    on_stability.sharpest_of_sgd: ("(7a) of SGD", "holds"),
    on_stability.commuting: ("(7b-d), commuting", "holds"),
    on_stability.commuting_variance: ("s_2, commuting", "holds"),
    on_stability.one_step: ("(7b-d), one step", "holds"),
    on_stability.square_root: ("one step, repaired", "holds"),
    on_stability.tighter_sharpness: ("SAM tighter, a", "holds"),
    on_stability.tighter_variance: ("SAM tighter, s_2", "fails as stated"),
    on_counterexamples.variance_of_sgd: ("(7b) of SGD", "fails as stated"),
    on_counterexamples.variance: ("(7b)", "fails as stated"),
    on_counterexamples.third: ("(7c)", "fails as stated"),
    on_counterexamples.fourth: ("(7d)", "fails as stated"),
    on_counterexamples.unbounded: ("(7b-d), any constant", "holds"),
    on_counterexamples.threshold: ("(7d), threshold", "holds"),
    on_counterexamples.no_second: ("(7b), eta <= 2 rho", "void"),
    on_counterexamples.indefinite: ("s_3, sign", "fails as stated"),
    on_counterexamples.never_negative: ("s_3, least", "holds"),
}
PUBLISHED = dict(STATEMENTS.values())


def check(setup: Setup) -> list[Row]:
    """Compute all rows, in the order of docs/theory.md."""
    return [statement(setup) for statement in STATEMENTS]


def surprises(rows: list[Row]) -> list[str]:
    """Return a sentence for each row that differs from its published verdict."""
    return [
        f"{row.name}: {row.verdict}, published is {PUBLISHED.get(row.name)}"
        for row in rows
        if row.verdict != PUBLISHED.get(row.name)
    ]

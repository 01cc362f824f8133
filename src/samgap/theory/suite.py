"""All rows, and the verdict that docs/theory.md publishes for each."""

from samgap.theory import on_counterexamples, on_descent, on_lemmas, on_limits, on_stability
from samgap.theory.row import Row, Setup, Verdict

STATEMENTS = (
    on_lemmas.fourth,
    on_lemmas.fifth,
    on_descent.quadratics,
    on_descent.curves,
    on_descent.general_step,
    on_descent.attained,
    on_limits.as_a_sum,
    on_limits.without_sign,
    on_limits.beyond,
    *on_stability.ROWS,
    *on_counterexamples.ROWS,
)

# A row with another verdict, such as an invalid counterexample, makes the command fail.
PUBLISHED: dict[str, Verdict] = {
    "lemma 4": "holds",
    "lemma 5": "holds",
    "theorem 6": "holds",
    "theorem 6, not quadratic": "holds",
    "theorem 6, any step": "holds",
    "theorem 6, tight": "holds",
    "theorem 6, f the sum": "fails as stated",
    "theorem 6, some f_i < 0": "fails as stated",
    "theorem 6, larger rho": "void",
    "(7a)": "holds",
    "(7a) of SGD": "holds",
    "(7b-d), commuting": "holds",
    "s_2, commuting": "holds",
    "(7b-d), one step": "holds",
    "one step, repaired": "holds",
    "SAM tighter, a": "holds",
    "SAM tighter, s_2": "fails as stated",
    "(7b) of SGD": "fails as stated",
    "(7b)": "fails as stated",
    "(7c)": "fails as stated",
    "(7d)": "fails as stated",
    "(7b-d), any constant": "holds",
    "(7d), threshold": "holds",
    "(7b), eta <= 2 rho": "void",
    "s_3, sign": "fails as stated",
    "s_3, least": "holds",
}


def check(setup: Setup) -> list[Row]:
    """All rows, in the order of docs/theory.md."""
    return [statement(setup) for statement in STATEMENTS]


def surprises(rows: list[Row]) -> list[str]:
    """A sentence for each row that differs from its published verdict."""
    return [
        f"{row.name}: {row.verdict}, published is {PUBLISHED.get(row.name)}"
        for row in rows
        if row.verdict != PUBLISHED.get(row.name)
    ]

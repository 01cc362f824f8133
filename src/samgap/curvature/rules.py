"""Valid values of the keys of conf/probe/, by the name of the probe."""

from samgap.rules import ABOVE_0, Rule, count

DIRECTIONS = ("eigen", "raw", "filter")
EXAMPLES = count(1).or_null(" for all")
LANCZOS = {"tol": ABOVE_0, "maxiter": count(1), "seed": count(0)}


def _some_of(options: tuple[object, ...]) -> Rule:
    return Rule(
        lambda value: (
            isinstance(value, list)
            and value != []
            and all(any(item == option and type(item) is type(option) for option in options) for item in value)
            and len({*value}) == len(value)
        ),
        f"a list of some of {', '.join(map(str, options))}, each once",
    )


RULES = {
    "hessian": {
        "examples": EXAMPLES,
        "eigenvalues": count(1),
        "samples": Rule(lambda value: type(value) is int and (value == 0 or value >= 2), "0 or a whole number from 2"),
        **LANCZOS,
    },
    "landscape": {
        "examples": EXAMPLES,
        "reach": ABOVE_0,
        "points": Rule(lambda value: type(value) is int and value >= 3 and value % 2 == 1, "an odd number from 3"),
        "directions": _some_of(DIRECTIONS),
        "seed": count(0),
    },
    "moments": {
        "examples": count(2).or_null(" for all"),
        "orders": _some_of((2, 3, 4)),
        **LANCZOS,
    },
}

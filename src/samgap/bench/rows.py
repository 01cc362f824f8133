"""A row of the bench: a number of samgap's, compared with that of another implementation or with a bound."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A comparison. The ratio is what counts; absolute numbers depend on the machine."""

    what: str  # what was measured
    against: str  # what it is compared with
    ours: float  # in `unit`
    peer: float  # of `against`, in `unit`
    unit: str
    ratio: float  # ours / peer
    goal: float | None  # upper limit of the ratio
    n: int  # number of pairs
    note: str = ""
    profile: str = ""  # where the time of a run goes, if the goal is missed

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else self.ratio <= self.goal


def paired(what: str, against: str, ours: list[float], peer: list[float], goal: float | None) -> Row:
    """Make a row from pairs of seconds: the median of their ratios, and the medians in milliseconds."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    middle = statistics.median
    return Row(what, against, 1e3 * middle(ours), 1e3 * middle(peer), "ms", middle(ratios), goal, len(ratios))


def bounded(what: str, ours: float, bound: float, unit: str, n: int = 1) -> Row:
    """Make a row from a measurement and its upper bound."""
    return Row(what, "bound", ours, bound, unit, ours / bound, 1.0, n)

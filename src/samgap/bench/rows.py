"""A row of the bench: ours against a peer or a bound."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """The ratio is what counts; absolute numbers are context, since machines differ."""

    what: str
    against: str
    ours: float
    peer: float
    unit: str
    ratio: float  # ours / peer
    goal: float | None  # which the ratio should not exceed
    n: int  # pairs
    note: str = ""
    profile: str = ""  # what took the time, where the goal is missed

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.ratio <= self.goal


def paired(what: str, against: str, ours: list[float], peer: list[float], goal: float | None) -> Row:
    """Seconds measured side by side: the median of the ratios, beside the medians in milliseconds."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    middle = statistics.median
    return Row(what, against, 1e3 * middle(ours), 1e3 * middle(peer), "ms", middle(ratios), goal, len(ratios))


def bounded(what: str, ours: float, bound: float, unit: str, n: int = 1) -> Row:
    """A measurement and what it should not exceed."""
    return Row(what, "bound", ours, bound, unit, ours / bound, 1.0, n)

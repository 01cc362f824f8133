"""A row of the bench: ours against a peer or a bound."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Ratios come first; absolute numbers are context, since machines differ."""

    what: str
    ours: float
    peer: float
    unit: str
    ratio: float  # ours / peer
    goal: float | None  # that the ratio should not exceed
    n: int  # pairs

    @property
    def holds(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.ratio <= self.goal


def paired(what: str, ours: list[float], peer: list[float], goal: float | None) -> Row:
    """Seconds measured side by side: the median of the ratios, beside the medians in milliseconds."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    middle = statistics.median
    return Row(what, 1e3 * middle(ours), 1e3 * middle(peer), "ms", middle(ratios), goal, len(ratios))

"""Rows of the tables: conditions that must hold, and measured times."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from samgap import console


@dataclass(frozen=True)
class Check:
    """A condition that must hold."""

    what: str
    wanted: str  # in words
    came: str  # what was found, in words
    holds: bool

    def text(self) -> str:
        """Return the lines of the table for this row."""
        head = f"{'holds' if self.holds else 'WRONG':>9}  "
        return console.wrapped(head, f"{self.what}: {self.came} (expected: {self.wanted})")


@dataclass(frozen=True)
class Speed:
    """A measured time."""

    what: str
    precision: str
    seconds: float  # median
    n: int  # samples
    spread: float  # interquartile range, as a share of the median
    images: float | None = None  # per second
    rate: float | None = None  # of `unit` per second
    unit: str = "FLOP"
    share: float | None = None  # rate as a share of that of a large matrix product in this precision
    against: str = ""  # what it is compared with
    ratio: float | None = None  # `seconds` over those of `against`
    goal: float | None = None  # the largest ratio that meets the goal
    limit: float | None = None  # the largest number of seconds that meets the goal
    case: dict[str, Any] = field(default_factory=dict)  # model, width, rho, batch_size of a step

    def text(self) -> str:
        """Return the lines of the table for this row."""
        cells = [f"{self.what}, {self.precision}"]
        cells += [f"{self.images:,.0f} images/s"] if self.images else []
        cells += [f"{self.rate / 1e12:.3g} T{self.unit}/s"] if self.rate else []
        cells += [f"{100 * self.share:.1f} % of the product"] if self.share else []
        cells += [f"{self.ratio:.3f} of {self.against}"] if self.ratio else []
        for what, value, goal in (("", self.ratio, self.goal), (" ms", self.seconds, self.limit)):
            if goal and value:
                shown = f"{1e3 * goal:g}" if what else f"{goal:.3g}"
                cells += [f"{'meets' if value <= goal else 'misses'} the goal of {shown}{what}"]
        return console.wrapped(f"{1e3 * self.seconds:.3f} ms  ".rjust(16), "; ".join(cells))


Row = Check | Speed


def speed(what: str, precision: str, taken: list[float], **more: Any) -> Speed:
    """Make a row from repeated measurements in seconds."""
    low, middle, high = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else taken * 3
    return Speed(what, precision, middle, len(taken), (high - low) / middle, **more)

"""All properties, and the report of a class."""

from dataclasses import dataclass
from typing import Literal

import torch

from samgap.conformance import ascent, descent, optimizer_api, passes, ranks
from samgap.conformance.fixtures import Unexpected
from samgap.conformance.properties import CHECKS, NotApplicable, Property
from samgap.conformance.subject import Subject

# In the order of the report: parts of a step first.
CHAPTERS = (ascent, descent, passes, optimizer_api, ranks)
PROPERTIES = [entry for chapter in CHAPTERS for entry in CHECKS if entry.chapter == chapter.__name__]


@dataclass(frozen=True)
class Row:
    """The result of one property for one class."""

    property: str
    wanted: str  # the requirement
    came: str  # what was found
    verdict: Literal["holds", "fails", "n/a"]


def examine(subject: Subject, device: torch.device | None = None) -> list[Row]:
    """Check all properties of a class.

    Args:
        subject: the class.
        device: device of all tensors; None is the CPU. Only None includes the checks with several processes, since on a
            GPU each process would need its own.
    """
    if device is None:
        return [check(subject, entry) for entry in PROPERTIES]
    with device:
        return [check(subject, entry) for entry in PROPERTIES if entry.chapter != ranks.__name__]


def check(subject: Subject, entry: Property) -> Row:
    """Check one property of a class."""
    try:
        outcome = entry.check(subject)
        return Row(entry.name, entry.wanted, outcome.came, "holds" if outcome.holds else "fails")
    except NotApplicable as reason:
        return Row(entry.name, entry.wanted, str(reason), "n/a")
    except Unexpected as event:
        return Row(entry.name, entry.wanted, str(event), "fails")
    except Exception as error:
        lines = str(error).strip().splitlines()
        return Row(entry.name, entry.wanted, f"{type(error).__name__}: {lines[-1] if lines else ''}"[:80], "fails")

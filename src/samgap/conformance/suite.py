"""All properties, and the report of a class."""

from dataclasses import dataclass
from typing import Literal

import torch

from samgap.conformance import ascent, descent, optimizer_api, passes, ranks
from samgap.conformance.fixtures import Unexpected
from samgap.conformance.properties import CHECKS, NotApplicable, Property
from samgap.conformance.subject import Subject

# Properties of a step in its order, then the others.
CHAPTERS = (ascent, descent, passes, optimizer_api, ranks)
PROPERTIES = [each for chapter in CHAPTERS for each in CHECKS if each.chapter == chapter.__name__]


@dataclass(frozen=True)
class Row:
    """One property of one class."""

    property: str
    wanted: str
    came: str
    verdict: Literal["holds", "fails", "n/a"]


def examine(subject: Subject, device: torch.device | None = None) -> list[Row]:
    """Check all properties of a class.

    Args:
        subject: the class.
        device: without the checks that use several processes, since each process would need its own; None is the
            CPU, with all checks.
    """
    if device is None:
        return [_row(subject, each) for each in PROPERTIES]
    with device:
        return [_row(subject, each) for each in PROPERTIES if each.chapter != ranks.__name__]


def _row(subject: Subject, each: Property) -> Row:
    try:
        found = each.check(subject)
        return Row(each.name, each.wanted, found.came, "holds" if found.holds else "fails")
    except NotApplicable as reason:
        return Row(each.name, each.wanted, str(reason), "n/a")
    except Unexpected as came:
        return Row(each.name, each.wanted, str(came), "fails")
    except Exception as error:
        lines = str(error).strip().splitlines()
        return Row(each.name, each.wanted, f"{type(error).__name__}: {lines[-1] if lines else ''}"[:80], "fails")

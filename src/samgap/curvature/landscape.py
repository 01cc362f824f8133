"""The landscape probe: the loss on a plane through a trained net, as plain values."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from samgap.curvature.examples import Subject
from samgap.curvature.surface import directions as pair
from samgap.curvature.surface import surface
from samgap.errors import SettingError, said


def landscape(
    subject: Subject, *, examples: int | None, reach: float, points: int, directions: list[str], seed: int
) -> dict[str, Any]:
    """Compute losses on a square grid around the net, for each kind of direction.

    Args:
        subject: the trained net.
        examples: number of training examples; None is all.
        reach: half the side of the grid, in units of the directions.
        points: number per side; odd, so that the net itself is one of them.
        directions: some of eigen, raw, filter, see `surface.directions`.
        seed: seed of the directions; use the same for nets to compare.

    Raises:
        SettingError: reach is not above 0, or points is not an odd number from 3.
    """
    if not reach > 0:
        raise SettingError(f"probe.landscape.reach must be a number above 0, got {said(reach)}.")
    if not isinstance(points, int) or points < 3 or points % 2 == 0:
        raise SettingError(f"probe.landscape.points must be an odd number from 3, got {said(points)}.")
    part = replace(subject, examples=subject.first(examples))
    steps = np.linspace(-reach, reach, points).tolist()
    result: dict[str, Any] = {"n": len(part.examples), "steps": steps, "surfaces": {}}
    for kind in directions:
        losses, norms = surface(part, steps, steps, pair(part, kind, seed=seed))
        rows = [[value if math.isfinite(value) else None for value in row] for row in losses.tolist()]
        result["surfaces"][kind] = {"losses": rows, "norms": [*norms]}
    return result

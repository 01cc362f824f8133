"""Learning-rate schedules: the factor on the base rate in step t of T, as a pure function of t and T.

They depend on the fraction t / T and not on the epoch, so shorter runs have a schedule of the same shape.
"""

import math
from collections.abc import Sequence


def constant(step: int, steps: int) -> float:
    """Return 1: a constant rate."""
    return 1.0


def step(step: int, steps: int, milestones: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Multiply the rate by `factor` at each milestone.

    Args:
        step: t, from 0.
        steps: T.
        milestones: fractions of training; with 0.5, step T / 2 is the first with the lower rate.
        factor: below 1 to decay.
    """
    # The tolerance is for rounding: .07 * 100 is slightly above 7.
    return factor ** sum(step >= (milestone - 1e-9) * steps for milestone in milestones)


def cosine(step: int, steps: int, warmup_steps: int = 0) -> float:
    """Linear warm-up from 0 over `warmup_steps` steps, then half a cosine that reaches 0 at step T.

    Args:
        step: t, from 0.
        steps: T, warm-up included.
        warmup_steps: number of steps in which the rate rises.
    """
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))

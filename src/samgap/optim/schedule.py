"""Learning-rate schedules: the factor on the base rate in step t of T, a pure function of both.

By fraction of training, not by epoch, so that a shorter run has the same shape.
"""

import math
from collections.abc import Sequence


def constant(step: int, steps: int) -> float:
    """The base rate throughout."""
    return 1.0


def step(step: int, steps: int, milestones: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> float:
    """Multiply by `factor` from each milestone on.

    Args:
        step: t, from 0.
        steps: T.
        milestones: fractions of training; step 0.5 T is the first with the lower rate.
        factor: below 1 to decay.
    """
    return factor ** sum(step >= milestone * steps for milestone in milestones)


def cosine(step: int, steps: int, warmup_steps: int = 0) -> float:
    """Linear warm-up from 0 over `warmup_steps` steps, then half a cosine down to 0 at step T.

    Args:
        step: t, from 0.
        steps: T, warm-up included.
        warmup_steps: a number of steps, as the paper gives it.
    """
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))

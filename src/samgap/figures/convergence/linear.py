"""Does the loss fall at a linear rate or faster, as theorem 6 says? Then its late rate equals its middle rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy import special

from samgap import style
from samgap.figures.convergence.arm import COVERED, Arm, ArmJudgment
from samgap.figures.convergence.curves import BELOW
from samgap.figures.output import Answer
from samgap.figures.significance import LEVEL, p_above_0

CLAIM = "the loss falls at a linear rate or faster where nets interpolate"


@dataclass(frozen=True)
class Linear(ArmJudgment):
    """Whether the rate is linear. The numbers are those of the net with the weakest evidence."""

    p: float = math.nan  # one-sided, for a late rate of at least `linear_from` times the middle one
    other_p: float = math.nan
    late: float = math.nan  # smallest late rate of a net divided by its middle rate, mean over seeds
    power: float = math.nan  # share of such studies that find a linear rate


def void(rule: str, settings: Mapping[str, Any]) -> str:
    """Return the reason why theorem 6 does not apply to these runs, or "".

    Args:
        rule: rule of the step.
        settings: settings of one of its runs.
    """
    optimizer = settings["optimizer"]
    if settings["loss"]["name"] not in ("squared", "mean_squared"):
        return "cross-entropy is not PL, since near a loss f of 0 its squared gradient falls like f squared"
    if optimizer["momentum"] or optimizer["weight_decay"]:
        return "theorem 6 is of steps without momentum and weight decay"
    if settings["schedule"]["name"] != "constant":
        return "theorem 6 is of a constant learning rate"
    if rule not in COVERED:
        return "theorem 6 is of the un-normalized ascent; that of normalized SAM ends at a floor"
    return ""


def linear(arm: Arm, settings: Sequence[Mapping[str, Any]], least: float) -> Linear:
    """Return the verdict for the nets that interpolate.

    Args:
        arm: the runs.
        settings: the different settings of runs; the theorem must apply to all.
        least: smallest late rate divided by middle rate that counts as linear.
    """
    cells, known = arm.interpolating, arm.known
    if void_reason := next(filter(None, (void(arm.rule, of_run) for of_run in settings)), ""):
        return Linear(answer="void", reason=f"no linear rate is claimed here: {void_reason}", claim=CLAIM, **known)
    if problem := arm.problem or _problem(cells):
        return Linear(answer="inconclusive", reason=f"whether {CLAIM}: {problem}", claim=CLAIM, **known)
    tested = pd.DataFrame([_tested(runs, least) for runs in cells])
    # Bonferroni correction: any of the cells may bend by chance.
    p, other_p = tested["p"].max(), min(1.0, len(cells) * tested["other_p"].min())
    sizes = ", ".join(style.compact(runs["params_total"].iloc[0]) for runs in cells)
    rates = ", ".join(f"{late:.2f}" for late in tested["late"])
    power_text = f"{known['seeds']} seeds find a line in {100 * tested['power'].min():.0f} % of such studies"
    numbers = (
        f"late, nets of {sizes} parameters fall {rates} times as fast as in the middle (largest one-sided p = {p:.2g} "
        f"for {least:g} or more); {power_text}"
    )
    answer: Answer = "reproduced" if p < LEVEL else "not reproduced" if other_p < LEVEL else "inconclusive"
    texts = {
        "reproduced": CLAIM,
        "not reproduced": f"the loss of one falls no straighter than a power of the epochs (p = {other_p:.2g})",
        "inconclusive": f"whether {CLAIM} is not proved",
    }
    return Linear(
        answer=answer, reason=f"{texts[answer]}: {numbers}", claim=CLAIM, **known, p=float(p), other_p=other_p,
        late=float(tested["late"].min()), power=float(tested["power"].min()),
    )  # fmt: skip


def _problem(cells: list[pd.DataFrame]) -> str:
    if not cells:
        return "no net interpolates, and the claim is about those that do"
    if any("late" not in runs for runs in cells):
        return "it needs the curves of single runs, which were not kept"
    short = sum(int(runs["late"].isna().sum()) for runs in cells)
    if short:
        of = sum(len(runs) for runs in cells)
        return f"{short} of {of} runs do not come down to {BELOW:g} of their first loss in 8 epochs or more"
    return ""


def _tested(runs: pd.DataFrame, least: float) -> dict[str, float]:
    """Test the late rate of one cell. A ratio below `least` is no linear rate, unless it is above a power law's."""
    late, n = runs["late"].to_numpy(), len(runs)
    error, critical = late.std(ddof=1) / math.sqrt(n), float(special.stdtrit(n - 1, 1 - LEVEL))
    straighter = p_above_0(late - runs["late_power"].to_numpy()) < LEVEL
    return {
        "p": p_above_0(late - least),
        "other_p": 1.0 if straighter else p_above_0(least - late),
        "late": float(late.mean()),
        "power": 1 - float(special.nctdtr(n - 1, (1 - least) / error, critical)) if error else 1.0,
    }

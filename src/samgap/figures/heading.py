"""Makes the title (verdicts and main numbers) and the footnote (data and runs) of a picture from a study's json."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from samgap.figures.significance import LEVEL

SYMBOLS = {"lambda_max": "λₘₐₓ", "s_2": "s₂", "rho": "ρ", "eta": "η", "<=": "≤"}  # in a picture


def footnote(report: Mapping[str, Any]) -> str:
    """Return data set, number of seeds per cell, scale, and the numbers of missing and diverged runs."""
    seeds = [int(cell["n"]) for cell in report["cells"] if not pd.isna(cell["n"])]
    least, most = min(seeds), max(seeds)
    count = f"{least} to {most} seeds" if least < most else f"{least} seed{'s' * (least > 1)}"
    scale = "smoke scale, no evidence" if report["scale"] == "smoke" else f"{report['scale']} scale"
    lost = [(report["runs"][key], f"runs {key}") for key in ("missing", "diverged")]
    plan = [report["registered"]["short"]] if "registered" in report else []
    return ", ".join([report["data"], count, scale, *plan, *(f"{len(runs)} {text}" for runs, text in lost if runs)])


def answer(report: Mapping[str, Any]) -> str:
    """Return the verdicts of a study for its picture, one line per series or, if there are several claims, per claim.

    Verdicts at equal rho are left out, and so are claims that are void in all series.
    """
    verdicts = [verdict for verdict in report["verdicts"] if "at equal rho" not in verdict["series"]]
    claims = list(dict.fromkeys(verdict.get("claim") for verdict in verdicts))
    if len(claims) < len(verdicts) and None not in claims:
        lines = []
        for claim in claims:
            answers = Counter(verdict["answer"] for verdict in verdicts if verdict["claim"] == claim)
            if {*answers} != {"void"}:
                lines.append(f"{claim}: " + ", ".join(f"{count} {text}" for text, count in answers.items()))
        return _symbols("\n".join(lines))
    texts = []
    for verdict in verdicts:
        label = ", ".join(filter(None, (short(verdict["series"]), verdict.get("claim"))))
        main_number = number(verdict)
        texts.append(f"{label}: " * bool(label) + verdict["answer"] + f" ({main_number})" * bool(main_number))
    return _symbols("\n".join(texts))


def _symbols(text: str) -> str:
    return re.sub(r"lambda_max|s_2|<=|\b(?:rho|eta)\b", lambda found: SYMBOLS[found[0]], text)


def number(verdict: Mapping[str, Any]) -> str:
    """Return the main number of a verdict with its p value: a slope with its interval, or the count of agreements."""
    texts = []
    if verdict.get("agree") is not None:
        texts.append(f"{verdict['agree']} of {verdict['numbers']} published numbers agree")
    if not pd.isna(verdict.get("slope_low")):
        slope = "slope {slope:+.2f} [{slope_low:+.2f}, {slope_high:+.2f}]"
        texts.append(slope.format(**verdict))
    fell = verdict["answer"] == "not reproduced" and (verdict.get("p_down") or 1) < LEVEL
    keys = ("p_down",) if fell else ("p_up", "p")
    p = next((verdict[key] for key in keys if not pd.isna(verdict.get(key))), None)
    return ", ".join(texts + ([f"p = {p:.2g}{' of a fall' * fell}"] if p is not None else []))


def short(series: str) -> str:
    """Return the name of a series without the groups of its axes: "snip against random", "label_noise=0.5"."""
    return re.sub(r"\b[a-z]\w*\.(name=)?", "", series)

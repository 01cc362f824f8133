"""Preregistration: the plan that a figure's file fixes in draw.registered, and whether it precedes the first run."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from samgap import provenance
from samgap.errors import SettingError, said
from samgap.rules import ABOVE_0, Rule, is_text, is_whole, numbers, one_of
from samgap.rules import check as refuse
from samgap.runs import identity
from samgap.runs.sweeps import RHO, SEED, Sweep

TEXT = Rule(is_text, "a text")
RULES = {
    "question": TEXT,
    "rule": one_of("holdout", "loso", "quadratic"),  # the unbiased protocols for the choice of rho
    "equal_rho": ABOVE_0,  # rho of the verdict at equal rho
    "effect": ABOVE_0,  # the smallest slope of interest, in points a decade
    "cells": Rule(
        lambda value: isinstance(value, Mapping) and all(isinstance(axis, list) and axis for axis in value.values()),
        "a list of values for each key that makes a cell",
    ),
    "rhos": numbers("a list of numbers from 0", lambda rho: rho >= 0),
    "seeds": Rule(
        lambda value: isinstance(value, list) and all(is_whole(seed) and seed >= 0 for seed in value),
        "a list of whole numbers from 0",
    ),
    "exclusions": TEXT,
    "pilot": TEXT,
    "runs": Rule(is_text, "the digest of all runs, which hydra.sweeper.dry_run=true prints"),
}


@dataclass(frozen=True)
class Registration:
    """The registration of one study, or its absence. Times are ISO 8601 in UTC."""

    commit: str | None  # commit that fixed the block; None if there is none
    committed: str | None  # time of the commit
    first_run: str
    known: bool  # whether the history of the sources is known
    departs: str  # differences of the sweep from the plan, or ""

    @property
    def beforehand(self) -> bool | None:
        """Whether the commit is older than the first run; None if unknown."""
        return self.committed is not None and self.committed < self.first_run if self.known else None

    @property
    def short(self) -> str:
        """A short text, for a footnote."""
        words = {True: "registered beforehand", False: "not registered beforehand", None: "registered, unchecked"}
        return words[self.beforehand] + ", departed from" * bool(self.departs)

    def __str__(self) -> str:
        if self.beforehand is None:
            text = "Whether it was registered before the first run is unknown without the history of the sources"
        elif self.commit is None:
            text = "Not registered beforehand: no commit has this draw.registered"
        else:
            text = "Registered before" if self.beforehand else "Not registered beforehand: registered after"
            text += f" the first run (commit {self.commit[:7]}, {_minute(self.committed)}"
            text += f", first run {_minute(self.first_run)})"
        return f"{text}." + " Departs from what was registered." * bool(self.departs)

    @property
    def details(self) -> str:
        """The text with the differences from the plan."""
        return str(self).removesuffix(".") + f": {self.departs}." if self.departs else str(self)

    def facts(self) -> dict[str, Any]:
        """Return the values for a JSON file."""
        return asdict(self) | {"beforehand": self.beforehand, "short": self.short, "text": str(self)}


def check(block: Any) -> None:
    """Check the value of draw.registered; null means none.

    Raises:
        SettingError: a key is missing, unknown or wrong.
    """
    if block is None:
        return
    if not isinstance(block, Mapping) or {*block} != {*RULES}:
        got = ", ".join(map(str, block)) if isinstance(block, Mapping) else said(block)
        raise SettingError(f"draw.registered must have the keys {', '.join(RULES)}, got {got}.")
    refuse(block, RULES, "draw.registered.")


def registration(block: Mapping[str, Any], sweep: Sweep, first_run: str) -> Registration:
    """Return when the block of a study was fixed, and whether its sweep follows it.

    The commit is the first since which the figure's file has always had this block.

    Args:
        block: the value of draw.registered.
        sweep: the sweep of the study.
        first_run: start of its first run, ISO 8601 in UTC.
    """
    path, commit, committed = f"conf/figure/{sweep}.yaml", None, None
    history = provenance.history(path)
    for sha, time, text in history or ():
        if ((yaml.safe_load(text) or {}).get("draw") or {}).get("registered") != block:
            break
        commit, committed = sha, time
    return Registration(commit, committed, first_run, history is not None, departures(block, sweep))


def departures(block: Mapping[str, Any], sweep: Sweep) -> str:
    """Return the differences of a sweep from the registered block as text, or ""."""
    parts = []
    for axis, planned in {**block["cells"], RHO: block["rhos"], SEED: block["seeds"]}.items():
        actual = list(dict.fromkeys(member.axes.get(axis) for member in sweep.members))
        labels = [identity.label(value) for value in planned]
        if {*actual} != {*labels}:
            parts.append(f"{axis} {_listed(actual)} and not {_listed(labels)}")
    if not parts and (actual_digest := digest(member.identity for member in sweep.members)) != block["runs"]:
        parts.append(f"other runs (their digest is {actual_digest} and not {block['runs']})")
    return "; ".join(parts)


def digest(identities: Iterable[str]) -> str:
    """Return a hash of the identities of a sweep's runs, and so of all their settings."""
    return hashlib.sha256(" ".join(sorted({*identities})).encode()).hexdigest()[:12]


def _minute(time: str | None) -> str:
    return (time or "")[:16].replace("T", " ")


def _listed(values: Sequence[Any]) -> str:
    whole = len(values) > 2 and all(is_whole(value) for value in values)
    if whole and all(value == values[0] + place for place, value in enumerate(values)):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(value if isinstance(value, str) else said(value) for value in values)

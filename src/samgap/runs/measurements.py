"""Measurements of a finished run: probes/<name>.json in its folder, one file for each probe.

A probe does not change the identity: it evaluates the net at the end of the run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samgap.errors import SettingError
from samgap.files import read_json, replace_text
from samgap.targets import options

FOLDER = "probes"


def requested(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the probes that a composed config requests: name to settings, without what names it.

    A figure's settings of a probe that is not chosen do not count.

    Raises:
        SettingError: a probe has no settings.
    """
    groups = config.get("probe") or {}
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise SettingError(
            "probe must name files of conf/probe/, such as probe=[hessian], and their settings by keys such as "
            f"probe.hessian.tol, got {json.dumps(groups)}."
        )
    return {name: options(group) for name, group in groups.items() if "_target_" in group}


def missing(probes: Mapping[str, Mapping[str, Any]], folder: Path) -> list[str]:
    """Return the names of the probes that `folder` lacks, or has with other settings."""
    return [name for name, settings in probes.items() if (read(folder, name) or {}).get("settings") != settings]


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the results of a probe, None if it has not run.

    Raises:
        SettingError: the file is not JSON.
    """
    try:
        return read_json(folder / FOLDER / f"{name}.json", "move it away and measure again")
    except FileNotFoundError:
        return None


def write(folder: Path, name: str, found: Mapping[str, Any]) -> None:
    """Write probes/<name>.json, in one step."""
    replace_text(folder / FOLDER / f"{name}.json", json.dumps(found, indent=1, allow_nan=False) + "\n")

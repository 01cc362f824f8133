"""Results of probes of a finished run: probes/<name>.json in its folder, one file for each probe.

Probes evaluate the net at the end of the run, so they do not change its identity.
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
    """Return the settings of the probes that a composed config requests, by name.

    Settings of a probe that is not chosen, which a figure may have, are ignored.

    Raises:
        SettingError: the group `probe` does not map names of probes to settings.
    """
    groups = config.get("probe") or {}
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise SettingError(
            "probe must name files of conf/probe/, such as probe=[hessian], and their settings by keys such as "
            f"probe.hessian.tol, got {json.dumps(groups)}."
        )
    return {name: options(group) for name, group in groups.items() if "_target_" in group}


def missing(probes: Mapping[str, Mapping[str, Any]], folder: Path) -> list[str]:
    """Return the names of the probes whose results `folder` lacks, or has with other settings."""
    return [name for name, settings in probes.items() if (read(folder, name) or {}).get("settings") != settings]


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the results of a probe; None if there are none.

    Raises:
        SettingError: the file is not JSON.
    """
    try:
        return read_json(folder / FOLDER / f"{name}.json", "move it away and measure again")
    except FileNotFoundError:
        return None


def write(folder: Path, name: str, results: Mapping[str, Any]) -> None:
    """Write probes/<name>.json, in one step."""
    replace_text(folder / FOLDER / f"{name}.json", json.dumps(results, indent=1, allow_nan=False) + "\n")

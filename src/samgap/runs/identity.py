"""The identity of a run: a hash of its scientific settings, and the folder name with it.

Two runs with the same settings are the same run, on any machine, device, logger or launcher. So a result is found by
its settings, figures share runs, and a sweep that is started again skips finished runs.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

HASH_DIGITS = 12


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the form that is hashed, in which equal meanings are spelled equally.

    - 1.0 becomes 1, a tuple becomes a list.
    - A key that is null, false or 0 means "off" and is left out, and so is an empty group. So a new setting that is off
      by default changes no old hash. No setting may give the three values different meanings.
    - The group ascent is left out if rho = 0 (the SGD arm), and the group pruner if sparsity = 0 (a dense net).
    """
    result = {key: _value(value) for key, value in settings.items()}
    if not _get(result, "ascent", "rho"):
        result.pop("ascent", None)
    if not _get(result, "pruner", "sparsity"):
        result.pop("pruner", None)
    return {key: value for key, value in result.items() if not _neutral(value)}


def identity(settings: Mapping[str, Any]) -> str:
    """Return the identity of these settings: 12 hexadecimal digits of a SHA-256 hash."""
    text = json.dumps(canonical(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def folder(settings: Mapping[str, Any]) -> str:
    """Return the name of the run's folder, `<readable>-<identity>`; only the identity makes it unique."""
    data, model = settings["data"], settings["model"]
    parts = [data["name"], model["name"], f"w{model['width']:g}"]
    if data.get("label_noise"):
        parts.append(f"noise{data['label_noise']:g}")
    if _get(settings, "pruner", "sparsity"):
        parts.append(f"{settings['pruner']['name']}{settings['pruner']['sparsity']:.4g}")
    rho = _get(settings, "ascent", "rho")
    parts.append(f"{settings['ascent']['name']}{rho:g}" if rho else "sgd")
    parts.append(f"seed{settings['seed']}")
    if settings.get("replicate"):
        parts.append(f"replicate{settings['replicate']}")
    return "-".join([*parts, identity(settings)])


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with dotted keys, as a user types them: {"model.width": 4, "seed": 0, ...}."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            leaves |= {f"{key}.{inner}": item for inner, item in flat(value).items()}
        else:
            leaves[key] = value
    return leaves


def label(value: Any) -> float | str:
    """Return a value of an axis so that tables can sort it: a number, or a text such as "null" or "[0.5, 0.75]"."""
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else json.dumps(value)


def _get(settings: Mapping[str, Any], group: str, key: str) -> Any:
    return (settings.get(group) or {}).get(key)


def _neutral(value: Any) -> bool:
    return value is None or value is False or value == {} or (isinstance(value, int | float) and value == 0)


def _value(value: Any) -> Any:
    if isinstance(value, dict):  # isinstance with Mapping is ten times as slow
        inner = {str(key): _value(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if not _neutral(item)}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value

"""From a dotted path to the object that it names, and what `hydra.utils.instantiate` makes of a group of the config."""

import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping
from typing import Any

from samgap.errors import SettingError, said


def locate(target: str, key: str = "_target_") -> Any:
    """The object at a dotted path, which the config has under `key`.

    Raises:
        SettingError: there is none.
    """
    try:
        found = pydoc.locate(target) if isinstance(target, str) else None
    except pydoc.ErrorDuringImport as error:
        raise SettingError(f"{key} is {target}, and importing it fails ({error.value}).") from error
    if found is None:
        raise SettingError(f"{key} must be the dotted path of something importable, got {said(target)}.")
    return found


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a part: its group without what names it."""
    return {key: value for key, value in group.items() if key not in ("name", "code") and not key.startswith("_")}


def part(code: str, name: str, **settings: Any) -> Callable[..., Any]:
    """The `_target_` of parts that are called with what a run knows and their settings; the name is for folders."""
    target = locate(code, "code")
    return functools.partial(target, **settings) if settings else target


def check_call(group: str, target: Callable[..., Any], /, *given: Any, **settings: Any) -> None:
    """Refuse the settings of a group, by a SettingError, if its part does not take them, or wants more."""
    try:
        inspect.signature(target).bind(*given, **settings)
    except (TypeError, ValueError) as error:  # of a partial the second, for the first
        wrong = error.__cause__ or error
        raise SettingError(f"The keys of {group} must be those of a file in conf/{group}/: {wrong}.") from error


def call(group: str, target: Callable[..., Any], /, *given: Any, **settings: Any) -> Any:
    """What the part of a group makes of what a run knows and its settings; see `check_call`."""
    check_call(group, target, *given, **settings)
    return target(*given, **settings)

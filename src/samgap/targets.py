"""Find objects by dotted path, and call the parts that `hydra.utils.instantiate` makes of config groups."""

import functools
import inspect
import pydoc
from collections.abc import Callable, Mapping
from typing import Any

from samgap.errors import SettingError, said


def locate(target: str, key: str = "_target_") -> Any:
    """Return the object at a dotted path, which is the value of `key` in the config.

    Raises:
        SettingError: there is no such object.
    """
    try:
        found = pydoc.locate(target) if isinstance(target, str) else None
    except pydoc.ErrorDuringImport as error:
        raise SettingError(f"{key} is {target}, and importing it fails ({error.value}).") from error
    if found is None:
        raise SettingError(f"{key} must be the dotted path of something importable, got {said(target)}.")
    return found


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a part: its group without the keys that name it."""
    return {key: value for key, value in group.items() if key not in ("name", "code") and not key.startswith("_")}


def part(code: str, name: str, **settings: Any) -> Callable[..., Any]:
    """Return the function at `code` with its settings bound; `_target_` of such parts. The name is for run folders."""
    target = locate(code, "code")
    return functools.partial(target, **settings) if settings else target


def check_call(group: str, target: Callable[..., Any], /, *given: Any, **settings: Any) -> None:
    """Raise a SettingError if a part does not accept the settings of its group, or requires more."""
    try:
        inspect.signature(target).bind(*given, **settings)
    except (TypeError, ValueError) as error:  # a partial raises a ValueError from a TypeError
        wrong = error.__cause__ or error
        raise SettingError(f"The keys of {group} must be those of a file in conf/{group}/: {wrong}.") from error


def call(group: str, target: Callable[..., Any], /, *given: Any, **settings: Any) -> Any:
    """Call the part of a group with values of the run and its settings; see `check_call`."""
    check_call(group, target, *given, **settings)
    return target(*given, **settings)

"""Finds objects by dotted path, and calls the functions that `hydra.utils.instantiate` makes of config groups."""

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
        located = pydoc.locate(target) if isinstance(target, str) else None
    except pydoc.ErrorDuringImport as error:
        raise SettingError(f"{key} is {target}, and importing it fails ({error.value}).") from error
    if located is None:
        raise SettingError(f"{key} must be the dotted path of something importable, got {said(target)}.")
    return located


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a part: its config group without the keys that select its code."""
    return {key: value for key, value in group.items() if key not in ("name", "code") and not key.startswith("_")}


def part(code: str, name: str, **settings: Any) -> Callable[..., Any]:
    """Return the function at `code` with its settings bound; the `_target_` of parts. `name` is for run folders."""
    target = locate(code, "code")
    return functools.partial(target, **settings) if settings else target


def check_call(group: str, target: Callable[..., Any], /, *arguments: Any, **settings: Any) -> None:
    """Raise a SettingError if `target` does not accept the settings of its group, or requires more."""
    try:
        inspect.signature(target).bind(*arguments, **settings)
    except (TypeError, ValueError) as error:  # partials raise a ValueError from a TypeError
        cause = error.__cause__ or error
        raise SettingError(f"The keys of {group} must be those of a file in conf/{group}/: {cause}.") from error


def call(group: str, target: Callable[..., Any], /, *arguments: Any, **settings: Any) -> Any:
    """Call `target` with values of the run and the settings of its group; see `check_call`."""
    check_call(group, target, *arguments, **settings)
    return target(*arguments, **settings)

"""From a dotted path to the object that it names."""

import pydoc
from collections.abc import Mapping
from typing import Any

from samgap.errors import SettingError, said


def locate(target: str) -> Any:
    """The object at a dotted path.

    Raises:
        SettingError: there is none.
    """
    try:
        found = pydoc.locate(target) if isinstance(target, str) else None
    except pydoc.ErrorDuringImport as error:
        raise SettingError(f"_target_ is {target}, and importing it fails ({error.value}).") from error
    if found is None:
        raise SettingError(f"_target_ must be the dotted path of something importable, got {said(target)}.")
    return found


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a part: its group without what names it."""
    return {key: value for key, value in group.items() if key != "name" and not key.startswith("_")}

"""The location of the config, and what a user may type on the command line as key=value."""

from collections.abc import Iterable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, Sweep
from hydra.errors import HydraException

from samgap.errors import SettingError

CONF = str(Path(__file__).parents[2] / "conf")  # in the checkout, since the package is installed in place
OURS = ("hydra.run", "hydra.run.dir", "hydra.sweep", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")
# Keys of a whole command, by their first part; Hydra would make a sweep of several values, and mix up its results.
SEVERAL = ("probe", "callbacks")  # groups of which a run may use several files; of others Hydra would use the last
ONE_VALUE = ("name", "scale", "root", "data_dir", "debug", "probe", "logger", "callbacks", "draw", "protocol", "hydra")


def refuse(typed_overrides: Iterable[str]) -> None:
    """Refuse overrides, as typed, that Hydra would misunderstand or reject with an unclear error.

    Raises:
        SettingError: an override is wrong.
    """
    parser = OverridesParser.create()
    for typed in typed_overrides:
        try:
            override = parser.parse_overrides([typed])[0]
        except HydraException as error:
            raise SettingError(
                f"{typed} cannot be read as key=value: put a value with spaces or signs such as = ( [ {{ ~ in double "
                f"quotes, and all of it in single ones, such as 'root=\"/My Drive (1)\"'."
            ) from error
        key = override.key_or_group
        if key in OURS:
            raise SettingError(f"{key} cannot be set, since a run is found by the name of its folder: set root.")
        if override.is_delete() and not key.startswith("hydra.") and not choices(key):
            raise SettingError(f"{key} cannot be taken out: give it a value, such as null.")
        if key == "figure" and (override.is_sweep_override() or str(override.value()).endswith(("/base", "]"))):
            raise SettingError(f"figure must be one figure at a time, such as fig8/smoke, got {typed}.")
        if key.split(".")[0].split("/")[0] in ONE_VALUE and override.is_sweep_override():
            raise SettingError(f"{key} has one value for a whole sweep, got {typed}: put a list in brackets.")
        if (options := choices(key)) and not _selects_files(override):
            raise SettingError(f"{key} must be one of {options}, got {typed}.")


def _selects_files(override: Override) -> bool:
    value = override.value()
    if isinstance(value, list) and override.key_or_group not in SEVERAL:
        return False
    items = getattr(value, "list", value)  # of a sweep over choices
    if isinstance(items, list):
        return all(isinstance(item, str | QuotedString) for item in items)
    return value is None or (isinstance(value, str | dict | Sweep) and not override.is_range_sweep())


def choices(group: str) -> str:
    """Return the names of files and folders in conf/`group`, or "" if it is no folder."""
    try:
        names = sorted(path.stem for path in Path(CONF, *group.split("/")).iterdir() if path.name != "base.yaml")
    except OSError:  # no folder, or the name is too long
        return ""
    return ", ".join(names) if group else ""

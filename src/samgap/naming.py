"""The resolver ${run_folder:}, by which Hydra's own config names a run's folder.

Commands and the sweeper plugin register it; worker processes import the plugin too.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from samgap.runs import identity
from samgap.training.settings import GROUPS, PLACES, SCALARS, check, resolve

# Alternative settings -> the setting that they determine.
RENAMED = {"model.params": "model.width", "pruner.live_params": "pruner.sparsity"}


def plain(config: DictConfig, *keys: str) -> dict[str, Any]:
    """Return these top-level keys of a composed config as plain values, with interpolations resolved.

    Raises:
        SettingError: a value is not valid for its key.
    """
    values = {key: config[key] for key in keys if key in config}  # each may refer to keys that are not chosen
    chosen: dict[str, Any] = {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    }
    check(chosen)
    return chosen


def register() -> None:
    """Register ${run_folder:} with OmegaConf; repeated calls are safe."""

    def run_folder(*, _root_: DictConfig) -> str:
        return identity.folder(resolve(plain(_root_, *GROUPS, *SCALARS, *PLACES, "trainer", "logger", "draw")))

    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)

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
    chosen: dict[str, Any] = OmegaConf.to_container(OmegaConf.masked_copy(config, list(keys)), resolve=True)  # type: ignore[assignment]
    check(chosen)
    return chosen


def register() -> None:
    """Register ${run_folder:} with OmegaConf; repeated calls are safe."""

    def run_folder(*, _root_: DictConfig) -> str:
        return identity.folder(resolve(plain(_root_, *GROUPS, *SCALARS, *PLACES, "trainer", "logger", "draw")))

    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)

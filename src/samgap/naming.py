"""The resolver ${run_folder:} that names a run's folder inside Hydra's own config.

Registered by every module that Hydra may ask: the command and the sweeper plugin, which also workers import.
"""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from samgap.runs import identity
from samgap.training.settings import GROUPS, PLACES, SCALARS, check, resolve

# Settings by another name: what is asked for -> what it becomes.
RENAMED = {"model.params": "model.width", "pruner.live_params": "pruner.sparsity"}


def plain(config: DictConfig, *keys: str) -> dict[str, Any]:
    """These top-level keys of a composed config as plain values, interpolations resolved.

    Raises:
        SettingError: a value is not what its key wants.
    """
    chosen: dict[str, Any] = OmegaConf.to_container(OmegaConf.masked_copy(config, list(keys)), resolve=True)  # type: ignore[assignment]
    check(chosen)
    return chosen


def register() -> None:
    """Make ${run_folder:} known; safe to call again."""

    def run_folder(*, _root_: DictConfig) -> str:
        return identity.folder(resolve(plain(_root_, *GROUPS, *SCALARS, *PLACES, "trainer", "logger", "draw")))

    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)

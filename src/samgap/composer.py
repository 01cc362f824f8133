"""Composes the configs of a sweep's jobs; reads conf/ only once for each choice of groups.

Hydra reads and merges conf/ again for every job, which takes longer than a small run. Hydra applies overrides of values
last, so this module applies them to a copy of an earlier config with the same groups.
"""

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """A replacement for Hydra's loader that composes the same configs faster and delegates everything else."""

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not set yet in a copy or while unpickling
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"loader": self.loader, "_composed": {}}  # a worker process composes its own configs

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the config of one job.

        Raises:
            ConfigCompositionException: where Hydra's loader raises it.
        """
        overrides = OverridesParser.create(config_loader=self.loader).parse_overrides(sweep_overrides)
        values = [override for override in overrides if self._is_value(override)]
        files = tuple(str(override.input_line) for override in overrides if not self._is_value(override))
        if files not in self._composed:
            self._composed[files] = self.loader.load_sweep_config(master_config, list(files))
        config = copy.deepcopy(self._composed[files])
        try:
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(str(error)) from error
        _record_overrides(config, [override for override in overrides if not override.is_hydra_override()])
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _is_value(self, override: Override) -> bool:
        # As Hydra distinguishes groups from values. Overrides of Hydra's own config are left to Hydra's loader.
        is_group = self.loader.repository.group_exists(override.key_or_group)
        return (not is_group or isinstance(override.value(), dict)) and not override.is_hydra_override()


def _record_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    job = config.hydra.job
    config.hydra.overrides.task = [override.input_line for override in overrides]
    job.override_dirname = get_overrides_dirname(list(overrides), **job.config.override_dirname)

"""The plan of a run, resolved once from its config: the settings of its result and those of this machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from samgap.curvature import rules as probe_rules
from samgap.errors import SettingError
from samgap.rules import check
from samgap.runs import identity, measurements
from samgap.training.layout import Layout, layout
from samgap.training.machine import LIMIT, TRAINER, Machine
from samgap.training.settings import GROUPS, images, own, resolve


@dataclass(frozen=True, eq=False)
class RunPlan:
    """The plan of one run, from which the module `build` makes the parts."""

    settings: dict[str, Any]  # the scientific settings, which determine the identity
    machine: Machine
    choices: dict[str, dict[str, Any]]  # group -> config from which `build` makes the part
    probes: dict[str, dict[str, Any]]  # name -> config, likewise
    logger: dict[str, Any]
    callbacks: Any  # config of the group, not instantiated
    keywords: dict[str, Any]  # config of further keywords of Lightning's Trainer, not instantiated
    place: dict[str, str]  # root, data_dir, and name and scale of the sweep

    @classmethod
    def of(cls, config: Mapping[str, Any], settings: dict[str, Any] | None = None) -> "RunPlan":
        """Return the plan for a composed config.

        Args:
            config: composed config as plain values.
            settings: scientific settings of a finished run; None resolves them from the config.

        Raises:
            SettingError: a value is not valid for its key.
        """
        settings = resolve(config) if settings is None else settings
        trainer, requested = config["trainer"], measurements.requested(config)
        for name in requested:
            check(config["probe"][name], probe_rules.RULES.get(name, {}), f"probe.{name}.")
        return cls(
            settings=settings,
            machine=Machine(**{field.name: trainer[field.name] for field in fields(Machine)}),
            choices={group: _resolved(config[group], settings[group]) for group in GROUPS},
            probes={name: config["probe"][name] for name in requested},
            logger=config["logger"],
            callbacks=config.get("callbacks"),
            keywords={key: value for key, value in trainer.items() if key not in {*TRAINER, LIMIT}},
            place={key: config[key] for key in ("root", "data_dir", "name", "scale") if key in config},
        )

    @property
    def identity(self) -> str:
        """The identity of the run, a hash of its settings."""
        return identity.identity(self.settings)

    @property
    def folder(self) -> str:
        """The name of the run's folder."""
        return identity.folder(self.settings)

    @property
    def layout(self) -> Layout:
        """The division of a batch among devices, ascents and forward passes."""
        return layout(self.settings, self.machine.devices, self.machine.micro_batch)

    @property
    def synchronized(self) -> bool:
        """Whether batch norm takes its statistics from several devices."""
        return self.choices["model"].get("batch_norm") == "synchronized" and self.layout.span > 1

    @property
    def net(self) -> tuple[str, float, tuple[int, int, int], int, str]:
        """Dotted path and width of the model, shape (c, h, w) of an image, classes, and the model's other settings."""
        model = self.settings["model"]
        return self.choices["model"]["code"], model["width"], *images(self.settings), json.dumps(own(model))

    @property
    def requested(self) -> dict[str, dict[str, Any]]:
        """The settings of each probe."""
        return measurements.requested({"probe": self.probes})

    def check_batch_norm(self, images: int) -> None:
        """Check that a net with batch norm can be trained with this layout on a number of training images.

        Raises:
            SettingError: see `Layout.check_batch_norm`; or passes are smaller than a batch, and the config does not say
                what the statistics are of, so that runs with other passes would have the same identity.
        """
        named = {"batch_norm", "batch_norm_size"} & {*self.choices["model"]}
        if not named and (self.layout.forward < self.layout.batch_size or self.settings["ascent"].get("m")):
            raise SettingError(
                "This net has batch norm, and ascent.m, trainer.micro_batch or trainer.devices divides its batches: "
                "add batch_norm: local to its file in conf/model/."
            )
        self.layout.check_batch_norm(images, self.synchronized)

    def epoch_steps(self, images: int) -> int:
        """Return the number of steps in an epoch of `images` training images."""
        return len(range(0, images, self.settings["batch_size"])[: self.limit])

    @property
    def limit(self) -> int | None:
        """The largest number of batches in an epoch; None for all."""
        return self.settings.get("trainer", {}).get(LIMIT)


def _resolved(group: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config group with its resolved values, in which `params` and `live_params` are replaced by null."""
    values = {key: value for key, value in settings.items() if key in group}
    return {**group, **dict.fromkeys(key for key in ("params", "live_params") if key in group), **values}

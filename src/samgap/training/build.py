"""The parts of a run, made from its config: data, net, optimizer, schedule.

A part is called with its settings: the keys of its YAML without `name` and `_target_`.
"""

import functools
import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import Profiler
from torch import nn
from torch.optim import Optimizer

from samgap import seeds
from samgap.data.sets import Data, assemble
from samgap.errors import SettingError, line, said
from samgap.models.init import initialize
from samgap.optim.wrapper import Wrapper
from samgap.pruning import mask
from samgap.pruning.examples import Examples
from samgap.targets import locate, options
from samgap.training.settings import LIMIT, TRAINER


def data(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Data:
    """The parts of the data set; runs of one process that want the same share one copy, to which nothing writes."""
    return _data(config["data"]["_target_"], Path(config["data_dir"]), json.dumps(settings["data"]))


def net(config: Mapping[str, Any], settings: Mapping[str, Any], data: Data) -> tuple[nn.Module, mask.Masks]:
    """The initialized and pruned net of a run, and its masks (none when dense)."""
    seeds.seed_globals(settings["seed"], "init")
    model = options(settings["model"])
    init = model.pop("init")
    model.pop("batch_norm_size", None)
    net: nn.Module = _part(config, "model")(data.shape, data.classes, **model)
    initialize(net, init)
    pruner = options(settings["pruner"])
    if not pruner.get("sparsity"):
        return net, {}
    examples = Examples(data.train.images, data.train.labels, data.scale.__call__, locate(config["loss"]["_target_"]))
    masks = _part(config, "pruner")(net, examples, **pruner)
    _report_empty(masks, refuse=config["pruner"].get("refuse_empty", False))
    mask.apply(net, masks)
    return net, masks


def _report_empty(masks: mask.Masks, *, refuse: bool) -> None:
    empty = [name for name, layer in masks.items() if not layer.any()]
    if not empty:
        return
    sentence = f"The mask leaves no weight in {', '.join(empty)}, so nothing of the image passes there"
    if refuse:
        raise SettingError(f"{sentence}: lower pruner.sparsity, take another pruner, or set pruner.refuse_empty=false.")
    warnings.warn(f"{sentence} (pruner.refuse_empty=true makes this an error).", stacklevel=2)


def optimizer(config: Mapping[str, Any], settings: Mapping[str, Any], net: nn.Module) -> Wrapper:
    """The base optimizer, wrapped by the ascent, or by nothing that does anything if rho is 0: the SGD arm."""
    base: Optimizer = _part(config, "optimizer")(net.parameters(), **options(settings["optimizer"]))
    arguments = options(settings["ascent"])
    if not arguments.get("rho"):
        return Wrapper(base)
    arguments.pop("m", None)  # the stepper's, which deals out the examples
    wrapped: Wrapper = _part(config, "ascent")(base, module=net, **arguments)
    return wrapped


def schedule(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Callable[[int, int], float]:
    """(step, steps) to the factor on the learning rate."""
    return partial(locate(config["schedule"]["_target_"]), **options(settings["schedule"]))


def extras(config: Mapping[str, Any]) -> tuple[list[Callback], dict[str, Any]]:
    """What the user asks of Lightning itself: callbacks, and keywords of its Trainer. Any `_target_` is made an object.

    Raises:
        SettingError: one cannot be made, or is not what its key wants.
    """
    group = config.get("callbacks") or {}
    if not isinstance(group, Mapping):
        raise SettingError(f"callbacks must name files of conf/callbacks/, or be set key by key, got {said(group)}.")
    callbacks = {name: _made(f"callbacks.{name}", part) for name, part in group.items()}
    for name, made in callbacks.items():
        if not isinstance(made, Callback):
            raise SettingError(
                f"callbacks.{name}._target_ must name a callback of Lightning's, got {said(group[name])}."
            )
    keys = set(config["trainer"]) - TRAINER - {LIMIT}
    keywords = {key: _made(f"trainer.{key}", value) for key, value in config["trainer"].items() if key in keys}
    profiler = keywords.get("profiler")
    if not isinstance(profiler, Profiler) and profiler not in (None, "simple", "advanced", "pytorch"):
        raise SettingError(
            f"trainer.profiler must be simple, advanced or pytorch, or name a _target_, got {said(profiler)}."
        )
    return [*callbacks.values()], keywords


def _made(key: str, part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    try:
        return instantiate(part, _convert_="all")
    except (HydraException, OmegaConfBaseException) as error:
        first: BaseException = error
        while first.__cause__:  # Hydra's own words are the names of errors
            first = first.__cause__
        raise SettingError(f"{key} cannot be made ({line(first)}).") from error


def _part(config: Mapping[str, Any], group: str) -> Callable[..., Any]:
    """What a group names."""
    return functools.partial(call, group, locate(config[group]["_target_"]))


def call(group: str, target: Callable[..., Any], /, *given: Any, **settings: Any) -> Any:
    """Call a part with its settings; one that it does not take is the user's to put right."""
    try:
        inspect.signature(target).bind(*given, **settings)
    except TypeError as error:
        raise SettingError(f"The keys of {group} must be those of a file in conf/{group}/: {error}.") from error
    return target(*given, **settings)


@functools.lru_cache(maxsize=1)
def _data(target: str, folder: Path, settings: str) -> Data:
    data: Data = call("data", assemble, locate(target), folder, **options(json.loads(settings)))
    return data


@functools.lru_cache(maxsize=1)
def sha256(data: Data) -> str:
    """Digest of the data, once for the runs of one process."""
    return data.sha256()

"""Build the parts of a run from its plan with `hydra.utils.instantiate`: data, net, optimizer, schedule, loss."""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar
from pytorch_lightning.profilers import Profiler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from samgap import seeds
from samgap.data.sets import Data
from samgap.errors import SettingError, line, said
from samgap.optim.wrapper import Wrapper
from samgap.pruning import mask
from samgap.pruning.examples import Examples
from samgap.targets import call, check_call
from samgap.training.plan import RunPlan


def data(plan: RunPlan) -> Data:
    """Return the data of a run. Consecutive runs in one process that use the same data share one read-only copy."""
    return _data(json.dumps(plan.choices["data"]), plan.place["data_dir"])


def net(plan: RunPlan, data: Data) -> tuple[nn.Module, mask.Masks]:
    """Return the initialized and pruned net of a run, and its masks (empty if dense)."""
    seeds.seed_globals(seeds.of_run(plan.settings), "init")
    net: nn.Module = _part(plan, "model", data.shape, data.classes)
    examples = Examples(data.train.images, data.train.labels, data.normalize.__call__, loss(plan))
    masks: mask.Masks = _part(plan, "pruner", net, examples)
    mask.apply(net, masks)
    return net, masks


def optimizer(plan: RunPlan, net: nn.Module) -> Wrapper:
    """Return the base optimizer, wrapped by its ascent. If rho is 0 (SGD), the wrapper changes nothing."""
    try:
        base = _part(plan, "optimizer", net.parameters())
    except SettingError:
        raise
    except (TypeError, ValueError) as error:
        raise SettingError(f"The optimizer does not take what optimizer says ({line(error)}).") from error
    return _part(plan, "ascent", base, net)


def schedule(plan: RunPlan) -> Callable[[int, int], float]:
    """Return a function from (step, steps) to the factor on the learning rate."""
    return _function(plan, "schedule")


class Schedule(LambdaLR):
    """Torch's scheduler without its checks in each step, which take twice as long as setting the rates."""

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rate of the next step; `epoch` is not used."""
        self._step_count += 1
        self.last_epoch += 1
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [rate * factor for rate, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def loss(plan: RunPlan) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function from logits and labels to a scalar, the mean loss over the batch."""
    return _function(plan, "loss")


def extras(plan: RunPlan, further: Iterable[Callback], bar: bool) -> tuple[list[Callback], dict[str, Any]]:
    """Return Lightning callbacks and Trainer keywords; each `_target_` in the user's config is instantiated.

    Args:
        plan: contains the configs of the user's callbacks and keywords.
        further: additional callbacks, already instantiated.
        bar: add a progress bar, unless the user configured one or disabled it.

    Raises:
        SettingError: an object cannot be instantiated, or has the wrong type for its key.
    """
    group = plan.callbacks or {}
    if not isinstance(group, Mapping):
        raise SettingError(f"callbacks must name files of conf/callbacks/, or be set key by key, got {said(group)}.")
    callbacks = {name: instantiated(f"callbacks.{name}", part) for name, part in group.items()}
    for name, callback in callbacks.items():
        if not isinstance(callback, Callback):
            raise SettingError(
                f"callbacks.{name}._target_ must name a callback of Lightning's, got {said(group[name])}."
            )
    keywords = {key: instantiated(f"trainer.{key}", value) for key, value in plan.keywords.items()}
    profiler = keywords.get("profiler")
    if not isinstance(profiler, Profiler) and profiler not in (None, "simple", "advanced", "pytorch"):
        raise SettingError(
            f"trainer.profiler must be simple, advanced or pytorch, or name a _target_, got {said(profiler)}."
        )
    both = [*callbacks.values(), *further]
    if bar and keywords.get("enable_progress_bar", True) and not any(isinstance(c, ProgressBar) for c in both):
        both.append(TQDMProgressBar())
    return both, keywords


def instantiated(key: str, group: Any) -> Any:
    """Instantiate a config group with `hydra.utils.instantiate`; return any other value unchanged.

    Raises:
        SettingError: the object cannot be instantiated.
    """
    try:
        return instantiate(group, _convert_="all") if isinstance(group, Mapping) else group
    except (HydraException, OmegaConfBaseException) as error:
        first: BaseException = error
        while first.__cause__:  # Hydra's own message is hard to understand
            first = first.__cause__
        raise SettingError(f"{key} cannot be made ({line(first)}).") from error


def _part(plan: RunPlan, group: str, *arguments: Any) -> Any:
    return call(group, instantiated(group, plan.choices[group]), *arguments)


def _function(plan: RunPlan, group: str) -> Callable[[Any, Any], Any]:
    """Return a part that is a function of two arguments."""
    function: Callable[[Any, Any], Any] = instantiated(group, plan.choices[group])
    check_call(group, function, None, None)
    if isinstance(function, functools.partial):  # Hydra's subclass adds checks, which take a third of a small step
        return functools.partial(function.func, *function.args, **function.keywords)
    return function


@functools.lru_cache(maxsize=1)
def _data(group: str, folder: str) -> Data:
    return call("data", instantiated("data", json.loads(group)), folder)


@functools.lru_cache(maxsize=1)
def sha256(data: Data) -> str:
    """Return the digest of the data, computed once for the runs of one process."""
    return data.sha256()

"""From a composed config to the scientific settings of one run: checked, resolved, ready to be hashed.

Values are checked here, where they enter and before anything is written; the parts check their own arguments again,
since they may be used alone.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from samgap.errors import SettingError, said
from samgap.runs.sweeps import A_NAME, A_WORD, is_name, is_word
from samgap.targets import locate
from samgap.training.layout import Layout, layout

GROUPS = ("data", "model", "pruner", "optimizer", "ascent", "loss", "schedule")
SCALARS = ("epochs", "batch_size", "eval_every", "precision", "clip_norm", "stop_loss", "seed")
# Not 16-mixed: its loss scale would reach into the ascent, and with it a step in pass 2 that must be skipped in both.
PRECISIONS = ("32-true", "tf32", "64-true", "bf16-mixed")
WANDB_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")  # the last three mean one of the others
WANDB_NAME = "a text of at most 128 characters without / \\ # ? % :"
STEPPERS = ("auto", "eager", "compiled")
PRODUCTS = ("auto", "mkl", "onednn")
BATCH_NORMS = ("local", "synchronized")


def _number(value: Any) -> bool:
    # Neither inf nor nan, nor a whole number that is too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _whole(value: Any) -> bool:
    # A float of 2^53 or more stands for many whole numbers.
    return _number(value) and value == int(value) and abs(value) < (2**63 if isinstance(value, int) else 2**53)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _numbers(value: Any, right: Callable[[float], bool] = lambda _: True) -> bool:
    return isinstance(value, list) and all(_number(item) and right(item) for item in value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _folder(value: Any) -> bool:
    return _text(value) and not value.startswith("~") and "\0" not in value


def _wandb_name(value: Any) -> bool:
    return _text(value) and len(value) <= 128 and not set(value) & set("/\\#?%:")


A_FOLDER = "a folder (in full: only a shell expands ~)"


# key -> (is it right, what is wanted), keys of the parts here among them. What has no rule is the part's own to check.
# Scalars first: a group that follows one of them is not to blame for its value.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "epochs": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "batch_size": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "eval_every": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "precision": (lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "clip_norm": (lambda v: v is None or (_number(v) and v > 0), "a number above 0, or null for none"),
    "stop_loss": (lambda v: v is None or (_number(v) and v > 0), "a number above 0, or null for none"),
    "data.size": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "data.train_size": (lambda v: v is None or (_whole(v) and v >= 1), "a whole number from 1, or null for all"),
    "data.holdout": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "data.label_noise": (lambda v: _number(v) and 0 <= v <= 1, "a share from 0 to 1"),
    "data.channels": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "data.classes": (lambda v: _whole(v) and v >= 2, "a whole number from 2"),
    "data.mean": (_numbers, "a list of numbers, one a channel"),
    "data.std": (lambda v: _numbers(v, lambda std: std > 0), "a list of numbers above 0, one a channel"),
    "data.condition": (lambda v: _number(v) and v >= 1, "a number from 1"),
    "data.crop": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "data.area": (
        lambda v: _numbers(v) and len(v) == 2 and 0 < v[0] <= v[1] <= 1,
        "two shares, the smaller first, above 0 and up to 1",
    ),
    "data.center": (lambda v: _number(v) and 0 < v <= 1, "a share above 0 and up to 1"),
    "data.flip": (lambda v: isinstance(v, bool), "true or false"),
    "data.seed": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "model.width": (lambda v: _number(v) and v > 0, "a number above 0"),
    "model.params": (lambda v: v is None or (_number(v) and v >= 1), "a number from 1, or null for model.width"),
    "model.batch_norm": (lambda v: v in BATCH_NORMS, f"one of {', '.join(BATCH_NORMS)}"),
    "pruner.sparsity": (lambda v: _number(v) and 0 <= v < 1, "a share from 0 up to but not including 1"),
    "pruner.live_params": (lambda v: v is None or (_whole(v) and v >= 1), "a whole number from 1, or null"),
    "pruner.refuse_empty": (lambda v: isinstance(v, bool), "true or false"),
    "pruner.batches": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "pruner.batch_size": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "pruner.mode": (lambda v: v in ("train", "eval"), "train or eval"),
    "pruner.temperature": (lambda v: _number(v) and v > 0, "a number above 0"),
    "pruner.iterations": (lambda v: _whole(v) and v >= 1, "a whole number from 1"),
    "pruner.seed": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "optimizer.lr": (lambda v: _number(v) and v > 0, "a number above 0"),
    "optimizer.momentum": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 up to but not including 1"),
    "optimizer.weight_decay": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "schedule.milestones": (lambda v: _numbers(v, lambda at: 0 <= at <= 1), "a list of shares from 0 to 1"),
    "schedule.factor": (lambda v: _number(v) and v > 0, "a number above 0"),
    "schedule.warmup_steps": (lambda v: _whole(v) and v >= 0, "a whole number from 0"),
    "trainer.accelerator": (lambda v: v in ("cpu", "gpu", "auto"), "cpu, gpu or auto"),
    "trainer.benchmark": (lambda v: isinstance(v, bool), "true or false"),
    "trainer.deterministic": (lambda v: isinstance(v, bool) or v == "warn", "true, false or warn"),
    "trainer.keep_weights": (lambda v: isinstance(v, bool), "true or false"),
    "trainer.devices": (lambda v: _count(v), "a whole number from 1"),
    "trainer.micro_batch": (lambda v: v is None or _count(v), "a whole number from 1, or null"),
    "trainer.stepper": (lambda v: v in STEPPERS, f"one of {', '.join(STEPPERS)}"),
    "trainer.products": (lambda v: v in PRODUCTS, f"one of {', '.join(PRODUCTS)}"),
    "trainer.threads": (lambda v: _count(v) and v <= 1024, "a whole number from 1 to 1024"),
    "trainer.workers": (lambda v: type(v) is int and 0 <= v <= 1024, "a whole number from 0 to 1024"),
    "trainer.checkpoint_seconds": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "trainer.limit_train_batches": (lambda v: v is None or _count(v), "a whole number from 1, or null for all batches"),
    "logger.mode": (
        lambda v: v in (None, "", *WANDB_MODES),
        "online, offline or disabled, or null (its default is WANDB_MODE)",
    ),
    "logger.project": (_wandb_name, WANDB_NAME),
    "logger.entity": (
        lambda v: v in (None, "") or _wandb_name(v),
        f"{WANDB_NAME}, or null for the account's own (its default is WANDB_ENTITY)",
    ),
    "logger.start_seconds": (lambda v: _number(v) and v > 0, "a number above 0"),
    "logger.end_seconds": (lambda v: _number(v) and v > 0, "a number above 0"),
    "name": (is_name, A_NAME),
    "scale": (is_word, A_WORD),
    "root": (_folder, A_FOLDER),
    "data_dir": (_folder, A_FOLDER),
    "ascent.rho": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "ascent.eta": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "ascent.alpha": (lambda v: _number(v) and v >= 0, "a number from 0"),
    "ascent.m": (lambda v: v is None or (_whole(v) and v >= 1), "a whole number from 1, or null for the whole batch"),
    "ascent.interval": (lambda v: v is None or (_whole(v) and v >= 1), "a whole number from 1, or null for every step"),
}

NEEDED = {"data": ("channels", "classes", "size", "mean", "std"), "model": ("width",)}  # whatever the part
LIMIT = "limit_train_batches"  # the one keyword of Lightning's Trainer that is taken and changes a result
TRAINER = {"name", *(key.removeprefix("trainer.") for key in RULES if key.startswith("trainer."))} - {LIMIT}
# Keywords of Lightning's Trainer that are not passed on -> what to set instead. All others are; they change no result.
INSTEAD = {
    **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"), "epochs (or stop_loss)"),
    **dict.fromkeys(("check_val_every_n_epoch", "val_check_interval", "log_every_n_steps"), "eval_every"),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), "clip_norm"),
    **dict.fromkeys(("strategy", "plugins", "use_distributed_sampler"), "trainer.devices"),
    "num_nodes": "trainer.devices and hydra/launcher=slurm hydra.launcher.nodes",
    "sync_batchnorm": "model.batch_norm=synchronized",
    "precision": "precision",
    "accumulate_grad_batches": "batch_size and trainer.micro_batch",
    "overfit_batches": "data.train_size, or debug=overfit",
    "fast_dev_run": "trainer.limit_train_batches=1 and epochs=1, or debug=limit",
    "barebones": "trainer.checkpoint_seconds",
    "enable_checkpointing": "trainer.checkpoint_seconds",
    "enable_model_summary": "callbacks=[model_summary]",
    "callbacks": "callbacks",
    "logger": "logger",
    "default_root_dir": "root",
}


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """The scientific settings of a run.

    `_target_` paths are left out, whole floats become ints, `model.params` becomes the width that comes nearest, and
    `pruner.live_params` the sparsity that leaves so many.
    What is the default by another name becomes null: an interval of 1, an m of the whole batch. `model.batch_norm`
    becomes the number of examples over which batch norm takes its statistics, which is what it means for a result.

    Args:
        config: a composed config as plain values; only the groups and scalars above are read.

    Raises:
        SettingError: a value is not what its key wants.
    """
    for group in GROUPS:
        _refuse_no_part(group, config.get(group))
    config = {**dict.fromkeys(SCALARS), **config}  # a scalar that was taken out is null
    check(config)
    settings: dict[str, Any] = {key: _plain(config[key]) for key in SCALARS}
    for group in GROUPS:
        settings[group] = {key: _plain(value) for key, value in config[group].items() if not key.startswith("_")}
    trainer = config.get("trainer", {})
    for key in ("mean", "std"):
        if len(settings["data"][key]) != settings["data"]["channels"]:
            raise SettingError(
                f"data.{key} must have a number for each of {settings['data']['channels']} channels (data.channels), "
                f"got {said(settings['data'][key])}."
            )
    if trainer.get("benchmark") and trainer.get("deterministic") is not False:
        raise SettingError(
            "trainer.benchmark=true lets cuDNN take another kernel every time: set trainer.deterministic=false, or "
            "trainer.benchmark=false."
        )
    dealt = layout(settings, trainer)
    if settings["ascent"].get("m") and dealt.m == dealt.batch_size:
        settings["ascent"]["m"] = None
    if settings["ascent"].get("interval") == 1:
        settings["ascent"]["interval"] = None
    if norm := settings["model"].pop("batch_norm", None):
        size = _batch_norm_size(norm, dealt)
        settings["model"]["batch_norm_size"] = size if size < dealt.batch_size else None
    params = settings["model"].pop("params", None)
    if params is not None:
        settings["model"]["width"] = _width(config["model"]["_target_"], params, _shape(settings), _classes(settings))
    settings["pruner"].pop("refuse_empty", None)  # changes no result
    if limit := trainer.get(LIMIT):
        settings["trainer"] = {LIMIT: limit}
    if live := settings["pruner"].pop("live_params", None):
        if settings["pruner"].get("sparsity"):
            raise SettingError(
                "pruner.live_params and pruner.sparsity say the same: set pruner.live_params=null or pruner.sparsity=0."
            )
        settings["pruner"]["sparsity"] = _sparsity(config["model"]["_target_"], live, settings)
    return settings


def _batch_norm_size(norm: str, dealt: Layout) -> int:
    if norm == "local":
        return dealt.forward
    if dealt.forward < min(dealt.m, dealt.batch_size // dealt.ranks):
        raise SettingError("model.batch_norm=synchronized wants undivided passes: set trainer.micro_batch=null.")
    if 1 < dealt.span < dealt.ranks:
        raise SettingError(
            f"model.batch_norm=synchronized is over all devices, and ascent.m={dealt.m} over {dealt.span} of "
            f"{dealt.ranks}: set model.batch_norm=local, or ascent.m=null."
        )
    return dealt.m


def check(values: Mapping[str, Any]) -> None:
    """Refuse what a key of `RULES` cannot be; keys that are not there are not missed.

    Args:
        values: a config, or a part of its top level, as plain values.

    Raises:
        SettingError: a value is not what its key wants.
    """
    for key, (right, wanted) in RULES.items():
        group, _, name = key.rpartition(".")
        inside = values.get(group) if group else values
        if isinstance(inside, Mapping) and name in inside and not right(value := inside[name]):
            number = isinstance(value, int | float)
            quoted = f"; for a text put it in quotes, \"{key}='{value}'\"" if number and right(str(value)) else ""
            raise SettingError(f"{key} must be {wanted}, got {json.dumps(value, ensure_ascii=False)}{quoted}.")
    for group in ("about", "draw", "logger", "panels"):
        if not isinstance(values.get(group, {}), Mapping):
            came = json.dumps(values[group])
            raise SettingError(f"{group} must be set key by key, such as {group}.key=value, got {came}.")
    if (trainer := values.get("trainer")) is not None:
        _check_trainer(trainer)


def _check_trainer(trainer: Any) -> None:
    """Ours are all there, and others are Lightning's."""
    lacking = TRAINER - set(trainer) if isinstance(trainer, Mapping) else TRAINER
    if lacking:
        raise SettingError(f"trainer must have all keys of a file in conf/trainer/: {min(lacking)} is missing.")
    for key in map(str, set(trainer) - TRAINER - {LIMIT}):
        if key in INSTEAD:
            raise SettingError(f"trainer.{key} is not handed to Lightning: set {INSTEAD[key]} instead.")
        if key not in (taken := _trainer_keywords()):
            near = get_close_matches(key, {LIMIT, *TRAINER, *taken} - INSTEAD.keys(), 1)
            nearest = f"; the nearest is trainer.{near[0]}" if near else ""
            raise SettingError(
                f"trainer.{key} is a key neither of a file in conf/trainer/ nor of Lightning's Trainer{nearest}."
            )


@functools.cache
def _trainer_keywords() -> frozenset[str]:
    from pytorch_lightning import Trainer  # takes seconds, which runs without such keys need not wait for

    return frozenset(inspect.signature(Trainer).parameters)


def _refuse_no_part(group: str, part: Any) -> None:
    named = isinstance(part, Mapping) and is_word(part.get("name"))
    if not named or not (_text(part.get("_target_")) or (group == "ascent" and not part.get("rho"))):
        found = {key: part.get(key) for key in ("name", "_target_")} if isinstance(part, Mapping) else part
        raise SettingError(
            f"{group} must be a file of conf/{group}/, whose name is a word and whose _target_ is a dotted path, got "
            f"{json.dumps(found)}."
        )
    if lacking := [key for key in NEEDED.get(group, ()) if key not in part]:
        raise SettingError(f"{group}.{lacking[0]} is missing: it must be {RULES[f'{group}.{lacking[0]}'][1]}.")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _shape(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    return settings["data"]["channels"], settings["data"]["size"], settings["data"]["size"]


def _classes(settings: Mapping[str, Any]) -> int:
    return int(settings["data"]["classes"])


def _sparsity(target: str, live: int, settings: Mapping[str, Any]) -> float:
    """The share of kernel weights to remove, for so many parameters to be left, biases and batch norm included."""
    total, prunable = _counts(target, settings["model"]["width"], _shape(settings), _classes(settings))
    kept = live - (total - prunable)
    if not 0 < kept <= prunable:
        raise SettingError(
            f"pruner.live_params must be from {total - prunable + 1}, one kernel weight beside biases and batch norm, "
            f"to {total}, the whole net at model.width={settings['model']['width']:g}, got {live}."
        )
    return 1 - kept / prunable


@functools.cache
def _counts(target: str, width: float, shape: tuple[int, int, int], classes: int) -> tuple[int, int]:
    import torch

    from samgap.models import count

    with torch.device("meta"):
        counts = count.count(locate(target)(shape, classes, width=width))
    return counts.total, counts.prunable


@functools.cache
def _width(target: str, params: float, shape: tuple[int, int, int], classes: int) -> float:
    from samgap.models import count  # brings torch, which a study without model.params need not wait for

    model = locate(target)
    step = locate(f"{model.__module__}.WIDTH_STEP")
    width = count.nearest_width(lambda width: model(shape, classes, width), params, step)
    return int(width) if width == int(width) else width

"""How a run is carried out on this machine: the keys of conf/trainer/, and keywords of Lightning's Trainer."""

import functools
import inspect
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from samgap.errors import SettingError
from samgap.rules import FLAG, Rule, at_least, check, count, one_of


@dataclass(frozen=True)
class Machine:
    """Settings of the machine; conf/trainer/ explains each. They do not affect a run's identity."""

    accelerator: str
    devices: int
    micro_batch: int | None
    threads: int
    workers: int
    stepper: str
    products: str
    deterministic: bool | str
    benchmark: bool
    checkpoint_seconds: float
    keep_weights: bool


COMPILED_FROM = 2_000  # number of steps from which compiling saves time
LIMIT = "limit_train_batches"  # the only accepted keyword of Lightning's Trainer that changes results
TRAINER = {"name", *(field.name for field in fields(Machine))}
RULES = {
    "accelerator": one_of("cpu", "gpu", "auto", expected="cpu, gpu or auto"),
    "benchmark": FLAG,
    "deterministic": Rule(lambda value: value == "warn" or isinstance(value, bool), "true, false or warn"),
    "keep_weights": FLAG,
    "devices": count(1),
    "micro_batch": count(1).or_null(),
    "stepper": one_of("auto", "eager", "compiled"),
    "products": one_of("auto", "mkl", "onednn"),
    "threads": count(1, 1024),
    "workers": count(0, 1024),
    "checkpoint_seconds": at_least(0),
    LIMIT: count(1).or_null(" for all batches"),
}
# Refused keywords of Lightning's Trainer -> what to set instead. All others are passed on; they change no result.
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


def check_trainer(trainer: Any) -> None:
    """Raise a SettingError if a key of `trainer` is missing, wrong or unknown."""
    check(trainer, RULES, "trainer.")
    if lacking := TRAINER - set(trainer if isinstance(trainer, dict) else ()):
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
    if trainer["benchmark"] and trainer["deterministic"] is not False:
        raise SettingError(
            "trainer.benchmark=true lets cuDNN take another kernel every time: set trainer.deterministic=false, or "
            "trainer.benchmark=false."
        )


@functools.cache
def _trainer_keywords() -> frozenset[str]:
    from pytorch_lightning import Trainer  # takes seconds; most runs do not need it

    return frozenset(inspect.signature(Trainer).parameters)

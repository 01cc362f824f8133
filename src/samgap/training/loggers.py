"""Where a run is mirrored to while it trains. The truth is record.json and metrics.csv, which every run writes."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from samgap import identity


@contextlib.contextmanager
def csv(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Logger | None]:
    """Nothing beside the files."""
    yield None


@contextlib.contextmanager
def wandb(
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    project: str,
    entity: str | None = None,
    mode: str | None = None,
    start_seconds: float = 20,
    end_seconds: float = 120,
) -> Iterator[Logger | None]:
    """One W&B run, named after the run's folder, tagged by its cell, closed on the way out.

    Args:
        settings: the scientific settings; they become the W&B config.
        config: the composed config; gives `root`, `name` and `scale`.
        project, entity: where in W&B.
        mode: online, offline or disabled; None is what the variable WANDB_MODE says, else online when this machine
            is logged in, else offline. Nothing is asked in any case.
        start_seconds: for W&B to answer; a run does without it then, and is kept offline.
        end_seconds: for W&B to take what is left.
    """
    from pytorch_lightning.loggers import WandbLogger

    rho = settings["ascent"].get("rho") or 0
    arm = "SAM" if rho else "SGD"
    width, seed = settings["model"]["width"], settings["seed"]
    tags = [settings["data"]["name"], settings["model"]["name"], f"width={width:g}", f"rho={rho:g}", f"seed={seed}"]
    if sparsity := settings["pruner"].get("sparsity"):
        tags.append(f"sparsity={sparsity:.4g}")
    if noise := settings["data"].get("label_noise"):
        tags.append(f"noise={noise:g}")
    folder = Path(config["root"]) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    run = _start(
        mode or os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline"),
        start_seconds,
        end_seconds,
        project=project,
        entity=entity,
        id=identity.identity(settings),
        resume="allow",
        name=identity.folder(settings),
        group=f"{config['name']}/{config['scale']}",
        job_type=arm,
        tags=[*tags, f"{config['name']}/{config['scale']}"],
        config=identity.flat(settings) | {"arm": arm},
        dir=config["root"],
    )
    failed = True
    try:
        yield WandbLogger(experiment=run)
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def _start(mode: str, start_seconds: float, end_seconds: float, **options: Any) -> Any:
    """A W&B run, offline where W&B cannot be reached or refuses: a mirror stops nothing."""
    import wandb  # takes a second and a half, which runs without it should not pay

    settings = wandb.Settings(silent=True, console="off", finish_timeout=end_seconds)
    # A second init in one process would otherwise return the first run, with the first run's config.
    begin: Any = partial(wandb.init, reinit="create_new", settings=settings, **options)
    if mode == "online" and _missed:
        mode = "offline"
    if mode == "online":
        try:
            # The limit is the server's alone: W&B's own process may take longer to start on a busy machine.
            limited = settings.model_copy(update={"init_timeout": start_seconds})
            return begin(mode=mode, settings=limited)
        except wandb.errors.Error as error:
            _missed.append(str(error))
            folder = Path(options["dir"]) / "wandb"
            warnings.warn(
                f"W&B did not take the run ({str(error).splitlines()[0]}): it and those after it are kept offline in "
                f"{folder}, to be sent by `wandb sync {folder}/offline-run-*`.",
                stacklevel=2,
            )
            # Its process would go on trying, and keep the run's id from being used again. One that another program
            # started and left in the environment cannot be ended from here: it is left alone.
            wandb.teardown()
            os.environ.pop("WANDB_SERVICE", None)
            mode = "offline"
    return begin(mode=mode)


_missed: list[str] = []  # why W&B could not be had; later runs of this process do not wait for it again


def _logged_in() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)

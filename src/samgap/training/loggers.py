"""Where a run is mirrored to while it trains. The truth is record.json and metrics.csv, which every run writes."""

import contextlib
import os
from collections.abc import Iterator, Mapping
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
) -> Iterator[Logger | None]:
    """One W&B run, named after the run's folder, tagged by its cell, closed on the way out.

    Args:
        settings: the scientific settings; they become the W&B config.
        config: the composed config; gives `root`, `name` and `scale`.
        project, entity: where in W&B.
        mode: online, offline or disabled; None is what the variable WANDB_MODE says, else online when this machine
            is logged in, else offline. Nothing is asked in any case.
    """
    import wandb  # takes a second and a half, which runs without it should not pay
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
    run = wandb.init(
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
        mode=mode or os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline"),  # type: ignore[arg-type]
        # A second init in one process would otherwise return the first run, with the first run's config.
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )
    failed = True
    try:
        yield WandbLogger(experiment=run)
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def _logged_in() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)

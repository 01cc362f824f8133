"""Sends copies of a run's results to a logger. Every run also writes them to record.json and metrics.csv."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from samgap.runs import identity, measurements
from samgap.runs.records import METRICS, RunRecord
from samgap.tracking import session

# Fields of a record for W&B's tables and charts. The summary also has the whole record as one text.
SHOWN = ("status", "test_acc_final", "test_acc_best", "test_loss_final", "holdout_acc_final", "train_acc_final",
         "train_loss_final", "params_total", "params_live", "seconds")  # fmt: skip


@dataclass(frozen=True)
class Mirror:
    """A Lightning logger for the metrics of epochs, and a function `keep` that sends the whole result at the end."""

    logger: Logger | None = None
    keep: Callable[[RunRecord, Path], None] = lambda record, folder: None


class WarningLogger(WandbLogger):
    """Lightning's W&B logger, which warns instead of raising errors."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send the metrics of an epoch to W&B."""
        with session.errors_as_warnings():
            super().log_metrics(metrics, step)


@contextlib.contextmanager
def csv(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Mirror]:
    """Send nothing; the run writes its files anyway."""
    yield Mirror()


@contextlib.contextmanager
def wandb(settings: Mapping[str, Any], config: Mapping[str, Any], **account: Any) -> Iterator[Mirror]:
    """Open a W&B run with the name of the run's folder and tags for its cell; send it record, curve and probes.

    Args:
        settings: the scientific settings, which become the W&B config.
        config: the keys `root`, `name` and `scale`.
        account: project, entity and further arguments of `session.run`.
    """
    rho = settings["ascent"].get("rho") or 0
    arm = "SAM" if rho else "SGD"
    width, seed = settings["model"]["width"], settings["seed"]
    tags = [settings["data"]["name"], settings["model"]["name"], f"width={width:g}", f"rho={rho:g}", f"seed={seed}"]
    if sparsity := settings["pruner"].get("sparsity"):
        tags.append(f"sparsity={sparsity:.4g}")
    if noise := settings["data"].get("label_noise"):
        tags.append(f"noise={noise:g}")
    sweep = f"{config['name']}/{config['scale']}"
    run_id = identity.identity(settings)
    about = {"arm": arm, "identity": run_id, "sweep": sweep}
    with session.run(
        Path(config["root"]), **account, id=run_id, name=identity.folder(settings), group=sweep, job_type=arm,
        tags=[*tags, sweep], config={**settings, "ascent": settings["ascent"] | {"rho": rho}, **about},
    ) as run:  # fmt: skip
        if run is None:
            yield Mirror()
        else:
            yield Mirror(WarningLogger(experiment=run), lambda record, folder: _send(run, record, folder))


def _send(run: Any, record: RunRecord, folder: Path) -> None:
    """Send the whole result, from which `restore.restore` can rebuild the run's folder."""
    values = dataclasses.asdict(record)
    with session.errors_as_warnings():
        run.summary.update({key: values[key] for key in SHOWN} | {"record": json.dumps(values)})
        run_folder = Path(run.dir)
        for path in [folder / METRICS, *(folder / measurements.FOLDER).glob("*.json")]:
            copy = run_folder / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
            run.save(copy, base_path=run_folder, policy="now")

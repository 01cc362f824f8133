"""`python -m samgap.train`: carries out one run, or with -m a sweep."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from samgap import cli, naming
from samgap.errors import SettingError
from samgap.runs import identity, sweeps
from samgap.runs.records import ERROR, RunOutcome, RunRecord
from samgap.training.settings import resolve

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="train")
def main(config: DictConfig) -> RunOutcome | None:
    """Carry out the run that `config` describes.

    In a sweep, return the outcome; an error is part of it and ends only this run.
    """
    # Imports torch and Lightning, which is slow. A finished sweep or a wrong setting does not need them.
    with cli.importing():
        from samgap.training import ranks
        from samgap.training.run import Busy, run

    values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    hydra_config = HydraConfig.get()
    for key in ("root", "data_dir"):  # relative to the folder before hydra.job.chdir
        values[key] = str(Path(hydra_config.runtime.cwd, values[key]))
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode != RunMode.MULTIRUN:
        with cli.sentences():
            _refuse_other_folder(values, hydra_config)
            _refuse_grid(hydra_config)
            record = run(values, folder, bar=sys.stderr.isatty())
        if ranks.rank() == 0:
            print(summary(record, Path(os.path.relpath(folder, hydra_config.runtime.cwd))))
        return None
    try:
        if _enough_failed(values, hydra_config):
            return RunOutcome(folder.name, "skipped")
        _refuse_other_folder(values, hydra_config)
        return RunOutcome(folder.name, run(values, folder).status)
    except Busy:
        return RunOutcome(folder.name, "busy")
    except Exception as error:
        return RunOutcome(folder.name, "failed", cli.explain(error) or repr(error))


def _enough_failed(values: dict[str, Any], hydra_config: HydraConf) -> bool:
    """Return whether at least `stop_after` runs of this sweep have failed since its start, so that no other starts.

    Each run checks this itself, so that it works with every launcher.
    """
    limit = getattr(hydra_config.sweeper, "stop_after", None)
    if limit is None:
        return False
    place = Path(values["root"]), values["name"], values["scale"]
    sweep, started = sweeps.read(*place), (place[0] / place[1] / place[2] / sweeps.SWEEP).stat().st_mtime
    errors = [sweeps.runs(place[0]) / member.folder / ERROR for member in sweep.unique()]
    failed = sum(path.exists() and path.stat().st_mtime >= started for path in errors)
    return bool(failed >= limit)


def _refuse_other_folder(values: dict[str, Any], hydra_config: HydraConf) -> None:
    """Refuse a folder that is not the run's own, which a user's config may set."""
    own = Path(values["root"], "runs", identity.folder(resolve(values)))
    if Path(hydra_config.runtime.output_dir).resolve() != own.resolve() or hydra_config.output_subdir != ".hydra":
        raise SettingError(
            f"The folder of this run is {own}, with .hydra inside, since it is found by its name: set root, and leave "
            "hydra.run, hydra.sweep and hydra.output_subdir as they are."
        )


def _refuse_grid(hydra_config: HydraConf) -> None:
    """Refuse a single run with settings of a sweep: Hydra would silently ignore them."""
    if getattr(hydra_config.sweeper, "dry_run", False):
        raise SettingError("hydra.sweeper.dry_run is of a sweep: add -m before it, or leave it out.")
    given = {override.lstrip("+").partition("=")[0] for override in hydra_config.overrides.task}
    given |= {naming.RENAMED[key] for key in given & {*naming.RENAMED}}
    if free := [key for key in getattr(hydra_config.sweeper, "params", None) or {} if key not in given]:
        raise SettingError(
            f"A figure is a grid over {', '.join(free)}: add -m to carry it out, or give a value of each for one run."
        )


def summary(record: RunRecord, folder: Path) -> str:
    """Return the summary that a single run prints at its end."""
    if record.status == "diverged":
        result = f"diverged in epoch {record.epochs}"
    elif record.test_acc_final is None or record.train_acc_final is None:
        result = f"test loss {record.test_loss_final:.4g}, train {record.train_loss_final:.4g}"
    else:
        result = f"test accuracy {100 * record.test_acc_final:.2f} %, train {100 * record.train_acc_final:.2f} %"
    return f"{record.arm}, {record.params_live:,} parameters, {result}, {record.seconds:.1f} s\n{folder}"


if __name__ == "__main__":
    cli.command(main, sweeps=True)

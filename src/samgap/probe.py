"""`python -m samgap.probe run=... probe=[hessian,moments]`: probe a finished run that kept its weights."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from samgap import cli, naming
from samgap.errors import SettingError, said
from samgap.runs import measurements, sweeps
from samgap.runs.records import RECORD
from samgap.training.plan import RunPlan
from samgap.training.settings import resolve

naming.register()

MACHINE = ("data_dir", "trainer", "logger")  # groups in which a probe may differ from its run


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="probe")
def main(config: DictConfig) -> None:
    """Carry out the probes of `probe=` on the net of the run of `run=`, unless it already has them."""
    with cli.sentences():
        probe(config)


def probe(config: DictConfig) -> None:
    """Carry out the command with a composed config.

    The settings are those of the run, except groups of `MACHINE` that the user gives.

    Raises:
        SettingError: no run or probe is named, the run is not there, or another setting is given.
    """
    from samgap.training.run import probe as look  # imports torch and Lightning, which is slow; an error comes sooner

    given = naming.plain(config, "root", "run", *MACHINE, *(["probe"] if "probe" in config else []))
    if not measurements.requested(given):
        raise SettingError("probe must name what to measure, such as probe=[hessian,moments,landscape].")
    typed = {override.lstrip("+~").partition("=")[0].split(".")[0] for override in HydraConfig.get().overrides.task}
    if strange := typed - {"root", "run", "probe", *MACHINE}:
        raise SettingError(
            f"The settings of a run that is done cannot be changed: leave out {', '.join(sorted(strange))}."
        )
    folder = find(given["run"], sweeps.runs(Path(given["root"])))
    if not (folder / RECORD).exists():
        raise SettingError(f"{folder} is no run that is done: carry it out with trainer.keep_weights=true.")
    own = _settings(folder)
    # Trainer keys that the run's version did not have get the values of this version. No identity depends on them.
    own["trainer"] = {**given["trainer"], **own.get("trainer", {})}
    settings = resolve(own)
    if not Path(own["data_dir"]).exists():
        typed.add("data_dir")  # the run came from another machine
    look(RunPlan.of(own | {key: given[key] for key in ("probe", *MACHINE) if key in typed}, settings), folder)
    for name in measurements.requested(given):
        print(folder / measurements.FOLDER / f"{name}.json")


def _settings(folder: Path) -> dict[str, Any]:
    """Return the config of a run, with paths relative to the working directory of that run resolved."""
    kept = folder / ".hydra"
    try:
        config = OmegaConf.load(kept / "config.yaml")
        own: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        here = OmegaConf.load(kept / "hydra.yaml").hydra.runtime.cwd
    except (OSError, ValueError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        raise SettingError(
            f"{kept} does not hold the config of this run ({type(error).__name__}): move {folder} away and start the "
            "run again."
        ) from error
    own.pop("hydra", None)
    return own | {key: str(Path(here, own[key])) for key in ("root", "data_dir")}


def find(named: Any, runs: Path) -> Path:
    """Return the run's folder.

    Raises:
        SettingError: none is named, none fits, or several do.
    """
    if not isinstance(named, str) or not named:
        raise SettingError(f"run must be a folder of a run, or a part of its name in {runs}, got {said(named)}.")
    if Path(named).is_dir():
        return Path(named)
    fitting = sorted(path for path in runs.glob("*") if named in path.name)
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting[:3]) + (", ..." if len(fitting) > 3 else "")
        raise SettingError(f"run={named} must name one run in {runs}, and {len(fitting)} fit: {names or 'none'}.")
    return fitting[0]


if __name__ == "__main__":
    cli.command(main)

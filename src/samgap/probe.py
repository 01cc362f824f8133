"""`python -m samgap.probe run=... probe=[hessian,moments]`: probes a finished run that kept its weights."""

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
from samgap.training.settings import GROUPS, resolve

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
        SettingError: no run or probe is named, the run does not exist, or another setting is given.
    """
    from samgap.training.run import probe as measure  # slow, since it imports torch and Lightning

    given = naming.plain(config, "root", "run", *MACHINE, *(["probe"] if "probe" in config else []))
    if not measurements.requested(given):
        raise SettingError("probe must name what to measure, such as probe=[hessian,moments,landscape].")
    typed = {override.lstrip("+~").partition("=")[0].split(".")[0] for override in HydraConfig.get().overrides.task}
    if others := typed - {"root", "run", "probe", *MACHINE}:
        raise SettingError(
            f"The settings of a run that is done cannot be changed: leave out {', '.join(sorted(others))}."
        )
    folder = find(given["run"], sweeps.runs(Path(given["root"])))
    if not (folder / RECORD).exists():
        raise SettingError(f"{folder} is no run that is done: carry it out with trainer.keep_weights=true.")
    run_config = _settings(folder)
    for group in GROUPS:
        if "code" not in run_config[group]:  # older versions have _target_ instead
            private_keys = {key: value for key, value in config[group].items() if key.startswith("_")}
            run_config[group] = {"code": run_config[group].get("_target_")} | run_config[group] | private_keys
    # Trainer keys that did not exist when the run was made get today's values. No identity depends on them.
    run_config["trainer"] = {**given["trainer"], **run_config.get("trainer", {})}
    settings = resolve(run_config)
    if not Path(run_config["data_dir"]).exists():
        typed.add("data_dir")  # the run came from another machine
    measure(RunPlan.of(run_config | {key: given[key] for key in ("probe", *MACHINE) if key in typed}, settings), folder)
    for name in measurements.requested(given):
        print(folder / measurements.FOLDER / f"{name}.json")


def _settings(folder: Path) -> dict[str, Any]:
    """Return the config of a run. Paths are resolved relative to the working directory of the run."""
    kept = folder / ".hydra"
    try:
        config = OmegaConf.load(kept / "config.yaml")
        values: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        cwd = OmegaConf.load(kept / "hydra.yaml").hydra.runtime.cwd
    except (OSError, ValueError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        raise SettingError(
            f"{kept} does not hold the config of this run ({type(error).__name__}): move {folder} away and start the "
            "run again."
        ) from error
    values.pop("hydra", None)
    return values | {key: str(Path(cwd, values[key])) for key in ("root", "data_dir")}


def find(named: Any, runs: Path) -> Path:
    """Return the folder of the run with a path, or with a part of its name.

    Raises:
        SettingError: no run is named, or not exactly one run has this name.
    """
    if not isinstance(named, str) or not named:
        raise SettingError(f"run must be a folder of a run, or a part of its name in {runs}, got {said(named)}.")
    if Path(named).is_dir():
        return Path(named)
    matches = sorted(path for path in runs.glob("*") if named in path.name)
    if len(matches) != 1:
        names = ", ".join(path.name for path in matches[:3]) + (", ..." if len(matches) > 3 else "")
        raise SettingError(f"run={named} must name one run in {runs}, and {len(matches)} fit: {names or 'none'}.")
    return matches[0]


if __name__ == "__main__":
    cli.command(main)

"""`python -m samgap.probe run=... probe=[hessian,moments]`: look at a run that is done and kept its weights."""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from samgap import cli, measured, naming
from samgap.errors import SettingError, said
from samgap.results import sweeps

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="probe")
def main(config: DictConfig) -> None:
    """Measure what `probe=` names on the net of the run that `run=` names, unless it is measured already."""
    with cli.sentences():
        probe(config)


def probe(config: DictConfig) -> None:
    """The command, on a composed config of which root, run and probe are used."""
    from samgap.training.run import run  # brings torch and Lightning, which an error need not wait for

    given = naming.plain(config, "root", "run", *(["probe"] if "probe" in config else []))
    if not given.get("probe"):
        raise SettingError("probe must name what to measure, such as probe=[hessian,moments,landscape].")
    folder = find(given["run"], sweeps.runs(Path(given["root"])))
    composed = folder / ".hydra" / "config.yaml"
    if not (folder / "record.json").exists() or not composed.exists():
        raise SettingError(f"{folder} is no run that is done: carry it out with trainer.keep_weights=true.")
    own: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(composed), resolve=False)  # type: ignore[assignment]
    own |= {"probe": given["probe"], "trainer": own["trainer"] | {"devices": 1}}
    own.pop("hydra", None)
    run(OmegaConf.to_container(OmegaConf.create(own), resolve=True), folder)  # type: ignore[arg-type]
    for name in given["probe"]:
        print(folder / measured.FOLDER / f"{name}.json")


def find(named: Any, runs: Path) -> Path:
    """The run's folder.

    Raises:
        SettingError: none is named, none fits, or several do.
    """
    if not isinstance(named, str) or not named:
        raise SettingError(f"run must be a folder of a run, or a part of its name in {runs}, got {said(named)}.")
    if Path(named).is_dir():
        return Path(named)
    fitting = sorted(path for path in runs.glob("*") if named in path.name)
    if len(fitting) != 1:
        few = ", ".join(path.name for path in fitting[:3]) + (", ..." if len(fitting) > 3 else "")
        raise SettingError(f"run={named} must name one run in {runs}, and {len(fitting)} fit: {few or 'none'}.")
    return fitting[0]


if __name__ == "__main__":
    cli.command(main)

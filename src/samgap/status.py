"""`python -m samgap.status`: prints the progress, failures and remaining time of every sweep."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from samgap import cli, naming
from samgap.console import format_duration
from samgap.errors import SettingError
from samgap.runs import sweeps
from samgap.runs.sweeps import Watch


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="status")
def main(config: DictConfig) -> None:
    """Print a line for each sweep below `root`, and a sentence for each of its runs that failed."""
    with cli.sentences():
        show(Path(naming.plain(config, "root")["root"]))


def show(root: Path) -> None:
    """Print the state of every sweep below `root`."""
    all_sweeps = sweeps.find(root)
    if not all_sweeps:
        print(f"No sweep in {root} yet.")
    unfinished = False
    for name, scale in all_sweeps:
        try:
            watch = Watch(sweeps.read(root, name, scale), root)
            progress = watch.update()
        except (SettingError, OSError) as error:
            print(f"{name}/{scale}: {error}")
            continue
        unfinished |= progress.finished < progress.total
        line = f"{name}/{scale}: {progress.text()}"
        if progress.cost_left and (left := progress.seconds_left) is not None:
            line += f", about {format_duration(left)} of one worker left"
        print(line)
        for folder in watch.running:
            if epoch := sweeps.epoch(watch.runs / folder):
                print(f"  {folder}: {epoch}")
        for folder, problem in watch.problems.items():
            print(f"  {folder}: {problem}")
    if unfinished:
        print("Look at what failed or is missing: the command of a sweep, typed again, carries it out.")


if __name__ == "__main__":
    cli.command(main)

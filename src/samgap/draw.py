"""`python -m samgap.draw figure=fig8/smoke`: records to table, figure and verdict, without data, GPU or W&B."""

import sys
from pathlib import Path
from typing import Any

import hydra
from matplotlib import pyplot as plt
from omegaconf import DictConfig

from samgap import cli, files, mirror, naming
from samgap.errors import SettingError
from samgap.plots.style import style
from samgap.results import output, restore
from samgap.results.output import Evaluated
from samgap.training.settings import check, locate, options

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="draw")
def main(config: DictConfig) -> None:
    """Draw the sweep that `figure=` or `name=` names, from its records alone, or from W&B's with source=wandb."""
    with cli.sentences():
        draw(naming.plain(config, "root", "name", "scale", "draw", "protocol", "logger", "source"))


def draw(config: dict[str, Any]) -> None:
    """Write figure, table and statistics into the sweep's folder, print table and verdict, and tell the logger.

    Args:
        config: as plain values, the keys that `main` takes.
    """
    root, name, scale, settings = Path(config["root"]), config["name"], config["scale"], config["draw"]
    logger, target = config["logger"], config["logger"].get("_gaps_")
    check({"logger": logger})
    if (source := config["source"]) == "wandb":
        if "project" not in logger:
            raise SettingError(
                "source=wandb reads where logger=wandb, logger.entity and logger.project say: add logger=wandb, "
                f"got logger={logger['name']}."
            )
        without = "draw from the records on this disk with source=records"
        with mirror.account(root, restore.TIMEOUT, "source=wandb", without) as api:
            where = logger["project"], logger["entity"]
            restored = restore.restore(api, root, name, scale, *where, settings["files"])
        root, target = restored.root, None  # what was read is not sent back
        print(f"{name}/{scale}: {restored.text()}\n", file=sys.stderr)
    elif source != "records":
        raise SettingError(f"source must be records or wandb, got {source!r}.")
    study: Evaluated = locate(settings["study"])(root, name, scale, settings, config["protocol"])
    sweep = study.table.sweep
    folder = sweep.folder(root)
    with style():
        figure = locate(settings["_target_"])(study, settings)
        for ending in ("pdf", "png"):
            files.replace(folder / f"{sweep.name}.{ending}", lambda path: figure.savefig(path))
            figure.set_layout_engine("none")  # it is laid out now
        plt.close(figure)
    output.write(study, folder, settings)
    print(output.printed(study))
    print(f"\n{folder / sweep.name}.{{pdf,png,csv,json}}")
    if target:
        plots = locate(settings["plotted"])(study.frame(), settings)
        locate(target)(sweep, root, study, plots, **options(logger))


if __name__ == "__main__":
    cli.command(main)

"""`python -m samgap.draw figure=fig8/smoke`: records to table, figure and verdict, without data, GPU or W&B."""

from pathlib import Path

import hydra
from matplotlib import pyplot as plt
from omegaconf import DictConfig

from samgap import cli, files, naming
from samgap.plots.style import style
from samgap.results import output
from samgap.results.output import Evaluated
from samgap.training.settings import locate

naming.register()


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="draw")
def main(config: DictConfig) -> None:
    """Draw the sweep that `figure=` or `name=` names, from its records alone."""
    with cli.sentences():
        draw(config)


def draw(config: DictConfig) -> None:
    """Write figure, table and statistics into the sweep's folder and print table and verdict."""
    values = naming.plain(config, "root", "name", "scale", "draw", "protocol")
    root, settings = Path(values["root"]), values["draw"]
    study: Evaluated = locate(settings["study"])(root, values["name"], values["scale"], settings, values["protocol"])
    sweep = study.table.sweep
    folder = sweep.folder(root)
    with style():
        figure = locate(settings["_target_"])(study, settings)
        for ending in ("pdf", "png"):
            files.replace(folder / f"{sweep.name}.{ending}", lambda path: figure.savefig(path))
            figure.set_layout_engine("none")  # it is laid out now
        plt.close(figure)
    output.write(study, folder)
    print(output.printed(study))
    print(f"\n{folder / sweep.name}.{{pdf,png,csv,json}}")


if __name__ == "__main__":
    cli.command(main)

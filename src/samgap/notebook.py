"""Loads a figure's numbers as pandas frames, for a notebook."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from hydra import compose, initialize_config_dir

from samgap import cli, draw, naming
from samgap.figures import kind
from samgap.figures.gap import images
from samgap.figures.output import Study


@dataclass(frozen=True)
class Loaded:
    """One evaluated sweep."""

    runs: pd.DataFrame  # one row per point of the grid: axes, status, accuracies, parameters
    gaps: pd.DataFrame  # the plotted numbers, one row per cell, with columns for ours and the published ones
    verdicts: pd.DataFrame  # one row per series
    study: Study  # the whole evaluation
    root: Path  # results folder with the runs

    def noise(self, epoch: int | None = None) -> pd.DataFrame:
        """Return each gap's noise of seeds and of test images; see `samgap.figures.gap.images.noise`."""
        return images.noise(self.study.table, self.root, epoch)


def load(figure: str, *overrides: str, source: str = "records", root: str = "multirun") -> Loaded:
    """Evaluate a sweep as `python -m samgap.draw` does, without drawing.

    Args:
        figure: such as fig7/cpu, or the name of your own sweep.
        overrides: overrides as on the command line of samgap.draw.
        source: records, reference or wandb.
        root: folder of the results.

    Raises:
        SettingError: there is no such sweep, or it cannot be evaluated.
    """
    naming.register()
    selection = f"figure={figure}" if "/" in figure else f"name={figure}"
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        config = compose("draw", [selection, *overrides])
    values = naming.plain(config, "name", "scale", "draw", "protocol", "logger")
    values |= {"root": root, "source": source}
    runs_root = draw.store(values)
    study = kind.from_settings(values["draw"]).evaluate(runs_root, values["name"], values["scale"], values["protocol"])
    verdicts = pd.DataFrame([asdict(verdict) for verdict in study.verdicts])
    return Loaded(study.table.runs, study.frame, verdicts, study, runs_root)

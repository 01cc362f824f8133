"""metrics.csv: the metrics of each epoch of a run, written while the run lasts.

One row per epoch; fields are empty if an epoch was not evaluated. Lightning's CSVLogger is not used: it deletes the
file when a run resumes, sorts columns, and rewrites the file in place when a new column appears.
"""

import csv
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from samgap import files
from samgap.training.task import Row


class CurveFile(Checkpoint):
    """Adds a row after each epoch. It is a `Checkpoint` because Lightning calls these after the task's own hooks.

    At any time the file equals what `write` would write for the epochs so far.
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: path of metrics.csv, which only rank 0 writes.
        """
        self.path, self.columns = path, list[str]()  # without columns, the next write replaces the file

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Truncate the file to the epoch at which the run resumes: a killed run may leave more rows, or half a row."""
        if trainer.is_global_zero and pl_module.curve:
            self._add(pl_module.curve)
        elif trainer.is_global_zero:
            self.path.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add a row, except for the last epoch, after which the run writes the whole file."""
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.is_global_zero and not last:
            self._add(pl_module.curve)

    def _add(self, curve: list[Row]) -> None:
        try:
            if curve[-1].keys() <= {*self.columns}:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self.columns).writerow(curve[-1])
            else:
                self.columns = write(curve, self.path)
        except OSError as error:
            self.columns = []
            warnings.warn(f"{self.path} could not be written ({error.strerror}): the run goes on.", stacklevel=2)


def write(curve: list[Row], path: Path) -> list[str]:
    """Replace the file by the whole curve; return its columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in curve for key in row))

    def fill(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(curve)

    files.replace(path, fill)
    return columns

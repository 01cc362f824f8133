"""metrics.csv: the curve of a run, on disk while the run lasts.

A row an epoch, an empty field where an epoch was not evaluated. Lightning's CSVLogger would delete the file when a run
goes on, sort its columns, and write it anew in place when a column comes late.
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
    """Adds the row of each epoch; Lightning calls a `Checkpoint` after the task's own hooks.

    At any time the file is what `write` would make of the epochs so far.
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file; the process of rank 0 alone writes there.
        """
        self.path, self.columns = path, list[str]()  # no columns: the file is yet to be written as a whole

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin where the run does: a try that was killed may have come further, or left half a line."""
        if trainer.is_global_zero and pl_module.curve:
            self._add(pl_module.curve)
        elif trainer.is_global_zero:
            self.path.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add the epoch, unless it is the last: the run then writes the file itself."""
        over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.is_global_zero and not over:
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
    """Write the whole curve in one step; gives its columns, in the order in which they came."""
    columns = list(dict.fromkeys(key for row in curve for key in row))

    def fill(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(curve)

    files.replace(path, fill)
    return columns

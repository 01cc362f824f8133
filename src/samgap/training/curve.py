"""metrics.csv: the curve of a run, on disk while the run lasts.

One row per epoch; fields are empty if an epoch was not evaluated. Lightning's CSVLogger does not fit: it deletes the
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
    """Adds a row after each epoch; a `Checkpoint`, since Lightning calls these after the task's own hooks.

    At any time the file equals what `files.replace_rows` would write for the epochs so far.
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file; only the process of rank 0 writes it.
        """
        self.path, self.columns = path, list[str]()  # no columns: the next write replaces the file

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Match the file to the epoch at which the run starts: a killed try may have left more rows, or half a row."""
        if trainer.is_global_zero and pl_module.curve:
            self._add(pl_module.curve)
        elif trainer.is_global_zero:
            self.path.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add the epoch, except the last: at its end the run writes the whole file."""
        over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.is_global_zero and not over:
            self._add(pl_module.curve)

    def _add(self, curve: list[Row]) -> None:
        try:
            if curve[-1].keys() <= {*self.columns}:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    csv.DictWriter(file, self.columns).writerow(curve[-1])
            else:
                self.columns = files.replace_rows(self.path, curve)
        except OSError as error:
            self.columns = []
            warnings.warn(f"{self.path} could not be written ({error.strerror}): the run goes on.", stacklevel=2)

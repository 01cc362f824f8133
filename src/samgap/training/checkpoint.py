"""last.ckpt: where an unfinished run goes on. Complete or absent, never half written."""

import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from samgap import files
from samgap.errors import SettingError

LAST = "last.ckpt"


class LastCheckpoint(Checkpoint):
    """Saves at the end of an epoch when the last save (or the start) is long enough ago.

    A run of seconds then writes nothing, and a long one loses no more than this time and one epoch.
    """

    def __init__(self, folder: Path, seconds: float, before: float = 0.0) -> None:
        """
        Args:
            folder: of the run.
            seconds: from one save to the next; 0 saves every epoch.
            before: seconds that earlier tries of this run took.
        """
        self.path, self.interval, self.before = folder / LAST, seconds, before
        self.start = self.saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, over all tries."""
        return self.before + time.monotonic() - self.start

    def state_dict(self) -> dict[str, Any]:
        """Saved with the checkpoint."""
        return {"seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.before = state_dict["seconds"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save when due; Lightning calls a `Checkpoint` after all other hooks of the epoch."""
        # Rank 0's clock decides for all, and rank 0 writes; what it writes is gathered from all.
        due: bool = trainer.strategy.broadcast(time.monotonic() - self.saved >= self.interval)
        # A run that stops here has nothing to go on with, and would not know that it was to stop.
        if due and trainer.current_epoch + 1 < (trainer.max_epochs or 0) and not trainer.should_stop:
            if trainer.is_global_zero:
                try:
                    files.replace(self.path, lambda path: trainer.save_checkpoint(path))
                except OSError as error:
                    trainer.strategy.barrier()  # the one that Lightning did not get to
                    warnings.warn(
                        f"{self.path} could not be written ({error.strerror}): the run goes on, and if it is stopped, "
                        "the same command starts it from an earlier epoch.",
                        stacklevel=2,
                    )
            else:
                trainer.save_checkpoint(self.path)
            trainer.strategy.barrier()  # all ranks see the new file from here on
            self.saved = time.monotonic()


def found(folder: Path) -> Path | None:
    """The last.ckpt in a run's folder, None without; a SettingError says that it is damaged."""
    path = folder / LAST
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip() is not None:
        raise SettingError(f"{path} is damaged: move it away, and the run starts from the beginning.")
    return path

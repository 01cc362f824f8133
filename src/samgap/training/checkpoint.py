"""last.ckpt, from which an unfinished run resumes. The file is complete or absent, never half written."""

import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from samgap import files
from samgap.errors import SettingError
from samgap.runs.records import LAST


class LastCheckpoint(Checkpoint):
    """Saves at the end of an epoch if enough time has passed since the last save, or the start.

    So a run of a few seconds saves nothing, and a long one loses at most this time and one epoch.
    """

    def __init__(self, folder: Path, seconds: float, share: float = 1.0) -> None:
        """
        Args:
            folder: of the run.
            seconds: from one save to the next; 0 saves every epoch.
            share: of this run in what its process does; below 1 in a stack.
        """
        self.path, self.interval, self.share = folder / LAST, seconds, share
        self.before = 0.0  # seconds that earlier tries of this run took
        self.start = self.saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """The duration of the run in seconds, over all tries; of a stack, its share."""
        return self.before + self.share * (time.monotonic() - self.start)

    def state_dict(self) -> dict[str, Any]:
        """Return the elapsed time, which Lightning saves in the checkpoint."""
        return {"seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the elapsed time of the checkpoint."""
        self.before = state_dict["seconds"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save when due; Lightning calls a `Checkpoint` after all other hooks of the epoch."""
        # Rank 0's clock decides for all ranks. Rank 0 writes the state that it gathers from all.
        due: bool = trainer.strategy.broadcast(time.monotonic() - self.saved >= self.interval)
        # No save if the run ends here: a resumed run would not know that it had to stop.
        if due and trainer.current_epoch + 1 < (trainer.max_epochs or 0) and not trainer.should_stop:
            if trainer.is_global_zero:
                try:
                    files.replace(self.path, lambda path: trainer.save_checkpoint(path))
                except OSError as error:
                    trainer.strategy.barrier()  # Lightning's own barrier, which the error skipped
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
    """Return the path of last.ckpt in a run's folder, or None; raise a SettingError if the file is damaged."""
    path = folder / LAST
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip() is not None:
        raise SettingError(f"{path} is damaged: move it away, and the run starts from the beginning.")
    return path

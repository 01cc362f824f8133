"""last.ckpt, from which an unfinished run resumes. The file is complete or absent, never half written."""

import pickle
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from samgap import files
from samgap.errors import SettingError
from samgap.runs.records import LAST


class LastCheckpoint(Checkpoint):
    """Saves at the end of an epoch if `seconds` have passed since the last save or the start.

    So a run of a few seconds saves nothing, and a longer run that is killed loses at most this time and one epoch.
    """

    def __init__(self, folder: Path, seconds: float, share: float = 1.0) -> None:
        """
        Args:
            folder: the run's folder.
            seconds: shortest time between saves; 0 saves every epoch.
            share: the part of the process's time that counts for this run, 1 over the number of runs in a stack.
        """
        self.path, self.interval, self.share = folder / LAST, seconds, share
        self.earlier = 0.0  # seconds that earlier attempts at this run took
        self.start = self.saved = time.monotonic()

    @property
    def elapsed(self) -> float:
        """The duration of the run in seconds, over all attempts; in a stack, the run's share of it."""
        return self.earlier + self.share * (time.monotonic() - self.start)

    def state_dict(self) -> dict[str, Any]:
        """Return the elapsed time, which Lightning saves in the checkpoint."""
        return {"seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the elapsed time in the checkpoint."""
        self.earlier = state_dict["seconds"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if enough time has passed; Lightning calls a `Checkpoint` after all other hooks of the epoch."""
        # Rank 0's clock decides for all ranks, and rank 0 writes the gathered state of all ranks.
        due: bool = trainer.strategy.broadcast(time.monotonic() - self.saved >= self.interval)
        # Do not save if the run ends with this epoch: a run resumed from it would train on.
        if due and trainer.current_epoch + 1 < (trainer.max_epochs or 0) and not trainer.should_stop:
            try:
                trainer.save_checkpoint(self.path)
            except OSError as error:
                trainer.strategy.barrier()  # Lightning's own barrier, which the error skipped
                warnings.warn(
                    f"{self.path} could not be written ({error.strerror}): the run goes on, and if it is stopped, "
                    "the same command starts it from an earlier epoch.",
                    stacklevel=2,
                )
            trainer.strategy.barrier()  # all ranks see the new file from here on
            self.saved = time.monotonic()


class WholeFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints in one step. Only rank 0 calls it, after the state of all ranks is gathered."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the file is complete or as before."""
        files.replace(Path(path), lambda temporary: TorchCheckpointIO.save_checkpoint(self, checkpoint, temporary))


def find(folder: Path) -> Path | None:
    """Return the path of last.ckpt in a run's folder, or None; raise a SettingError if the file is damaged."""
    path = folder / LAST
    if not path.exists():
        return None
    try:
        whole = zipfile.ZipFile(path).testzip() is None
        whole = whole and "samgap" in torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    except (zipfile.BadZipFile, RuntimeError, ValueError, LookupError, TypeError, pickle.UnpicklingError):
        whole = False
    if not whole:
        raise SettingError(f"{path} is damaged: move it away, and the run starts from the beginning.")
    return path

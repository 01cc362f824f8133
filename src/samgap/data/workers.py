"""Worker processes that read images from files and return them in shared memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from samgap.errors import SettingError, line

TIMEOUT = 600  # seconds for a batch of files, after which a worker counts as hanging and the run fails


def reading(workers: int) -> dict[str, Any]:
    """Return keywords of a `DataLoader` that reads files in `workers` processes."""
    return {"num_workers": workers, "worker_init_fn": _check_sharing, "timeout": TIMEOUT if workers else 0}


def _check_sharing(_: int) -> None:
    """Fail when a worker starts, and not at the first batch, if it cannot share memory."""
    # Workers share tensors by a socket two folders below this one; the path of a socket may have 107 bytes.
    if len(os.fsencode(tempfile.gettempdir())) > 70:
        tempfile.tempdir = "/tmp"
    with _sharing():
        ForkingPickler.dumps(torch.zeros(1))


def shared(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors; a worker process moves them to shared memory."""
    if get_worker_info() is None:
        return images, labels
    with _sharing():
        return images.share_memory_(), labels.share_memory_()  # type: ignore[no-untyped-call]


@contextmanager
def _sharing() -> Iterator[None]:
    """Raise a SettingError for errors of shared memory, which inside torch would lose the batch and hang the run."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for name in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # names without memory behind them
            name.unlink()
        raise SettingError(
            f"A process that reads images cannot share them ({line(error)}): make /dev/shm larger (Docker: "
            "--shm-size), lower trainer.workers or batch_size, or set TMPDIR to a short path that can be written."
        ) from error

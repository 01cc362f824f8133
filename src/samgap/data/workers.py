"""Processes that read images from files and hand them over in shared memory."""

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

TIMEOUT = 600  # seconds for a batch of files; a worker that hangs must not stop a run forever


def reading(workers: int) -> dict[str, Any]:
    """Return the settings of a loader that reads files in worker processes."""
    return {"num_workers": workers, "worker_init_fn": _check_sharing, "timeout": TIMEOUT if workers else 0}


def _check_sharing(_: int) -> None:
    """Called in a new worker, to fail there and not at the first batch."""
    # Workers share tensors by a socket two folders below this one, and the path of a socket has at most 107 bytes.
    if len(os.fsencode(tempfile.gettempdir())) > 70:
        tempfile.tempdir = "/tmp"
    with _sharing():
        ForkingPickler.dumps(torch.zeros(1))


def shared(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return both; in a worker, in shared memory."""
    if get_worker_info() is None:
        return images, labels
    with _sharing():
        return images.share_memory_(), labels.share_memory_()  # type: ignore[no-untyped-call]


@contextmanager
def _sharing() -> Iterator[None]:
    """Turn errors of shared memory into a sentence. Later, in torch, they would lose the batch and hang the run."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # names without memory behind them
            left.unlink()
        raise SettingError(
            f"A process that reads images cannot share them ({line(error)}): make /dev/shm larger (Docker: "
            "--shm-size), lower trainer.workers or batch_size, or set TMPDIR to a short path that can be written."
        ) from error

"""Processes of tests/training/test_ranks.py: `several.py FOLDER '{"2": [CASE, ...], "4": [CASE, ...]}'`.

They are forked from a process that has imported everything, which takes longer than their work. The start by torchrun
is tested in tests/test_torchrun.py.
"""

import contextlib
import errno
import hashlib
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer imports it
from torch import multiprocessing as processes

from samgap import files
from samgap.data.sets import Split
from samgap.pruning import mask
from samgap.runs.records import LAST
from samgap.training import evaluate
from samgap.training.ranks import rank
from samgap.training.run import run
from samgap.training.task import GapTask
from tests.conftest import config

REPLACE = files.replace
START, STEP, END = GapTask.on_train_epoch_start, GapTask.training_step, GapTask.on_train_end
GLOBALLY = mask.globally
BLOCKS = evaluate.blocks


def full_disk(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, but no checkpoint."""
    if path.name == LAST:
        raise OSError(errno.ENOSPC, "No space left on device", str(path.parent))
    REPLACE(path, write)


class Stop(Exception):
    """Represents anything that ends a process."""


def train(folder: Path, devices: int, case: str) -> None:
    """Train a run of the case; write its net and curve to FOLDER/<rank>.pt. The word "stop" stops it once, in epoch 4;
    "mask" gives every rank except the first another mask; "full" lets no checkpoint be written.
    """

    epochs: list[int] = []
    scored: Counter[str] = Counter()

    def count(part: Split, *arguments: Any, **named: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in BLOCKS(part, *arguments, **named):
            scored.update(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images)
            yield images, labels

    def note(self: GapTask) -> None:
        epochs.append(self.current_epoch)
        START(self)

    def keep(self: GapTask) -> None:
        END(self)
        folder.mkdir(parents=True, exist_ok=True)
        result = {"net": self.net.state_dict(), "curve": self.curve, "epochs": epochs, "scored": scored}
        torch.save(result, folder / f"{rank()}.pt")

    GapTask.on_train_epoch_start, GapTask.on_train_end = note, keep  # type: ignore[method-assign]
    evaluate.blocks = count  # type: ignore[attr-defined]
    options = case.split()
    values = composed(devices, case) | {"data_dir": f"{folder.parent}/data"}
    if "stop" in options:
        GapTask.training_step = stop  # type: ignore[method-assign]
        with contextlib.suppress(Stop):
            run(values, folder / "run")
        GapTask.training_step = STEP  # type: ignore[method-assign]
    if "mask" in options and rank():
        mask.globally = lambda scores, live: {name: ~kept for name, kept in GLOBALLY(scores, live).items()}
    if "full" in options:
        files.replace = full_disk
    run(values, folder / "run")
    files.replace = REPLACE
    mask.globally = GLOBALLY
    evaluate.blocks = BLOCKS  # type: ignore[attr-defined]


def composed(devices: int, case: str) -> dict[str, Any]:
    """Return the config of the case."""
    return config(
        *(word for word in case.split() if word not in ("stop", "mask", "full")), f"trainer.devices={devices}"
    )


def stop(self: GapTask, batch: Any, index: int) -> None:
    """Replaces the training step."""
    if self.current_epoch == 4:
        raise Stop
    STEP(self, batch, index)


def work(rank: int, count: int, port: int, folder: Path, cases: list[str]) -> None:
    """Carry out all cases in one of `count` processes, with the environment variables that torchrun sets."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    os.environ |= {name: str(value) for name, value in variables.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for number, case in enumerate(cases):
        train(folder / str(number), count, case)


if __name__ == "__main__":
    for count, cases in json.loads(sys.argv[2]).items():
        for case in cases:
            composed(int(count), case)  # all forked processes inherit it
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = (int(count), port, Path(sys.argv[1], count), cases)
        processes.start_processes(work, arguments, int(count), start_method="fork")

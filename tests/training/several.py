"""What a process of tests/training/test_ranks.py does: torchrun starts several of it. `several.py FOLDER CASE ...`."""

import contextlib
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from samgap.data.sets import Split
from samgap.pruning import mask
from samgap.training import evaluate
from samgap.training.ranks import rank
from samgap.training.run import run
from samgap.training.task import GapTask
from tests.conftest import config

START, STEP, END = GapTask.on_train_epoch_start, GapTask.training_step, GapTask.on_train_end
GLOBALLY = mask.globally
BLOCKS = evaluate.blocks


class Stop(Exception):
    """Stands for whatever ends a process."""


def train(folder: Path, devices: int, case: str) -> None:
    """One run of the case; its net and curve go to FOLDER/<rank>.pt. A word "stop" stops it once, in epoch 4; "apart"
    makes another mask on every rank but the first.
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
    words = case.split()
    values: dict[str, Any] = config(
        *(word for word in words if word not in ("stop", "apart")),
        f"trainer.devices={devices}",
        f"data_dir={folder.parent}/data",
    )
    if "stop" in words:
        GapTask.training_step = stop  # type: ignore[method-assign]
        with contextlib.suppress(Stop):
            run(values, folder / "run")
        GapTask.training_step = STEP  # type: ignore[method-assign]
    if "apart" in words and rank():
        mask.globally = lambda scores, live: {name: ~kept for name, kept in GLOBALLY(scores, live).items()}
    run(values, folder / "run")
    mask.globally = GLOBALLY
    evaluate.blocks = BLOCKS  # type: ignore[attr-defined]


def stop(self: GapTask, batch: Any, index: int) -> None:
    """In place of a training step."""
    if self.current_epoch == 4:
        raise Stop
    STEP(self, batch, index)


if __name__ == "__main__":
    folder, *cases = sys.argv[1:]
    for number, case in enumerate(cases):
        train(Path(folder) / str(number), int(os.environ["WORLD_SIZE"]), case)

"""What a step takes: ours inside a whole run, between its epochs the peers, so that all see the same machine."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from samgap.bench import torch_steps
from samgap.bench.rows import Row, paired
from samgap.data.sets import assemble
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.training.run import run
from samgap.training.settings import locate, resolve

Peer = Callable[[], object]  # one step


class Watch(Callback):
    """Seconds a step in each epoch, the evaluation left out, and of as many steps of each peer right after it.

    The first epoch, which compiles, does not count.
    """

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self.peers = peers
        self.seconds: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started, self.before = time.perf_counter(), trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it, and time the peers."""
        steps = trainer.global_step - self.before
        taken = {"ours": (time.perf_counter() - self.started) / steps}
        for name, peer in self.peers.items():
            peer()
            started = time.perf_counter()
            for _ in range(steps):
                peer()
            taken[name] = (time.perf_counter() - started) / steps
        if trainer.current_epoch:
            for name, seconds in taken.items():
                self.seconds[name].append(seconds)


def watch(config: Mapping[str, Any], epochs: int, peers: Mapping[str, Peer]) -> dict[str, list[float]]:
    """Train for one epoch and `epochs` more; seconds a step of ours and of each peer."""
    clock = Watch(peers)
    values = {**config, "epochs": epochs + 1, "eval_every": epochs + 1}
    with tempfile.TemporaryDirectory() as folder:
        run(values, Path(folder) / "run", callbacks=[clock])
    return clock.seconds

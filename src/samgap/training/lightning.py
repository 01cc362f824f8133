"""Lightning's Trainer for a run, and what it does to a process that a run does not want, undone."""

import contextlib
import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.loggers import Logger

from samgap.errors import SettingError, line
from samgap.training import ranks
from samgap.training.plan import RunPlan

UNDETERMINED = "(.*) does not have a deterministic implementation"  # as torch says it


def trainer(
    plan: RunPlan,
    device: torch.device,
    callbacks: list[Callback],
    keywords: dict[str, Any],
    folder: Path,
    logger: Logger | None,
) -> Trainer:
    """Lightning's Trainer of a run; a SettingError says that it does not take the user's `keywords`."""
    machine, precision, on_gpu = plan.machine, plan.settings["precision"], device.type == "cuda"
    ours = {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": machine.devices // ranks.nodes(),
        "num_nodes": ranks.nodes(),
        "plugins": [ranks.environment()],
        "strategy": ranks.Joined() if machine.devices > 1 or torch.distributed.is_initialized() else "auto",
        "sync_batchnorm": plan.synchronized,
        "use_distributed_sampler": False,  # ours deals out each batch
        # The kernels of a CPU are deterministic as they are; nothing is to be warned of.
        "deterministic": machine.deterministic if on_gpu else machine.deterministic is True,
        "benchmark": machine.benchmark,
        "precision": "32-true" if precision == "tf32" else precision,
        "max_epochs": plan.settings["epochs"],
        "callbacks": callbacks,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "logger": logger or False,
        "log_every_n_steps": 1,  # we log by epoch; Lightning warns of short epochs otherwise
        "default_root_dir": folder,
    }
    try:
        return Trainer(**ours | keywords)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SettingError(f"Lightning does not take what trainer and callbacks say ({line(error)}).") from error


class SchedulersSignals(Callback):
    """Leaves SIGTERM to a handler that was there before: Lightning's would end the run when it comes.

    Slurm sends it some time before it ends a preempted job, and does not queue again a job that ends by itself.
    """

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called just after Lightning has set its own."""
        if callable(self.before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


@contextlib.contextmanager
def interrupts_pass() -> Iterator[None]:
    """Lightning turns Ctrl-C into SystemExit and leaves the signal ignored, which would make a sweep deaf to it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
    """Silence what Lightning says below `level`, and warnings that are for other programs.

    It describes the machine in every run of a sweep; what it says is in the record. Callbacks and profilers tell what
    they find in the same way.
    """
    logging.getLogger("pytorch_lightning").setLevel(level)
    undetermined: set[str] = set()
    with warnings.catch_warnings():
        # Batches come ready from the device; workers would only slow them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Of deterministic kernels that there are not: one line for the run, where torch would say so in every step.
        warnings.filterwarnings("always", message=UNDETERMINED)
        show = warnings.showwarning

        def gather(message: Warning | str, *where: Any, **more: Any) -> None:
            if found := re.match(UNDETERMINED, str(message)):
                undetermined.add(found[1])
            else:
                show(message, *where, **more)

        warnings.showwarning = gather
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # Slurm is the launcher's matter
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
        yield
    if undetermined:
        warnings.warn(
            f"There is no deterministic kernel of {', '.join(sorted(undetermined))}: the same run can end with other "
            "numbers (trainer.deterministic=true refuses such a net).",
            stacklevel=2,
        )

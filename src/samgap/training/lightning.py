"""Lightning's Trainer for a run, and fixes for its side effects on signals and messages."""

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
from samgap.training.checkpoint import WholeFiles
from samgap.training.plan import RunPlan

UNDETERMINED = "(.*) does not have a deterministic implementation"  # torch's warning


def trainer(
    plan: RunPlan,
    device: torch.device,
    callbacks: list[Callback],
    keywords: dict[str, Any],
    folder: Path,
    logger: Logger | None,
) -> Trainer:
    """Return Lightning's Trainer for a run; raise a SettingError if it does not accept the user's `keywords`."""
    machine, precision, on_gpu = plan.machine, plan.settings["precision"], device.type == "cuda"
    arguments = {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": machine.devices // ranks.nodes(),
        "num_nodes": ranks.nodes(),
        "plugins": [ranks.environment(), WholeFiles()],
        "strategy": ranks.UnwrappedDDP() if machine.devices > 1 or torch.distributed.is_initialized() else "auto",
        "sync_batchnorm": plan.synchronized,
        "use_distributed_sampler": False,  # `EpochSampler` divides each batch
        # CPU kernels are always deterministic; "warn" would give needless warnings.
        "deterministic": machine.deterministic if on_gpu else machine.deterministic is True,
        "benchmark": machine.benchmark,
        "precision": "32-true" if precision == "tf32" else precision,
        "max_epochs": plan.settings["epochs"],
        "callbacks": callbacks,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": False,
        "logger": logger or False,
        "log_every_n_steps": 1,  # only epochs are logged, but Lightning warns if an epoch is shorter than this
        "default_root_dir": folder,
    }
    try:
        return Trainer(**arguments | keywords)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SettingError(f"Lightning does not take what trainer and callbacks say ({line(error)}).") from error


class KeepSigterm(Callback):
    """Restores the previous handler of SIGTERM, which Lightning replaces by one that ends the run.

    Slurm sends SIGTERM some time before it stops a preempted job, and does not requeue a job that ends by itself.
    """

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the handler; Lightning calls this just after it has set its own."""
        if callable(self.before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


@contextlib.contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, where Lightning raises SystemExit and disables Ctrl-C for later runs."""
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
    """Silence Lightning's messages below `level`, and warnings that do not apply.

    Lightning would describe the machine in each run of a sweep, which the record does already. The user's callbacks and
    profilers report by the same logger, so `level` must be INFO if there are any.
    """
    logging.getLogger("pytorch_lightning").setLevel(level)
    undetermined: set[str] = set()
    with warnings.catch_warnings():
        # Batches are gathered on the device; worker processes would only slow this down.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Collect operations without deterministic kernels for one warning per run; torch warns in every step.
        warnings.filterwarnings("always", message=UNDETERMINED)
        show = warnings.showwarning

        def gather(message: Warning | str, *where: Any, **more: Any) -> None:
            if match := re.match(UNDETERMINED, str(message)):
                undetermined.add(match[1])
            else:
                show(message, *where, **more)

        warnings.showwarning = gather
        warnings.filterwarnings("ignore", message="The `srun` command is available")  # only the launcher uses Slurm
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
        yield
    if undetermined:
        warnings.warn(
            f"There is no deterministic kernel of {', '.join(sorted(undetermined))}: the same run can end with other "
            "numbers (trainer.deterministic=true refuses such a net).",
            stacklevel=2,
        )

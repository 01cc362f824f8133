"""One run, from config to record: build the parts, train, evaluate, write record.json.

The only place that knows in which order things happen.
"""

import contextlib
import logging
import os
import re
import signal
import threading
import traceback
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar
from torch import nn

from samgap import files, provenance, seeds
from samgap.data.batches import batches
from samgap.data.sets import Data
from samgap.errors import SettingError, line
from samgap.pruning import mask
from samgap.runs import identity, measurements, records
from samgap.runs.records import ERROR, LOCK, METRICS, RunRecord
from samgap.targets import locate, options
from samgap.tracking.run import Mirror
from samgap.training import build, curve, probing, ranks
from samgap.training.checkpoint import LAST, LastCheckpoint
from samgap.training.curve import CurveFile
from samgap.training.layout import layout
from samgap.training.numerics import numerics
from samgap.training.probing import WEIGHTS
from samgap.training.settings import LIMIT, TRAINER, resolve
from samgap.training.task import GapTask

UNDETERMINED = "(.*) does not have a deterministic implementation"  # as torch says it


class Busy(SettingError):
    """Another process carries out this very run."""


@dataclass(frozen=True)
class Machine:
    """How a run is carried out on this machine; no identity depends on it. conf/trainer/ explains each."""

    accelerator: str
    devices: int
    micro_batch: int | None
    threads: int
    workers: int
    stepper: str
    products: str
    deterministic: bool | str
    benchmark: bool
    checkpoint_seconds: float
    keep_weights: bool


def run(config: Mapping[str, Any], folder: Path, *, bar: bool = False, callbacks: Sequence[Callback] = ()) -> RunRecord:
    """Carry out a run and its probes, or return its record when it has one; probes that it lacks are made up for.

    A run that was stopped goes on from last.ckpt and ends with the same record but for seconds, host and dates. A
    run that fails leaves its traceback in error.txt.

    With trainer.devices above 1 every process that torchrun started calls this, and rank 0 writes.

    Args:
        config: a composed config as plain values.
        folder: the run's own; its lock keeps two processes from doing the same work.
        bar: show Lightning's progress bar.
        callbacks: more of Lightning's, to look on.

    Raises:
        SettingError: a setting is wrong, or the folder's record is damaged.
        Busy: another process is at it.
    """
    settings = resolve(config)
    ranks.require(config["trainer"]["devices"])
    own, keywords = build.extras(config)
    callbacks = [*own, *callbacks]
    if bar and keywords.get("enable_progress_bar", True) and not any(isinstance(one, ProgressBar) for one in callbacks):
        callbacks.append(TQDMProgressBar())
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) if ranks.rank() == 0 else contextlib.nullcontext():
        try:
            record = records.read(folder, identity.identity(settings))
            if record is None:
                (folder / ERROR).unlink(missing_ok=True)
                with numerics(settings["precision"]):
                    record = _train(config, settings, folder, callbacks, keywords)
            elif record.status == "done":
                _look(config, settings, record, folder)
            return record
        except Exception:
            # The lock file and the folder stay: a failed try is shown by `status` and made again by the next sweep.
            # Of several ranks the first to fail is to blame; the others lose their connection to it.
            if config["trainer"]["devices"] == 1 or not (folder / ERROR).exists():
                files.replace_text(folder / ERROR, traceback.format_exc())
            raise


def probe(config: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Measure what a run that is done lacks of its probes.

    Args:
        config: as `run` takes it.
        settings: of the run, resolved; its processes are not started again.
        folder: of the run.

    Raises:
        SettingError: the folder holds no result of this run, or the run kept no weights.
        Busy: another process is at it.
    """
    with _lock(folder):
        record = records.read(folder, identity.identity(settings))
        if record is None or record.status != "done":
            raise SettingError(f"{folder} is no run that is done: carry it out with trainer.keep_weights=true.")
        _look(config, settings, record, folder)


def _look(config: Mapping[str, Any], settings: Mapping[str, Any], record: RunRecord, folder: Path) -> None:
    if names := measurements.missing(measurements.asked(config), folder):
        machine = _machine(config)
        torch.set_num_threads(machine.threads)
        with _mirror(config, settings, ranks.rank()) as mirror, numerics(settings["precision"]):
            looked_at = probing.restored(config, settings, record, folder, _device(machine))
            probing.carry_out(config, names, looked_at, record, folder)
            mirror.keep(record, folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=1)  # `status` holds it for an instant when it looks
    except Timeout:
        raise Busy(f"{folder} is being worked on by another process: wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _train(
    config: Mapping[str, Any],
    settings: dict[str, Any],
    folder: Path,
    callbacks: list[Callback],
    keywords: dict[str, Any],
) -> RunRecord:
    started = provenance.now()
    machine = _machine(config)
    torch.set_num_threads(machine.threads)
    rank, dealt = ranks.rank(), layout(settings, config["trainer"])
    device = _device(machine)
    if settings["precision"] == "tf32" and device.type == "cpu":
        raise SettingError("precision=tf32 needs a CUDA device, and this run is on the CPU: set precision=32-true.")
    synchronized = config["model"].get("batch_norm") == "synchronized" and dealt.span > 1
    if synchronized and device.type == "cpu":
        raise SettingError("model.batch_norm=synchronized wants CUDA devices: set model.batch_norm=local.")
    data = build.data(config, settings)
    net, masks = build.net(config, settings, data)
    if settings["precision"] == "64-true":
        net.double()  # Lightning would do so after it has loaded a checkpoint, and round what is in it
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in net.modules()):
        dealt.check_batch_norm(len(data.train), synchronized)
    limit = config["trainer"].get(LIMIT)
    loader = batches(data, settings["batch_size"], settings["seed"], device, rank, dealt.ranks, machine.workers, limit)
    steps: int = len(loader.sampler)  # type: ignore[arg-type]
    task = GapTask(
        net,
        loss=locate(config["loss"]["_target_"]),
        optimizer=partial(build.optimizer, config, settings),
        schedule=build.schedule(config, settings),
        data=data,
        masks=masks,
        steps=settings["epochs"] * steps,
        eval_every=settings["eval_every"],
        layout=dealt,
        clip_norm=settings["clip_norm"],
        stop_loss=settings["stop_loss"],
        stepper=machine.stepper,
        products=machine.products,
        workers=machine.workers,
        identity=identity.identity(settings),
    )
    last = LastCheckpoint(folder, machine.checkpoint_seconds)
    with (
        _mirror(config, settings, rank) as mirror,
        _quiet(logging.INFO if keywords or config.get("callbacks") else logging.WARNING),
    ):
        trainer = _trainer(
            keywords,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=machine.devices // ranks.nodes(),
            num_nodes=ranks.nodes(),
            plugins=[ranks.environment()],
            strategy=ranks.Joined() if dealt.ranks > 1 or torch.distributed.is_initialized() else "auto",
            sync_batchnorm=synchronized,
            use_distributed_sampler=False,  # ours deals out each batch
            # The kernels of a CPU are deterministic as they are; nothing is to be warned of.
            deterministic=machine.deterministic if device.type == "cuda" else machine.deterministic is True,
            benchmark=machine.benchmark,
            precision="32-true" if settings["precision"] == "tf32" else settings["precision"],
            max_epochs=settings["epochs"],
            callbacks=[CurveFile(folder / METRICS), last, _SchedulersSignals(), *callbacks],
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            logger=mirror.logger or False,
            log_every_n_steps=1,  # we log by epoch; Lightning warns of short epochs otherwise
            default_root_dir=folder,
        )
        seeds.seed_globals(settings["seed"], "training", *([rank] if rank else []))
        with _interrupts_pass():
            trainer.fit(task, train_dataloaders=loader, ckpt_path=_checkpoint(folder))
        _refuse_cut_short(task, steps)
        record = _record(settings, task, data, masks, last, started, device)
        if rank:
            return record
        if machine.keep_weights:
            files.replace(folder / WEIGHTS, lambda path: probing.keep(net, record.identity, path))
        curve.write(task.curve, folder / METRICS)
        if record.status == "done" and (names := measurements.missing(measurements.asked(config), folder)):
            probing.carry_out(config, names, probing.subject(config, net, data, masks, device), record, folder)
        records.write(record, folder)
        (folder / LAST).unlink(missing_ok=True)
        mirror.keep(record, folder)  # when nothing can be lost any more
    return record


def _trainer(keywords: dict[str, Any], **ours: Any) -> Trainer:
    try:
        return Trainer(**ours | keywords)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise SettingError(f"Lightning does not take what trainer and callbacks say ({line(error)}).") from error


def _refuse_cut_short(task: GapTask, steps: int) -> None:
    """Refuse a record to a run that something else than its settings ended: it would count as the whole run."""
    whole = len(task.curve) * steps if task.reached else task.steps
    if task.global_step != whole and not task.diverged:
        raise SettingError(
            f"Something, such as a callback, ended this run after {task.global_step} of {whole} steps, and no record "
            "is written: leave it out, or set epochs or stop_loss."
        )


def _mirror(config: Mapping[str, Any], settings: Mapping[str, Any], rank: int) -> Any:
    if rank:
        return contextlib.nullcontext(Mirror())
    return locate(config["logger"]["_target_"])(settings, config, **options(config["logger"]))


def _record(
    settings: dict[str, Any],
    task: GapTask,
    data: Data,
    masks: mask.Masks,
    last: LastCheckpoint,
    started: str,
    device: torch.device,
) -> RunRecord:
    final = task.curve[-1]
    done = not task.diverged
    commit, dirty = provenance.commit()

    def best(key: str) -> float | None:
        return max((row[key] for row in task.curve if row.get(key) is not None), default=None)  # type: ignore[type-var]

    def value(key: str) -> Any:
        return final.get(key) if done else None

    return RunRecord(
        identity=identity.identity(settings),
        folder=identity.folder(settings),
        settings=settings,
        status="done" if done else "diverged",
        arm="SAM" if settings["ascent"].get("rho") else "SGD",
        test_acc_final=value("test_acc"),
        test_acc_best=best("test_acc") if done else None,
        test_loss_final=value("test_loss"),
        holdout_acc_final=value("holdout_acc"),
        holdout_acc_best=best("holdout_acc") if done else None,
        train_acc_final=task.train_score.acc if done else None,
        train_loss_final=task.train_score.loss if done else None,
        params_total=sum(weight.numel() for weight in task.net.parameters()),
        params_live=mask.params_live(task.net, masks),
        epochs=len(task.curve),
        steps=int(final["step"] or 0),
        data_sha256=build.sha256(data),
        seconds=round(last.elapsed, 3),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        cuda=_cuda(device),
        host=provenance.host(),
        started=started,
        finished=provenance.now(),
        commit=commit,
        dirty=dirty,
        versions=provenance.versions(),
        stepper=task.stepper.name,
        sparsity_by_layer=mask.sparsity_by_layer(masks),
    )


def _machine(config: Mapping[str, Any]) -> Machine:
    return Machine(**{key: config["trainer"][key] for key in TRAINER - {"name"}})


def _device(machine: Machine) -> torch.device:
    if machine.accelerator == "gpu" or (machine.accelerator == "auto" and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise SettingError("trainer=gpu wants a CUDA device and torch finds none here: set trainer=cpu.")
        if machine.devices > 1:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _cuda(device: torch.device) -> dict[str, str]:
    if device.type == "cpu":
        return {}
    capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    versions = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    return {"capability": capability} | versions


def _checkpoint(folder: Path) -> Path | None:
    path = folder / LAST
    if not path.exists():
        return None
    if not zipfile.is_zipfile(path) or zipfile.ZipFile(path).testzip() is not None:
        raise SettingError(f"{path} is damaged: move it away, and the run starts from the beginning.")
    return path


class _SchedulersSignals(Callback):
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
def _interrupts_pass() -> Iterator[None]:
    # Lightning turns Ctrl-C into SystemExit and leaves the signal ignored, which would make a sweep deaf to it.
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def _quiet(level: int) -> Iterator[None]:
    # Lightning describes the machine in every run of a sweep; what it says is in the record. Callbacks and profilers
    # tell what they find in the same way.
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

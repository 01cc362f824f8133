"""One run, from config to record: build the parts, train, evaluate, probe, write record.json."""

import contextlib
import operator
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import nn

from samgap import files, provenance, seeds
from samgap.data.batches import EpochSampler, batches
from samgap.errors import SettingError
from samgap.pruning import mask
from samgap.rules import is_whole
from samgap.runs import hits, measurements, records
from samgap.runs.records import ERROR, LAST, LOCK, METRICS, RunRecord
from samgap.targets import locate, options
from samgap.tracking.run import Mirror
from samgap.training import build, curve, devices, lightning, probing, ranks, stacked
from samgap.training.checkpoint import LastCheckpoint, find
from samgap.training.curve import CurveFile
from samgap.training.numerics import numerics
from samgap.training.plan import RunPlan
from samgap.training.probing import WEIGHTS
from samgap.training.task import GapTask, logged


class Busy(SettingError):
    """The folder is locked: another process is carrying out or probing this run."""


def run(config: Mapping[str, Any], folder: Path, *, bar: bool = False, callbacks: Sequence[Callback] = ()) -> RunRecord:
    """Carry out a run and its probes and return its record. If the run is finished, only carry out missing probes.

    A stopped run resumes from last.ckpt and ends with the same record, except seconds, host and dates. A failed run
    leaves its traceback in error.txt. With trainer.devices above 1, every process of torchrun calls this, and rank 0
    writes.

    Args:
        config: composed config as plain values.
        folder: the run's folder, created if missing; a lock in it excludes other processes.
        bar: show Lightning's progress bar.
        callbacks: additional Lightning callbacks.

    Raises:
        SettingError: a setting is wrong, or the folder's record is damaged.
        Busy: another process is carrying out the run.
    """
    plan = RunPlan.of(config)
    ranks.require(plan.machine.devices)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) if ranks.rank() == 0 else contextlib.nullcontext():
        try:
            record = records.read(folder, plan.identity)
            if record is None:
                (folder / ERROR).unlink(missing_ok=True)
                callbacks, keywords = build.extras(plan, callbacks, bar)
                with contextlib.nullcontext() if stacked.stack_size() else stacked.process_settings(plan):
                    record = _train(plan, folder, callbacks, keywords)
            elif record.status == "done" and not ranks.rank():
                _probe_missing(plan, record, folder)
                (folder / ERROR).unlink(missing_ok=True)
            return record
        except Exception:
            # Keep the folder: `status` shows a failed run, and the next sweep repeats it. Of several ranks, keep the
            # traceback of the first to fail; the others only lose their connection to it.
            if plan.machine.devices == 1 or not (folder / ERROR).exists():
                files.replace_text(folder / ERROR, traceback.format_exc())
            raise


def probe(plan: RunPlan, folder: Path) -> None:
    """Carry out the missing probes of a finished run.

    Args:
        plan: the run's plan; probes need only this process, even if the run used several devices.
        folder: the run's folder.

    Raises:
        SettingError: the folder has no result of this run, or no weights.
        Busy: another process is using the folder.
    """
    with _lock(folder):
        record = records.read(folder, plan.identity)
        if record is None or record.status != "done":
            raise SettingError(f"{folder} is no run that is done: carry it out with trainer.keep_weights=true.")
        _probe_missing(plan, record, folder)


def _probe_missing(plan: RunPlan, record: RunRecord, folder: Path) -> None:
    if names := measurements.missing(plan.requested, folder):
        torch.set_num_threads(plan.machine.threads)
        with _mirror(plan) as mirror, numerics(plan.settings["precision"]):
            probing.carry_out(plan, names, probing.restored(plan, record, folder, devices.chosen(plan)), record, folder)
            mirror.keep(record, folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=1)  # `status` holds it for a moment
    except Timeout:
        raise Busy(f"{folder} is being worked on by another process: wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def _train(plan: RunPlan, folder: Path, callbacks: list[Callback], keywords: dict[str, Any]) -> RunRecord:
    started, machine = provenance.now(), plan.machine
    torch.set_num_threads(machine.threads)
    device = devices.chosen(plan)
    task = _task(plan)
    last = LastCheckpoint(folder, machine.checkpoint_seconds, 1 / (stacked.stack_size() or 1))
    callbacks = [CurveFile(folder / METRICS), last, lightning.KeepSigterm(), *callbacks]

    def fit(logger: Logger | None) -> None:
        _fit(plan, task, device, lightning.trainer(plan, device, callbacks, keywords, folder, logger), folder)

    if stacked.stack_size():
        fit(None)
    with _mirror(plan) as mirror:
        if not stacked.stack_size():
            fit(mirror.logger)
        elif mirror.logger is not None:  # a process can have one W&B run open, so stacked runs log afterwards
            for row in task.curve:
                mirror.logger.log_metrics(*logged(row))
        record = _record(plan, task, last.elapsed, started, device)
        if ranks.rank():
            return record
        probes = measurements.missing(plan.requested, folder) if record.status == "done" else []
        if machine.keep_weights or probes:
            files.replace(folder / WEIGHTS, lambda path: probing.keep(task.net, record.identity, path))
        curve.write(task.curve, folder / METRICS)
        if record.status == "done" and not task.data.regression:
            hits.write(task.hits, {name: len(getattr(task.data, name)) for name in task.hits}, folder)
        records.write(record, folder)
        (folder / LAST).unlink(missing_ok=True)
        if probes:  # after the record, so that a failing probe loses no training
            trained = probing.subject(plan, task.net, task.data, task.masks, device)
            probing.carry_out(plan, probes, trained, record, folder)
            if not machine.keep_weights:
                (folder / WEIGHTS).unlink()
        mirror.keep(record, folder)  # last, since it uploads the files
    return record


def _task(plan: RunPlan) -> GapTask:
    data = build.data(plan)
    net, masks = build.net(plan, data)
    if plan.settings["precision"] == "64-true":
        net.double()  # Lightning would do so too late and round a checkpoint to float32
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in net.modules()):
        plan.check_batch_norm(len(data.train))
    for name, group in plan.probes.items():
        examples: Any = group.get("examples")
        if is_whole(examples) and examples > len(data.train):
            raise SettingError(
                f"probe.{name}.examples must be at most the {len(data.train)} training images, or null for all, got "
                f"{examples}."
            )
    return GapTask(plan, net, masks, data)


def _fit(plan: RunPlan, task: GapTask, device: torch.device, trainer: Trainer, folder: Path) -> None:
    """Train from the start or from last.ckpt."""
    rank, seed = ranks.rank(), seeds.of_run(plan.settings)
    sampler = EpochSampler(task.data, plan.settings["batch_size"], seed, rank, plan.machine.devices, plan.limit)
    loader = batches(sampler, device, plan.machine.workers, stacked.whole_epochs(plan, device.type))
    seeds.seed_globals(seed, "training", *([rank] if rank else []))
    with lightning.keyboard_interrupts():
        trainer.fit(task, train_dataloaders=loader, ckpt_path=find(folder))
    # Refuse a run that a callback ended early: its record would count as that of a complete run.
    steps = len(task.curve) * plan.epoch_steps(len(task.data.train)) if task.reached else task.steps
    if task.global_step != steps and not task.diverged:
        raise SettingError(
            f"Something, such as a callback, ended this run after {task.global_step} of {steps} steps, and no record "
            "is written: leave it out, or set epochs or stop_loss."
        )


def _record(plan: RunPlan, task: GapTask, seconds: float, started: str, device: torch.device) -> RunRecord:
    return RunRecord(
        identity=plan.identity,
        folder=plan.folder,
        settings=plan.settings,
        status="diverged" if task.diverged else "done",
        arm="SAM" if plan.settings["ascent"].get("rho") else "SGD",
        **_scores(task),
        params_total=sum(weight.numel() for weight in task.net.parameters()),
        params_live=mask.params_live(task.net, task.masks),
        epochs=len(task.curve),
        steps=int(task.curve[-1]["step"] or 0),
        data_sha256=build.sha256(task.data),
        seconds=round(seconds, 3),
        device=devices.name(device),
        cuda=devices.versions(device),
        host=provenance.host(),
        started=started,
        finished=provenance.now(),
        **provenance.sources(),
        versions=provenance.versions(),
        stepper=task.stepper.name,
        sparsity_by_layer=mask.sparsity_by_layer(task.masks),
    )


def _scores(task: GapTask) -> dict[str, Any]:
    """Return scores after the last epoch and best scores over epochs; None if missing, all None if the run diverged."""

    def best(key: str) -> float | None:
        return max((row[key] for row in task.curve if row.get(key) is not None), default=None)  # type: ignore[type-var]

    final = task.curve[-1]
    scores = {f"{key}_final": final.get(key) for key in ("test_acc", "test_loss", "holdout_acc")}
    scores |= {f"{key}_best": best(key) for key in ("test_acc", "holdout_acc")}
    scores |= {"train_acc_final": task.train_score.acc, "train_loss_final": task.train_score.loss}
    if task.unused_score is not None:
        sizes = len(task.data.test), len(task.data.unused or ())
        accuracies = final.get("test_acc") or 0, task.unused_score.acc or 0
        scores["scored_acc_final"] = sum(map(operator.mul, sizes, accuracies)) / sum(sizes)
    return dict.fromkeys(scores) if task.diverged else scores


def _mirror(plan: RunPlan) -> Any:
    if ranks.rank():
        return contextlib.nullcontext(Mirror())
    return locate(plan.logger["_target_"])(plan.settings, plan.place, **options(plan.logger))

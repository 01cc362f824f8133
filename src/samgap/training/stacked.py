"""Several runs at once on one device, in one process, with one program for the steps of all.

A stacked run has Lightning's loop in a thread of its own, and a folder, lock, record, curve and checkpoints like any
run. In each epoch it waits for the others, and a `Program` takes the steps of all. Only one thread works at a time.
"""

import contextlib
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

import torch

from samgap import seeds
from samgap.errors import line
from samgap.pruning.mask import Masks
from samgap.runs import identity
from samgap.training import compiled, lightning
from samgap.training.graphs import GraphStepper
from samgap.training.machine import COMPILED_FROM
from samgap.training.numerics import numerics
from samgap.training.plan import RunPlan
from samgap.training.products import ONEDNN
from samgap.training.programs import CAPTURES, Program
from samgap.training.steppers import EagerStepper


class NotStackable(BaseException):  # not an Exception, since no handler may treat it as a failure of the run
    """Removes a run from its stack; the message is the reason."""


class Member:
    """A run in a stack, in a thread that works only during `resume`."""

    def __init__(self, call: Callable[[], Any], count: int) -> None:
        """
        Args:
            call: carries out the run.
            count: number of runs in the stack.
        """
        self.call, self.count, self.default_dtype = call, count, torch.get_default_dtype()
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.stepper: GraphStepper | None = None  # set while the run waits for the steps of its epoch
        self.reason = ""  # why the run must leave the stack
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def resume(self) -> None:
        """Let the run work until it waits for the steps of an epoch, or ends."""
        self.stepper = None
        self._go.release()
        self._back.acquire()

    def wait(self, stepper: GraphStepper) -> None:
        """Wait until the steps of the epoch have been taken; called by the run's thread.

        Raises:
            NotStackable: the steps cannot be taken in the stack.
        """
        # Each run keeps its own random state and default type, which Lightning sets for precision=64-true.
        random, dtype = seeds.global_states(), torch.get_default_dtype()
        torch.set_default_dtype(self.default_dtype)
        self.stepper = stepper
        self._back.release()
        self._go.acquire()
        seeds.restore_globals(random)
        torch.set_default_dtype(dtype)
        if self.reason:
            raise NotStackable(self.reason)

    def end(self) -> None:
        """Remove the run from the stack unless it has ended, and wait for its thread."""
        self.reason = self.reason or "the sweep was stopped"
        self._go.release()
        self.thread.join()

    def _work(self) -> None:
        self._go.acquire()
        _member.set(self)
        try:
            if not self.reason:
                self.result = self.call()
        except BaseException as error:
            self.error = error
        self.stepper, self.ended = None, True
        self._back.release()


_member: ContextVar[Member | None] = ContextVar("member", default=None)  # the run of the current thread


def stack_size() -> int:
    """Return the number of runs in the stack of this thread; 0 outside a stack."""
    member = _member.get()
    return member.count if member else 0


def carry_out(calls: Sequence[Callable[[], Any]], plan: RunPlan) -> list[Any]:
    """Carry out runs as a stack, then one after the other those that cannot be stacked.

    Args:
        calls: functions that carry out one run each; `alike` is equal for all of these runs.
        plan: the plan of any of them.

    Returns:
        The return value of each function, or the error that it raised.
    """
    if plan.machine.stepper == "compiled" and plan.machine.products == ONEDNN:
        because = "a stack multiplies batches of matrices, by torch's own library"
        warnings.warn(f"The products of the steps are not oneDNN's: {because}.", stacklevel=2)
    program, members = Program("stacked", together=True), [Member(call, len(calls)) for call in calls]
    with process_settings(plan):
        try:
            while active := [member for member in members if not member.ended]:
                for member in active:
                    member.resume()
                waiting = [member for member in active if member.stepper]
                try:
                    reason = program.take(*(m.stepper for m in waiting if m.stepper)) if waiting else None
                except Exception as error:  # such as out of memory; single runs continue from their checkpoints
                    reason = line(error)
                for member in waiting:
                    member.reason = reason or ""
        finally:  # on Ctrl-C the runs must release their locks
            for member in members:
                member.end()
    reasons = [str(member.error) for member in members if isinstance(member.error, NotStackable)]
    for reason in dict.fromkeys(reasons):
        warnings.warn(f"{reasons.count(reason)} runs are not stacked and go one by one: {reason}.", stacklevel=2)
    return [_alone(m.call) if isinstance(m.error, NotStackable) else m.error or m.result for m in members]


def _alone(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return error


@contextlib.contextmanager
def process_settings(plan: RunPlan) -> Iterator[None]:
    """Set numerics, threads and messages of the process for a run; a stack does so once for all its runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.machine.threads)
    level = logging.INFO if plan.keywords or plan.callbacks else logging.WARNING
    try:
        with numerics(plan.settings["precision"]), lightning.quiet(level):
            yield
    finally:
        torch.set_num_threads(threads)


def choose(
    plan: RunPlan,
    steps: int,
    masks: Masks,
    eager: EagerStepper,
    ordinary: Callable[[], EagerStepper],
    in_files: bool = False,
) -> EagerStepper:
    """Return the stepper of a run.

    Args:
        plan: the run's plan.
        steps: total number of steps of the run.
        masks: by parameter name; empty for a dense net.
        eager: the eager stepper.
        ordinary: makes the stepper of a run that does not use a `Program`.
        in_files: whether images are in files and not on the device.

    Raises:
        NotStackable: the run is in a stack and cannot be stacked.
    """
    member, device, choice = _member.get(), eager.weights[0].device.type, plan.machine.stepper
    if not whole_epochs(plan, device):
        return ordinary()
    reason = compiled.uncovered(eager) or ("its images are in files" if in_files else None)
    if getattr(eager.wrapper, "interval", None):
        reason = reason or "each step must be the same (ascent.interval)"
    if reason and member:
        raise NotStackable(reason)
    if reason:
        warnings.warn(f"The step is no graph and runs slower: {reason}.", stacklevel=2)
        return eager
    compiles = choice == "compiled" or (choice == "auto" and device in CAPTURES and steps >= COMPILED_FROM)
    take = member.wait if member else Program("graph", together=False).take
    return GraphStepper(eager, masks, plan.settings["precision"], compiles, take)


def whole_epochs(plan: RunPlan, device: str) -> bool:
    """Return whether a run uses a `Program`: in a stack, or compiled on a device that captures steps."""
    return stack_size() > 0 or (plan.machine.stepper == "compiled" and device in CAPTURES)


# Settings that may differ between stacked runs, and those that may differ unless one is 0 and another is not.
FREE = (
    "seed",
    "replicate",
    "optimizer.lr",
    "optimizer.weight_decay",
    "ascent.eta",
    "ascent.alpha",
    "eval_every",
    "stop_loss",
)
SWITCHES = ("ascent.rho", "optimizer.momentum", "clip_norm", "pruner.sparsity")


def alike(plan: RunPlan) -> str:
    """Return a text that is equal for runs that can be stacked."""
    ascends = plan.settings["ascent"].get("rho")
    kept = {
        key: bool(value) if key in SWITCHES else value
        for key, value in identity.flat(plan.settings).items()
        if key in SWITCHES or not (key in FREE or key.startswith(("schedule.", "pruner.")))
    }
    kept = {key: value for key, value in kept.items() if ascends or not key.startswith("ascent.")}
    return json.dumps([kept, asdict(plan.machine), plan.place["data_dir"]], sort_keys=True)

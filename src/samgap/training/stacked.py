"""Several runs at once on one device, in one process: a row of the grid as one program.

A stacked run is any other run: it has a thread of its own with Lightning's loop, its folder, lock, record, curve and
checkpoints. Once an epoch it meets the others, and a `Program` takes the steps of all. Only one thread works at a time.
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

from samgap.errors import line
from samgap.pruning.mask import Masks
from samgap.runs import identity
from samgap.training import compiled, lightning
from samgap.training.graphs import GraphStepper
from samgap.training.machine import COMPILED_FROM
from samgap.training.numerics import numerics
from samgap.training.plan import RunPlan
from samgap.training.programs import CAPTURES, Program
from samgap.training.steppers import EagerStepper


class Apart(BaseException):  # no Exception, so that nothing on the way takes it for a failure of the run
    """Takes a run out of its stack; its message says why."""


class Seat:
    """The place of a run in a stack: its thread, which works only in its turns."""

    def __init__(self, call: Callable[[], Any], number: int) -> None:
        """
        Args:
            call: carries out the run.
            number: of runs in the stack.
        """
        self.call, self.number, self.outside = call, number, torch.get_default_dtype()
        self.over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.run: GraphStepper | None = None  # waits for the steps of its epoch
        self.leave = ""  # why the run must leave
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def turn(self) -> None:
        """Let the run work until it meets the others or is over."""
        self.run = None
        self._go.release()
        self._back.acquire()

    def meet(self, run: GraphStepper) -> None:
        """Called by the run's thread: wait until the steps of its epoch are taken.

        Raises:
            Apart: they cannot be.
        """
        # Each run goes on with its own; Lightning sets the type for precision=64-true.
        random, dtype = torch.get_rng_state(), torch.get_default_dtype()
        torch.set_default_dtype(self.outside)
        self.run = run
        self._back.release()
        self._go.acquire()
        torch.set_rng_state(random)
        torch.set_default_dtype(dtype)
        if self.leave:
            raise Apart(self.leave)

    def end(self) -> None:
        """Let the run leave if it is not over, and wait for it."""
        self.leave = self.leave or "the sweep was stopped"
        self._go.release()
        self.thread.join()

    def _work(self) -> None:
        self._go.acquire()
        _seat.set(self)
        try:
            if not self.leave:
                self.result = self.call()
        except BaseException as error:
            self.error = error
        self.run, self.over = None, True
        self._back.release()


_seat: ContextVar[Seat | None] = ContextVar("seat", default=None)  # of this thread


def sharing() -> int:
    """Return the number of runs in the stack of this thread; 0 outside of one."""
    seat = _seat.get()
    return seat.number if seat else 0


def carry_out(calls: Sequence[Callable[[], Any]], plan: RunPlan) -> list[Any]:
    """Call functions that carry out a run each, as a stack; those of runs that do not fit in, one after the other.

    Args:
        calls: of runs that `alike` finds equal.
        plan: of one of them.

    Returns:
        What each function returns, or the error that it raises.
    """
    program, seats = Program("stacked", together=True), [Seat(call, len(calls)) for call in calls]
    torch.set_num_threads(plan.machine.threads)
    with surroundings(plan):
        try:
            while active := [seat for seat in seats if not seat.over]:
                for seat in active:
                    seat.turn()
                runs = [seat for seat in active if seat.run]
                try:
                    reason = program.take(*(seat.run for seat in runs if seat.run)) if runs else None
                except Exception as error:  # such as a full device; alone they go on from their checkpoints
                    reason = line(error)
                for seat in runs:
                    seat.leave = reason or ""
        finally:  # on Ctrl-C runs leave, and let go of their locks
            for seat in seats:
                seat.end()
    reasons = [str(seat.error) for seat in seats if isinstance(seat.error, Apart)]
    for reason in dict.fromkeys(reasons):
        warnings.warn(f"{reasons.count(reason)} runs are not stacked and go one by one: {reason}.", stacklevel=2)
    return [seat.call() if isinstance(seat.error, Apart) else seat.error or seat.result for seat in seats]


@contextlib.contextmanager
def surroundings(plan: RunPlan) -> Iterator[None]:
    """Set what a process has one of for a run: numerics and messages. A stack does so once for all its runs."""
    level = logging.INFO if plan.keywords or plan.callbacks else logging.WARNING
    with numerics(plan.settings["precision"]), lightning.quiet(level):
        yield


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
        plan: of the run.
        steps: of the whole run.
        masks: of the pruned net, or empty.
        eager: the eager stepper.
        ordinary: makes the stepper of a run that is neither in a stack nor made a graph.
        in_files: whether the images are not on the device.

    Raises:
        Apart: the run is in a stack and cannot be stacked.
    """
    seat, device, choice = _seat.get(), eager.weights[0].device.type, plan.machine.stepper
    if not whole_epochs(plan, device):
        return ordinary()
    reason = compiled.uncovered(eager) or ("its images are in files" if in_files else None)
    if getattr(eager.wrapper, "interval", None):
        reason = reason or "each step must be the same (ascent.interval)"
    if reason and seat:
        raise Apart(reason)
    if reason:
        warnings.warn(f"The step is no graph and runs slower: {reason}.", stacklevel=2)
        return eager
    compiles = choice == "compiled" or (choice == "auto" and device in CAPTURES and steps >= COMPILED_FROM)
    take = seat.meet if seat else Program("graph", together=False).take
    return GraphStepper(eager, masks, plan.settings["precision"], compiles, take)


def whole_epochs(plan: RunPlan, device: str) -> bool:
    """Return whether a run takes an epoch as one: in a stack, or compiled on a device that captures steps."""
    return sharing() > 0 or (plan.machine.stepper == "compiled" and device in CAPTURES)


# Settings in which stacked runs may differ, and those that must be on in all of them or in none.
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

"""The stepper of runs whose epochs a `programs.Program` takes as a whole."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from samgap.data.batches import Epoch
from samgap.optim.sam import SAM, AscentMetrics
from samgap.pruning.mask import Masks
from samgap.training.steppers import EagerStepper


class GraphStepper(EagerStepper):
    """Takes all steps of an epoch at once, by a `Program`."""

    name = "graph"

    def __init__(
        self,
        eager: EagerStepper,
        masks: Masks,
        precision: str,
        compiles: bool,
        take: Callable[["GraphStepper"], str | None],
    ) -> None:
        """
        Args:
            eager: the stepper to replace; this one uses its attributes.
            masks: of the pruned net.
            precision: of the run.
            compiles: have Inductor compile the step, except its rare forms: measured, or of a smaller batch.
            take: lets a program take the run's `epoch`; returns why it could not, in which case nothing has changed.
        """
        vars(self).update(vars(eager))
        self.masks, self.half, self.compiles, self.take = masks, precision == "bf16-mixed", compiles, take
        self.sam = self.wrapper if isinstance(self.wrapper, SAM) else None

    def block(self, block: Any, advance: Callable[[], object]) -> tuple[Any, Any, int]:
        """Take all steps of an epoch."""
        if self.name == "eager" or not isinstance(block, Epoch):
            return super().block(block, advance)
        self.epoch, self.advance = block, advance
        if reason := self.take(self):
            warnings.warn(f"The step could not be made a graph and runs slower: {reason}", stacklevel=2)
            self.name = "eager"
            return super().block(block, advance)
        return *self.found, sum(draw.size for draw in block.draws)

    def rates(self) -> list[float]:
        """Advance schedule and counters by an epoch; return the learning rates of its steps."""
        (group,) = self.wrapper.param_groups
        self.wrapper._opt_called = True  # type: ignore[attr-defined]  # else the scheduler warns at its first step
        rates = []
        for _ in self.epoch.draws:
            rates.append(float(group["lr"]))
            self.optimizer._on_before_step()  # Lightning's counters
            self.optimizer._on_after_step()
            if self.sam:
                self.sam.count()
            self.advance()
        return rates

    @property
    def named(self) -> dict[str, Any]:
        """The weights by name."""
        return dict(self.net.named_parameters())

    def receive(self, found: tuple[float, int], measured: Tensor, name: str) -> None:
        """Take what an epoch found: sum of the losses over the examples, number of right ones, and the ascent (5,)."""
        self.found, self.name = found, name
        if self.sam and self.sam.measuring:
            self.sam.measuring, self.sam.measured = False, AscentMetrics(*measured)

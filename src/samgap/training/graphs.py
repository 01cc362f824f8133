"""The stepper of runs whose epochs are carried out as a whole by a `programs.Program`."""

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from samgap.data.batches import Epoch
from samgap.optim.sam import SAM, AscentMetrics
from samgap.pruning.mask import Masks
from samgap.training.steppers import EagerStepper


class GraphStepper(EagerStepper):
    """Takes all steps of an epoch in one call of a `Program`."""

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
            eager: the stepper to replace, whose attributes are copied.
            masks: by parameter name; empty for a dense net.
            precision: the setting, such as 32-true.
            compiles: compile the step with Inductor, except steps that measure the ascent or have a smaller batch.
            take: carries out the steps of `epoch`, or returns the reason that it cannot and changes nothing.
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
        return *self.result, sum(draw.size for draw in block.draws)

    def rates(self) -> list[float]:
        """Advance schedule and step counters by an epoch; return the learning rates of its steps."""
        (group,) = self.wrapper.param_groups
        rates = []
        for _ in self.epoch.draws:
            rates.append(float(group["lr"]))
            self.optimizer._on_before_step()  # Lightning's counters
            self.optimizer._on_after_step()
            if self.sam:
                self.sam.count()
            self.advance()
        return rates

    def momentum(self, name: str) -> Tensor | None:
        """Return the momentum buffer of a weight, None before the first step."""
        return self.wrapper.base.state[self.named[name]].get("momentum_buffer")

    @property
    def named(self) -> dict[str, Any]:
        """The weights by name."""
        return dict(self.net.named_parameters())

    def receive(self, result: tuple[float, int], measured: Tensor, name: str) -> None:
        """Store an epoch's (sum of losses over examples, number of correct predictions) and `AscentMetrics` as (5,)."""
        self.result, self.name = result, name
        if self.sam and self.sam.measuring:
            self.sam.measuring, self.sam.measured = False, AscentMetrics(*measured)

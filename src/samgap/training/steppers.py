"""One training step behind one call: `stepper.step(batch)`, whether the optimizer is SGD or SAM."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]  # images (B, c, h, w), labels (B,)


class StepResult(NamedTuple):
    """Of the first pass, at the weights before the step; on the device."""

    loss: Tensor  # (), mean over the batch
    correct: Tensor  # (), int64
    size: int  # B


class EagerStepper:
    """Forward and backward by autograd; the optimizer decides how often.

    SGD calls the closure once. SAM calls it twice, at w and at w + eps, and only the first counts for the metrics.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Any,
        backward: Callable[[Tensor], None],
    ) -> None:
        """
        Args:
            net, loss: what is trained, and how its logits (B, C) and labels (B,) become a scalar.
            optimizer: anything with `zero_grad` and `step(closure=...)`.
            backward: computes gradients of a loss; Lightning's `manual_backward`.
        """
        self.net, self.loss, self.optimizer, self.backward = net, loss, optimizer, backward

    def step(self, batch: Batch) -> StepResult:
        """One optimizer step on one batch."""
        images, labels = batch
        passes: list[StepResult] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            logits = self.net(images)
            loss = self.loss(logits, labels)
            self.backward(loss)
            correct = (logits.detach().argmax(dim=1) == labels).sum()
            passes.append(StepResult(loss.detach(), correct, len(labels)))
            return loss

        self.optimizer.step(closure=closure)
        return passes[0]

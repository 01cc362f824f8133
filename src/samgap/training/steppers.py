"""One interface for the training step of SGD and of SAM, `stepper.step(batch)`."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from samgap.data.batches import Batch
from samgap.data.sets import Normalize
from samgap.losses import correct
from samgap.optim.wrapper import Wrapper
from samgap.training.layout import Group, Layout
from samgap.training.ranks import Ranks


class StepResult(NamedTuple):
    """Results of the first pass over this rank's examples, at the weights before the step."""

    loss: Tensor  # (), mean over the examples
    correct: Tensor  # (), int64
    size: int  # number of examples


class EagerStepper:
    """Runs forward and backward passes by autograd; the optimizer decides how many.

    SGD calls the closure of a group once. SAM calls it twice, at w and at w + eps, and the metrics are those of the
    first call. A group larger than `layout.forward` goes through the net in parts. Their gradients are summed before
    an ascent or a step uses them.
    """

    name = "eager"

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Any,
        backward: Callable[[Tensor], None],
        normalize: Normalize,
        layout: Layout,
        clip_norm: float | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        """
        Args:
            net, loss: the net, and a function from logits (B, C) and labels (B,) to the mean loss, a scalar.
            optimizer: a `samgap.optim.wrapper.Wrapper`, or Lightning's wrapper around one.
            backward: computes gradients of a loss; Lightning's `manual_backward`.
            normalize: converts stored images to input.
            layout: determines which examples share an ascent and a forward pass.
            clip_norm: largest L2 norm of the final gradient; None does not clip.
            callbacks: Lightning's, which `backward` may call.
        """
        self.net, self.loss, self.optimizer, self.backward = net, loss, optimizer, backward
        self.normalize, self.layout, self.clip_norm, self.callbacks = normalize, layout, clip_norm, callbacks
        self.wrapper: Wrapper = getattr(optimizer, "optimizer", optimizer)
        self.ranks = Ranks(layout.span)
        self.products: dict[str, str] = {}  # a compiled stepper's library of each matrix product
        self.weights = [w for group in optimizer.param_groups for w in group["params"]]
        self.wrapper.base.register_step_pre_hook(self._finish)

    def step(self, batch: Batch) -> StepResult:
        """Take one optimizer step on one batch."""
        results: list[StepResult] = []
        groups = self.layout.groups(batch.size, self.ranks.number)
        self.optimizer.step(groups=[(group.share, self._closure(batch, group, results)) for group in groups])
        if len(results) == 1:
            return results[0]
        size = sum(part.size for part in results)
        zero = torch.zeros((), device=self.weights[0].device)
        loss = sum((part.loss * (part.size / size) for part in results), zero)
        return StepResult(loss, sum((part.correct for part in results), zero.long()), size)

    def block(self, block: Iterable[Batch], advance: Callable[[], object]) -> tuple[Any, Any, int]:
        """Take a step for each batch, and call `advance` after it.

        Returns:
            Sum of the losses over the examples (float64), number of correct predictions, number of examples.
        """
        results = []
        for batch in block:
            results.append(self.step(batch))
            advance()
        losses, correct, sizes = zip(*results, strict=True)
        # Sum once per block: even a few small operations in each step would slow down small nets.
        weights = torch.full((len(sizes),), sizes[0], dtype=torch.float64, device=losses[0].device)
        weights[-1].fill_(sizes[-1])  # only the last batch of an epoch can be smaller
        return torch.stack(losses).double() @ weights, torch.stack(correct).sum(), sum(sizes)

    def _closure(self, batch: Batch, group: Group, results: list[StepResult]) -> Callable[[], Tensor]:
        images, labels = (part[group.start : group.stop] for part in (batch.images, batch.labels))
        return partial(self._pass, images, labels, group, results, iter((True,)))

    def _pass(self, images: Tensor, labels: Tensor, group: Group, results: list[StepResult], first: Any) -> Tensor:
        is_first = next(first, False)
        self.optimizer.zero_grad()
        total: Tensor | None = None
        for x, y in zip(*(torch.split(part, self.layout.forward) for part in (images, labels)), strict=True):
            if not len(y):  # this rank has no examples of the group
                continue
            logits = self.net(self.normalize.on(x.device)(x).to(self.weights[0].dtype))
            loss = self.loss(logits, y)
            part = loss if len(y) == group.size else loss * (len(y) / group.size)
            self.backward(part)
            if is_first:
                results.append(StepResult(loss.detach(), correct(logits.detach(), y), len(y)))
            total = part.detach() if total is None else total + part.detach()
        if total is None:
            total = torch.zeros((), device=images.device)
        return self.ranks.sum_group(self.weights, total)

    def _finish(self, *_: Any) -> None:
        # This hook runs just before the base's step, so that only the final gradient is clipped.
        self.ranks.sum_all(self.weights)
        if self.clip_norm is not None:
            clip_grad_norm_(self.weights, self.clip_norm)

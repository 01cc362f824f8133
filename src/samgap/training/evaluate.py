"""Loss and accuracy of a net on a part of the data: every image once, no augmentation, evaluation mode."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samgap.data.batches import blocks
from samgap.data.sets import Data, Split
from samgap.losses import correct

BATCH = 500  # images at a time; bounds memory, moves no number beyond rounding


class Score(NamedTuple):
    """Mean loss in the loss's unit, accuracy as a fraction from 0 to 1; None of a regression."""

    loss: float
    acc: float | None


Sums = Callable[..., list[float]]  # values of this rank to those of all ranks


def _alone(*values: float) -> list[float]:
    return list(values)


def share(part: Split, rank: int, ranks: int) -> Split:
    """The consecutive images of a part that `rank` of `ranks` scores: no image twice, none left out."""
    first, stop = (len(part) * number // ranks for number in (rank, rank + 1))
    return part if ranks == 1 else part.take(torch.arange(first, stop))


@torch.no_grad()
def evaluate(
    net: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: Data,
    split: Split,
    *,
    workers: int = 0,
    sums: Sums = _alone,
) -> Score:
    """Score `net` on `split`, in the precision of its weights; its mode is put back afterwards.

    Args:
        net: takes images (B, c, h, w), gives logits (B, C).
        loss: mean over a batch.
        data: says how stored images become input.
        split: on the net's device, or in files; of several ranks each has its `share`.
        workers: processes that read files.
        sums: adds values up over all ranks.
    """
    weight = next(net.parameters())
    mode = net.training
    net.eval()
    try:
        total, right = 0.0, 0
        scale = data.scale.on(weight.device)
        for images, labels in blocks(split, BATCH, weight.device, workers):
            logits = net(scale(images).to(weight.dtype))
            total += float(loss(logits, labels)) * len(labels)
            right += int(correct(logits, labels))
    finally:
        net.train(mode)
    total, correct_, count = sums(total, right, len(split))
    return Score(total / count, None if data.regression else correct_ / count)

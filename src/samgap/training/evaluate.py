"""Evaluate a net on a part of the data: every image once, no augmentation, evaluation mode."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samgap.data.batches import blocks
from samgap.data.sets import Data, Split
from samgap.losses import hits

BATCH = 500  # images per forward pass; limits memory and changes results only by rounding


class Score(NamedTuple):
    """Mean loss, accuracy from 0 to 1, and which images are classified correctly. A regression has only a loss."""

    loss: float
    acc: float | None  # None in a regression
    hits: Tensor  # (N,) bool on the CPU, of this rank's images; empty in a regression


def share(part: Split, rank: int, ranks: int) -> Split:
    """Return the images that one rank evaluates: a consecutive share. Each image is in exactly one share."""
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
    sums: Callable[..., Sequence[float]] = lambda *values: values,
) -> Score:
    """Return the score of `net` on `split`, in the precision of its weights; restore the mode of each module.

    Args:
        net: takes images (B, c, h, w), gives logits (B, C).
        loss: mean over a batch.
        data: converts stored images to input.
        split: on the net's device, or in files; with several ranks, this rank's `share`.
        workers: number of processes that read files.
        sums: maps values of this rank to their sums over all ranks.
    """
    weight = next(net.parameters())
    modes = [(module, module.training) for module in net.modules()]  # an own net may keep a layer in evaluation mode
    net.eval()
    try:
        total, correct = 0.0, [torch.zeros(0, dtype=torch.bool, device=weight.device)]
        normalize = data.normalize.on(weight.device)
        for images, labels in blocks(split, BATCH, weight.device, workers):
            logits = net(normalize(images).to(weight.dtype))
            total += float(loss(logits, labels)) * len(labels)
            if not data.regression:
                correct.append(hits(logits, labels))
    finally:
        for module, mode in modes:
            module.training = mode
    mask = torch.cat(correct).cpu()
    total, right, count = sums(total, int(mask.sum()), len(split))
    return Score(total / count, None if data.regression else right / count, mask)

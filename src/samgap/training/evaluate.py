"""Loss and accuracy of a net on a part of the data: every image once, no augmentation, evaluation mode."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samgap.data.sets import Data, Split
from samgap.losses import correct

BATCH = 500  # images at a time; bounds memory, moves no number beyond rounding


class Score(NamedTuple):
    """Mean loss in the loss's unit, accuracy as a fraction from 0 to 1; None of a regression."""

    loss: float
    acc: float | None


@torch.no_grad()
def evaluate(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: Data, split: Split) -> Score:
    """Score `net` on `split`, in the precision of its weights; its mode is put back afterwards.

    Args:
        net: takes images (B, c, h, w), gives logits (B, C).
        loss: mean over a batch.
        data: says how stored images become input.
        split: on the net's device.
    """
    dtype = next(net.parameters()).dtype
    mode = net.training
    net.eval()
    try:
        total, right = 0.0, 0
        for start in range(0, len(split), BATCH):
            labels = split.labels[start : start + BATCH]
            logits = net(data.scale(split.images[start : start + BATCH]).to(dtype))
            total += float(loss(logits, labels)) * len(labels)
            right += int(correct(logits, labels))
    finally:
        net.train(mode)
    return Score(total / len(split), None if data.regression else right / len(split))

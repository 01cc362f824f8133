"""Losses of the study, each the mean over a batch.

B batch, C classes.
"""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross-entropy in nats, mean over examples.

    Args:
        logits: (B, C).
        labels: (B,) class numbers.
    """
    return F.cross_entropy(logits, labels)


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared distance between raw outputs and one-hot labels: summed over the C outputs, mean over examples.

    The paper trains figures 4 to 6 with a squared loss and does not give its scale; this is our choice.

    Args:
        logits: (B, C).
        labels: (B,) class numbers.
    """
    target = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return (logits - target).square().sum(dim=1).mean()

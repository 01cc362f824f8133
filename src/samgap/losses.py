"""The losses, each a mean over a batch.

B is the batch size; C is the number of classes, or of outputs in a regression.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from samgap.errors import SettingError


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return softmax cross-entropy in nats, mean over examples.

    Args:
        logits: (B, C).
        labels: (B,) class numbers.

    Raises:
        SettingError: the labels are regression targets.
    """
    if labels.is_floating_point():
        raise SettingError("loss=cross_entropy needs classes, and this data set is a regression: set loss=squared.")
    return F.cross_entropy(logits, labels)


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the squared distance between raw outputs and labels, summed over the C outputs, mean over examples.

    The paper uses a squared loss in figures 1 and 4 to 6 without stating its scale; this scale is our choice.

    Args:
        logits: (B, C).
        labels: (B,) class numbers, taken as one-hot, or (B, C) targets.

    Raises:
        SettingError: targets have another shape than logits.
    """
    target = labels if labels.is_floating_point() else F.one_hot(labels, logits.shape[1])
    if target.shape != logits.shape:  # torch would repeat one of them
        raise SettingError(
            f"A regression needs targets of the outputs' shape {(*logits.shape,)}, got {(*target.shape,)}."
        )
    return (logits - target.to(logits.dtype)).square().sum(dim=1).mean()


def mean_squared(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `squared` / C: the mean squared error of torch and most libraries.

    Its Hessian is C times smaller, so gradient descent is stable at a learning rate C times larger.

    Args:
        logits: (B, C).
        labels: (B,) class numbers, taken as one-hot, or (B, C) targets.
    """
    return squared(logits, labels) / logits.shape[1]


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for each example whether its largest logit is that of its class, (B,) bool.

    Args:
        logits: (B, C).
        labels: (B,) class numbers.
    """
    return logits.argmax(dim=1) == labels


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the number of examples whose largest logit is that of their class, () int64; 0 in a regression.

    Args:
        logits: (B, C).
        labels: (B,) class numbers, or (B, C) targets.
    """
    if labels.is_floating_point():
        return torch.zeros((), dtype=torch.int64, device=logits.device)
    return hits(logits, labels).sum()

"""Pruning at initialization by size: the smallest weights of the whole net go."""

from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """Keep the largest weights, over all kernels together.

    Kernels of few inputs start with larger weights, so that wide layers lose most.

    Args:
        net: its kernels are `models.count.prunable`.
        examples: not looked at.
        sparsity: share of kernel weights to remove, met to the last weight.
        seed: not used.

    Raises:
        SettingError: sparsity is outside [0, 1), or whole layers have one score, see `mask.refuse_blind`.
    """
    scores = {name: weight.detach().abs() for name, weight in prunable(net)}
    return mask.globally(scores, mask.live_kernels(sum(mask.layers(net).values()), sparsity))

"""Magnitude pruning at initialization: the smallest weights of the whole net are removed."""

from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """Keep the largest weights, over all kernels together.

    Kernels with few inputs start with larger weights, so wide layers lose the largest share.

    Args:
        net: `models.count.prunable` are its kernels.
        examples: not used.
        sparsity: share of kernel weights to remove, exact to the weight.
        seed: not used.

    Raises:
        SettingError: sparsity is outside [0, 1), or whole layers have equal scores, see `mask.refuse_ties`.
    """
    scores = {name: weight.detach().abs() for name, weight in prunable(net)}
    return mask.globally(scores, mask.live_kernels(sum(mask.layers(net).values()), sparsity))

"""Random pruning at initialization, small layers less: the Erdos-Renyi-Kernel shares of Evci et al. 2020 (RigL)."""

from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples
from samgap.pruning.random import uniform


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """A layer keeps weights in proportion to the sum of its kernel's axes (inputs, outputs, height, width).

    A layer of which more would be kept than there is stays whole, and the others share what is left.

    Args:
        net: its kernels are `models.count.prunable`.
        examples: not looked at.
        sparsity: share of kernel weights to remove, met to the last weight over the whole net.
        seed: the weights kept at a higher sparsity are among those kept at a lower one.

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    sizes = list(mask.layers(net).values())
    live = mask.live_kernels(sum(sizes), sparsity)
    return mask.by_layer(uniform(net, seed), mask.shares([sum(w.shape) for _, w in prunable(net)], live, sizes))

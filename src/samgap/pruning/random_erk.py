"""Random pruning at initialization with the Erdos-Renyi-Kernel shares of Evci et al. 2020 (RigL)."""

from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples
from samgap.pruning.random import uniform


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """Keep weights of each layer in proportion to the sum of its kernel's axes (inputs, outputs, height, width).

    So small layers lose a smaller share. A layer with a share above its size stays dense; the others share the rest.

    Args:
        net: `models.count.prunable` are its kernels.
        examples: not used.
        sparsity: share of kernel weights to remove, exact to the weight over the whole net.
        seed: seed of the scores. With one seed, masks are nested in sparsity.

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    sizes = list(mask.layers(net).values())
    live = mask.live_kernels(sum(sizes), sparsity)
    return mask.by_layer(uniform(net, seed), mask.shares([sum(w.shape) for _, w in prunable(net)], live, sizes))

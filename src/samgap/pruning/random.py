"""Random pruning at initialization, layer by layer, as in figure 10 of the paper."""

import torch
from torch import Tensor, nn

from samgap import seeds
from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """Keep the same share of each kernel, at random.

    Args:
        net: `models.count.prunable` are its kernels.
        examples: not used.
        sparsity: share of kernel weights to remove, exact to the weight over the whole net.
        seed: seed of the scores. With one seed, masks are nested in sparsity.

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    sizes = list(mask.layers(net).values())
    return mask.by_layer(uniform(net, seed), mask.shares(sizes, mask.live_kernels(sum(sizes), sparsity), sizes))


def uniform(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return a random score for each kernel weight; each layer has its own random stream."""
    return {
        name: torch.rand(weight.shape, generator=seeds.generator(seed, "pruner", name))
        for name, weight in prunable(net)
    }

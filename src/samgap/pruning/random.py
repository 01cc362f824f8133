"""Random pruning at initialization, layer by layer, as in the paper's figure 10."""

import torch
from torch import Tensor, nn

from samgap import seeds
from samgap.models.count import prunable
from samgap.pruning import mask
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int) -> mask.Masks:
    """Every layer keeps the same share of its kernel, at random.

    Args:
        net: its kernels are `models.count.prunable`.
        examples: not looked at.
        sparsity: share of kernel weights to remove, met to the last weight over the whole net.
        seed: the weights kept at a higher sparsity are among those kept at a lower one.

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    sizes = list(mask.layers(net).values())
    return mask.by_layer(uniform(net, seed), mask.shares(sizes, mask.live_kernels(sum(sizes), sparsity), sizes))


def uniform(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random score for each kernel weight, each layer's from a stream of its own."""
    return {
        name: torch.rand(weight.shape, generator=seeds.generator(seed, "pruner", name))
        for name, weight in prunable(net)
    }

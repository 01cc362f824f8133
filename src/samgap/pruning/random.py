"""Random pruning at initialization, layer by layer, as in the paper's figure 10."""

import torch
from torch import nn

from samgap import seeds
from samgap.models.count import prunable
from samgap.pruning import mask


def prune(net: nn.Module, *, sparsity: float, seed: int) -> mask.Masks:
    """Every layer keeps the same share of its kernel, at random.

    Args:
        net: its kernels are `models.count.prunable`.
        sparsity: share of kernel weights to remove, met to the last weight over the whole net.
        seed: the weights kept at a higher sparsity are among those kept at a lower one.

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    sizes = mask.layers(net)
    live = mask.shares(list(sizes.values()), mask.live_kernels(sum(sizes.values()), sparsity))
    masks = {}
    for (name, weight), kept in zip(prunable(net), live, strict=True):
        scores = torch.rand(weight.shape, generator=seeds.generator(seed, "pruner", name))
        masks[name] = mask.keep_largest(scores, kept)
    return masks

"""SynFlow: iterative pruning at initialization by synaptic flow, without data. Tanaka et al. 2020, algorithm 1."""

import torch
from torch import Tensor, nn

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int, iterations: int) -> mask.Masks:
    """Keep, round by round, the weights of the largest |w| dR/d|w|, over all kernels together.

    R is the sum of the outputs of the net with the absolute value of every number in it, for an input of ones; batch
    norm takes the statistics that it starts with. Round k of n keeps a share (1 - sparsity)^(k / n), so a mask is not
    part of that at a lower sparsity.

    Args:
        net: its kernels are `models.count.prunable`; it is not changed; scales of 0 count as 1, see `scoring.copy_of`.
        examples: only their shape counts.
        sparsity: share of kernel weights to remove, met to the last weight.
        seed: not used.
        iterations: rounds n.

    Raises:
        SettingError: sparsity is outside [0, 1), or no flow tells whole layers apart, see `mask.refuse_blind`.
    """
    total = sum(mask.layers(net).values())
    live = mask.live_kernels(total, sparsity)
    net = scoring.copy_of(net).double().eval()  # products over all layers overflow in less
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.abs_()
    kernels = dict(prunable(net))
    ones = torch.ones(1, *examples.images.shape[1:], dtype=torch.float64)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in kernels.items()}
    first: dict[str, Tensor] = {}
    for round_ in range(1, iterations + 1):
        gradients = torch.autograd.grad(net(ones).sum(), list(kernels.values()))
        scores = {
            # What is gone stays below all that is left.
            name: torch.where(masks[name], weight.detach() * gradient, -1)
            for (name, weight), gradient in zip(kernels.items(), gradients, strict=True)
        }
        first = first or scores
        masks = mask.largest(scores, round(total * (live / total) ** (round_ / iterations)))
        with torch.no_grad():
            for name, weight in kernels.items():
                weight.mul_(masks[name])
    # Of the net as it is: what a later round cuts off has no flow either, and goes in whatever order.
    mask.refuse_blind(first, masks)
    return masks

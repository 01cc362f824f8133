"""SynFlow: iterative pruning at initialization by synaptic flow, without data. Tanaka et al. 2020, algorithm 1."""

import torch
from torch import Tensor, nn

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples


def prune(net: nn.Module, examples: Examples, *, sparsity: float, seed: int, iterations: int) -> mask.Masks:
    """Keep the weights with the largest |w| dR/d|w|, over all kernels together, in several rounds.

    R is the sum of the net's outputs for an input of ones, with every weight and buffer replaced by its absolute value
    and batch norm at its initial statistics. Round k of n keeps a share of (1 - sparsity)^(k / n), so masks are not
    nested in sparsity.

    Args:
        net: not changed. `models.count.prunable` are its kernels; `scoring.copy_of` replaces scales of 0 by 1.
        examples, seed: not used, except for the shape of the examples.
        sparsity: share of kernel weights to remove, exact to the weight.
        iterations: n.

    Raises:
        SettingError: sparsity is outside [0, 1), a kernel is not used, or layers have equal scores, see `refuse_ties`.
    """
    total = sum(mask.layers(net).values())
    live = mask.live_kernels(total, sparsity)
    net = scoring.copy_of(net).double().eval()  # products over all layers overflow in float32
    for tensor in filter(torch.is_floating_point, net.state_dict().values()):
        tensor.abs_()
    kernels = dict(prunable(net))
    ones = torch.ones(1, *examples.images.shape[1:], dtype=torch.float64)
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in kernels.items()}
    first: dict[str, Tensor] = {}
    for round_ in range(1, iterations + 1):
        gradients = scoring.gradients(net(ones).sum(), kernels)
        scores = {
            # Pruned weights score below all others; norm layers can make scores negative.
            name: torch.where(masks[name], weight.detach() * gradient, torch.finfo(torch.float64).min)
            for (name, weight), gradient in zip(kernels.items(), gradients, strict=True)
        }
        first = first or scores
        masks = mask.largest(scores, round(total * (live / total) ** (round_ / iterations)))
        with torch.no_grad():
            for name, weight in kernels.items():
                weight.mul_(masks[name])
    # Use the scores of the unpruned net: in later rounds, weights that are cut off by pruned layers also score 0.
    mask.refuse_ties(first, masks)
    return masks

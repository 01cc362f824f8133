"""SNIP: single-shot pruning by connection sensitivity, as in the paper's figure 11. Lee et al. 2019, equation 4."""

import torch
from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples, set_mode


def prune(
    net: nn.Module, examples: Examples, *, sparsity: float, seed: int, batches: int, batch_size: int, mode: str
) -> mask.Masks:
    """Keep the weights with the largest |w dL/dw|, over all kernels together.

    Args:
        net: not changed. `models.count.prunable` are its kernels; `scoring.copy_of` replaces scales of 0 by 1.
        examples: training examples from which the batches of the mean loss L are drawn.
        sparsity: share of kernel weights to remove, exact to the weight.
        seed: seed of the order of the examples.
        batches, batch_size: number and size of the batches; batch norm uses one batch at a time.
        mode: train or eval, see `examples.set_mode`.

    Raises:
        SettingError: a setting is out of range, the net does not use a kernel, or whole layers have equal scores, see
            `mask.refuse_ties`.
    """
    live = mask.live_kernels(sum(mask.layers(net).values()), sparsity)
    net = scoring.copy_of(net)  # a forward pass updates running statistics
    set_mode(net, mode)
    kernels = dict(prunable(net))
    total = [torch.zeros_like(weight) for weight in kernels.values()]
    for images, labels in examples.draw(batches, batch_size, seed):
        loss = examples.loss(net(images), labels)
        torch._foreach_add_(total, scoring.gradients(loss, kernels))
    scores = {name: (w.detach() * g).abs() for (name, w), g in zip(kernels.items(), total, strict=True)}
    return mask.globally(scores, live)

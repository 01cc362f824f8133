"""SNIP: single-shot pruning by connection sensitivity, as in the paper's figure 11. Lee et al. 2019, equation 4."""

import torch
from torch import nn

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples, set_mode


def prune(
    net: nn.Module, examples: Examples, *, sparsity: float, seed: int, batches: int, batch_size: int, mode: str
) -> mask.Masks:
    """Keep the weights of the largest |w dL/dw|, over all kernels together.

    Args:
        net: its kernels are `models.count.prunable`; it is not changed, and these very weights are scored, scales
            of 0 at 1, see `scoring.copy_of`.
        examples: whose mean loss is L.
        sparsity: share of kernel weights to remove, met to the last weight.
        seed: of the order in which examples are taken.
        batches, batch_size: how many of them; batch norm sees one batch at a time.
        mode: train or eval, see `examples.set_mode`.

    Raises:
        SettingError: a setting is outside its range, or whole layers have one score, see `mask.refuse_blind`.
    """
    live = mask.live_kernels(sum(mask.layers(net).values()), sparsity)
    net = scoring.copy_of(net)  # running statistics move in a forward pass
    set_mode(net, mode)
    kernels = dict(prunable(net))
    total = [torch.zeros_like(weight) for weight in kernels.values()]
    for images, labels in examples.draw(batches, batch_size, seed):
        loss = examples.loss(net(images), labels)
        torch._foreach_add_(total, torch.autograd.grad(loss, list(kernels.values())))
    scores = {name: (w.detach() * g).abs() for (name, w), g in zip(kernels.items(), total, strict=True)}
    return mask.globally(scores, live)

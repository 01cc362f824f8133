"""GraSP: gradient signal preservation, a pruner at initialization. Wang et al. 2020, equation 8."""

import torch
from torch import Tensor, nn

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples, set_mode


def prune(
    net: nn.Module,
    examples: Examples,
    *,
    sparsity: float,
    seed: int,
    batches: int,
    batch_size: int,
    mode: str,
    temperature: float,
) -> mask.Masks:
    """Keep the weights whose loss would most lower |g|^2: those of the largest w (H g), over all kernels together.

    g and H are gradient and Hessian of the mean loss over all the batches, in the kernels.

    Args:
        net: its kernels are `models.count.prunable`; it is not changed; scales of 0 count as 1, see `scoring.copy_of`.
        examples: whose mean loss is differentiated.
        sparsity: share of kernel weights to remove, met to the last weight.
        seed: of the order in which examples are taken.
        batches, batch_size: how many of them; batch norm sees one batch at a time.
        mode: train or eval, see `examples.set_mode`.
        temperature: divides the logits.

    Raises:
        SettingError: a setting is outside its range, or whole layers have one score, see `mask.refuse_blind`.
    """
    live = mask.live_kernels(sum(mask.layers(net).values()), sparsity)
    net = scoring.copy_of(net)
    set_mode(net, mode)
    kernels = dict(prunable(net))
    weights = list(kernels.values())
    drawn = examples.draw(batches, batch_size, seed)

    def gradients(images: Tensor, labels: Tensor, graph: bool) -> tuple[Tensor, ...]:
        loss = examples.loss(net(images) / temperature, labels) / len(drawn)
        return torch.autograd.grad(loss, weights, create_graph=graph)

    g = [torch.zeros_like(weight) for weight in weights]
    for batch in drawn:
        torch._foreach_add_(g, gradients(*batch, graph=False))
    hg = [torch.zeros_like(weight) for weight in weights]
    for batch in drawn:
        along = torch.stack([(a * b).sum() for a, b in zip(gradients(*batch, graph=True), g, strict=True)]).sum()
        torch._foreach_add_(hg, torch.autograd.grad(along, weights))
    scores = {name: w.detach() * product for (name, w), product in zip(kernels.items(), hg, strict=True)}
    return mask.globally(scores, live)

"""GraSP (gradient signal preservation): a pruner at initialization. Wang et al. 2020, equation 8."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samgap.models.count import prunable
from samgap.pruning import mask, scoring
from samgap.pruning.examples import Examples, set_mode


def prune(
    net: nn.Module, examples: Examples, *, sparsity: float, seed: int, batches: int, batch_size: int, mode: str,
    temperature: float,
) -> mask.Masks:  # fmt: skip
    """Keep the weights with the largest w (H g), over all kernels together: removing them would lower |g|^2 most.

    g and H are the gradient and the Hessian of the mean loss over all batches, with respect to the kernels.

    Args:
        net: not changed. `models.count.prunable` are its kernels; `scoring.copy_of` replaces scales of 0 by 1.
        examples: training examples from which the batches are drawn.
        sparsity: share of kernel weights to remove, exact to the weight.
        seed: seed of the order of the examples.
        batches, batch_size: number and size of the batches; batch norm uses one batch at a time.
        mode: train or eval, see `examples.set_mode`.
        temperature: divides the logits.

    Raises:
        SettingError: a setting is out of range, the net does not use a kernel, or whole layers have equal scores, see
            `mask.refuse_ties`.
    """
    live = mask.live_kernels(sum(mask.layers(net).values()), sparsity)
    net = scoring.copy_of(net)
    set_mode(net, mode)
    kernels = dict(prunable(net))
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivative
        products = _hessian_times_gradient(net, kernels, examples, batches, batch_size, seed, temperature)
    scores = {name: w.detach() * product for (name, w), product in zip(kernels.items(), products, strict=True)}
    return mask.globally(scores, live)


def _hessian_times_gradient(
    net: nn.Module, kernels: Mapping[str, Tensor], examples: Examples, batches: int, batch_size: int, seed: int,
    temperature: float,
) -> list[Tensor]:  # fmt: skip
    drawn = examples.draw(batches, batch_size, seed)

    def gradients(images: Tensor, labels: Tensor, graph: bool) -> list[Tensor]:
        loss = examples.loss(net(images) / temperature, labels) / len(drawn)
        return scoring.gradients(loss, kernels, graph)

    g = [torch.zeros_like(weight) for weight in kernels.values()]
    for batch in drawn:
        torch._foreach_add_(g, gradients(*batch, graph=False))
    hg = [torch.zeros_like(weight) for weight in kernels.values()]
    for batch in drawn:
        product = torch.stack([(a * b).sum() for a, b in zip(gradients(*batch, graph=True), g, strict=True)]).sum()
        torch._foreach_add_(hg, scoring.gradients(product, kernels))
    return hg

"""The copy of a net on which pruners compute scores, and its gradients."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from samgap.errors import SettingError


def copy_of(net: nn.Module) -> nn.Module:
    """Copy `net`, with 1 in place of every scale that is exactly 0, and with gradients also for frozen parameters.

    A scale is a vector named weight, as in batch norm and layer norm. If the last scale of a residual block starts at
    0 (`ResNet50`), the loss does not yet depend on the kernels inside the block, so all their gradients and scores
    would be 0. Other nets start with scales of 1.

    Args:
        net: not changed. A mask computed from the copy's scores is valid for it.
    """
    net = copy.deepcopy(net).requires_grad_(True)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.split(".")[-1] == "weight" and weight.ndim < 2:
                weight[weight == 0] = 1
    return net


def gradients(loss: Tensor, kernels: Mapping[str, Tensor], graph: bool = False) -> list[Tensor]:
    """Return the gradient of each kernel; with `graph` they can be differentiated again.

    Raises:
        SettingError: the loss does not depend on a kernel.
    """
    found = torch.autograd.grad(loss, list(kernels.values()), create_graph=graph, allow_unused=True)
    if unused := [name for name, gradient in zip(kernels, found, strict=True) if gradient is None]:
        raise SettingError(
            f"The net's output does not depend on {unused[0]}, so it has no score: set pruner=random or "
            "pruner=magnitude, or remove the layer."
        )
    return list(found)

"""The copy of a net on which pruners compute scores: scales of 0 are set to 1, since they block gradients."""

import copy

import torch
from torch import nn


def copy_of(net: nn.Module) -> nn.Module:
    """Copy `net`, with 1 in place of every scale that is exactly 0.

    A scale is a vector named weight, as in batch norm and layer norm. If the last scale of a residual block starts at
    0 (`ResNet50`), the loss does not yet depend on the kernels inside the block, so all their gradients and scores
    would be 0. Other nets start with scales of 1.

    Args:
        net: not changed. A mask computed from the copy's scores is valid for it.
    """
    net = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.split(".")[-1] == "weight" and weight.ndim < 2:
                weight[weight == 0] = 1
    return net

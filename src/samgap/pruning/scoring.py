"""The net as a pruner scores it: a copy in which no scale of 0 hides the layers before it."""

import copy

import torch
from torch import nn


def copy_of(net: nn.Module) -> nn.Module:
    """A copy of `net` whose scales of exactly 0 are 1.

    A scale is a vector called weight, as batch norm, layer norm and their like have it. Where the last scale of a
    residual block starts at 0 (`ResNet50`), the loss does not yet depend on the kernels inside: all of their gradients
    and scores would be 0. At 1, where other nets start, the pruner sees the net that the block becomes.

    Args:
        net: it is not changed, and a mask made of the copy's scores is applied to it as it is.
    """
    net = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.split(".")[-1] == "weight" and weight.ndim < 2:
                weight[weight == 0] = 1
    return net

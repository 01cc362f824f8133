"""How weights start. A sweep over width magnifies differences here, so the choice is a setting."""

import math

from torch import nn

from samgap.errors import SettingError, said


def lecun_normal(net: nn.Module) -> None:
    """Kernels as Flax draws them by default, which the paper's code uses; biases 0.

    Normal with standard deviation sqrt(1 / fan_in), truncated at two standard deviations of the parent and scaled
    up by 1 / 0.8796 so that the deviation after truncation is the one asked for.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            std = math.sqrt(1 / fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize(net: nn.Module, init: str) -> None:
    """Draw the weights of `net` anew from the global generator.

    Args:
        net: any net.
        init: "lecun_normal", or "torch" to keep what torch drew: uniform kernels with a standard deviation smaller
            by a factor of 1.73, uniform biases.

    Raises:
        SettingError: another word.
    """
    if init == "lecun_normal":
        lecun_normal(net)
    elif init != "torch":
        raise SettingError(f"model.init must be lecun_normal or torch, got {said(init)}.")

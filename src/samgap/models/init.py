"""Initialization of weights. It matters in a sweep over widths, so it is a setting."""

import math

from torch import nn

from samgap.errors import SettingError, said


def lecun_normal(net: nn.Module) -> None:
    """Draw kernels as Flax does by default, which the paper's code uses, and set biases to 0.

    The distribution is normal, truncated at two standard deviations. Truncation lowers the standard deviation by a
    factor of 0.8796, so the normal is scaled up by 1 / 0.8796 to leave sqrt(1 / fan_in).
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight[0].numel()
            std = math.sqrt(1 / fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize(net: nn.Module, init: str) -> None:
    """Redraw the weights of `net` from the global generator.

    Args:
        net: any net.
        init: "lecun_normal", or "torch" to keep torch's initialization: uniform biases, and uniform kernels with a
            standard deviation that is smaller by a factor of 1.73.

    Raises:
        SettingError: `init` is neither.
    """
    if init == "lecun_normal":
        lecun_normal(net)
    elif init != "torch":
        raise SettingError(f"model.init must be lecun_normal or torch, got {said(init)}.")

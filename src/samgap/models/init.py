"""Initialization of weights. It matters in a sweep over widths, so it is a setting."""

import math

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from samgap.errors import SettingError, said


def lecun_normal(net: nn.Module) -> None:
    """Draw kernels of linear and convolution layers as Flax does by default, and set their biases to 0.

    The paper's code uses this. Other layers keep their values. The distribution is normal, truncated at two standard
    deviations. Truncation lowers the standard deviation by a factor of 0.8796, so the normal is scaled up by 1 / 0.8796
    to leave sqrt(1 / fan_in).

    Raises:
        SettingError: the weights of a layer are computed from other parameters.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | _ConvNd):
            if is_parametrized(module, "weight"):
                raise SettingError(
                    f"model.init=lecun_normal cannot draw the weights of {name or 'the net'}, which are computed from "
                    "other parameters: set model.init=torch."
                )
            inputs = module.in_features if isinstance(module, nn.Linear) else module.in_channels // module.groups
            fan_in = inputs * math.prod(module.weight.shape[2:])
            std = math.sqrt(1 / fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize(net: nn.Module, init: str) -> None:
    """Redraw the weights of `net` from the global generator.

    Args:
        net: any net.
        init: "lecun_normal", or "torch" to keep the weights that the class gave them. torch's layers have uniform
            biases, and uniform kernels with a standard deviation that is smaller by a factor of 1.73.

    Raises:
        SettingError: `init` is neither, or does not apply to a layer.
    """
    if init == "lecun_normal":
        lecun_normal(net)
    elif init != "torch":
        raise SettingError(f"model.init must be lecun_normal or torch, got {said(init)}.")

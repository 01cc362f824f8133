"""Count parameters, and find the width whose number of parameters is nearest to a given one."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from samgap.errors import SettingError, said
from samgap.targets import locate


@dataclass(frozen=True)
class Counts:
    """Numbers of trained parameters, without buffers."""

    total: int
    prunable: int  # in kernels, see `prunable`


def prunable(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield names and weights of the kernels: parameters with two or more axes, as in linear and convolution layers.

    Biases and batch-norm parameters are vectors. They are never pruned, as in the paper.
    """
    return ((name, weight) for name, weight in net.named_parameters() if weight.ndim >= 2)


def count(net: nn.Module) -> Counts:
    """Count the parameters of a net, which may be on the meta device."""
    return Counts(
        total=sum(weight.numel() for weight in net.parameters()),
        prunable=sum(weight.numel() for _, weight in prunable(net)),
    )


def nearest_width(build: Callable[[float], nn.Module], params: float, step: float) -> float:
    """Return the width whose number of parameters is nearest to `params`; of two, the smaller.

    Args:
        build: makes the net of a given width; called on the meta device. Wider nets must have more parameters.
        params: requested number of parameters.
        step: the width is a multiple of it.

    Raises:
        SettingError: even the smallest net has more than twice as many parameters.
    """

    def total(steps: int) -> int:
        with torch.device("meta"):
            return count(build(steps * step)).total

    low, high = 1, 2
    while total(high) < params:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= params else (low, middle)
    best = min((low, high), key=lambda steps: abs(total(steps) - params))
    if total(best) > 2 * params:
        raise SettingError(f"model.params={params:g} is too few: the smallest net of this kind has {total(1)}.")
    return round(best * step, 10)


@functools.cache
def counts_of(code: str, width: float, shape: tuple[int, int, int], classes: int) -> Counts:
    """Return the parameter counts of the model at the dotted path `code`, for images of `shape` (c, h, w)."""
    with torch.device("meta"):
        return count(locate(code, "model.code")(shape, classes, width=width))


@functools.cache
def width_of(code: str, params: float, shape: tuple[int, int, int], classes: int) -> float:
    """Return the width at which the model at the dotted path `code` has nearly `params` parameters."""
    model = locate(code, "model.code")
    step = locate(f"{model.__module__}.WIDTH_STEP")
    return nearest_width(lambda width: model(shape, classes, width), params, step)


def whole(value: Any, name: str) -> int:
    """Return `value` as an int; `name` is for the message.

    Raises:
        SettingError: `value` is not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise SettingError(f"{name} must be a whole number from 1, got {said(value)}.")
    return int(value)

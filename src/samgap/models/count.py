"""Count parameters, and find the width whose number of parameters is nearest to a given one."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from samgap.errors import SettingError, said
from samgap.targets import call, locate

NORMS = nn.LayerNorm, nn.RMSNorm  # norm layers whose parameters may have several axes


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters, without buffers."""

    total: int
    prunable: int  # in kernels, see `prunable`


def prunable(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield names and weights of the kernels: parameters with two or more axes, as in linear and convolution layers.

    Biases and parameters of norm layers are never pruned, as in the paper. Most are vectors.

    Raises:
        SettingError: a layer has no weights yet.
    """
    norms = {id(weight) for layer in net.modules() if isinstance(layer, NORMS) for weight in layer.parameters()}
    for name, weight in net.named_parameters():
        if isinstance(weight, UninitializedParameter):
            raise SettingError(
                f"{name} has no weights before the net's first pass: give the layer its number of inputs."
            )
        if weight.ndim >= 2 and id(weight) not in norms:
            yield name, weight


def count(net: nn.Module) -> Counts:
    """Count the parameters of a net, which may be on the meta device."""
    kernels = sum(weight.numel() for _, weight in prunable(net))
    return Counts(total=sum(weight.numel() for weight in net.parameters()), prunable=kernels)


def nearest_width(build: Callable[[float], nn.Module], params: float, step: float) -> float:
    """Return the width whose number of parameters is nearest to `params`; of two, the smaller.

    Args:
        build: makes the net of a given width; called on the meta device. Wider nets must have more parameters.
        params: requested number of parameters.
        step: the width is a multiple of it.

    Raises:
        SettingError: even the smallest net has more than twice as many parameters, or wider nets do not have more.
    """

    def total(steps: int) -> int:
        with torch.device("meta"):
            return count(build(steps * step)).total

    low, high = 1, 2
    while total(high) < params:
        low, high = high, 2 * high
        if total(high) <= total(low):
            raise SettingError(
                f"model.params={params:g} cannot be met: the net has {total(low)} parameters at model.width="
                f"{low * step:g} and no more at {high * step:g}. Set model.width."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if total(middle) <= params else (low, middle)
    best = min((low, high), key=lambda steps: abs(total(steps) - params))
    if total(best) > 2 * params:
        raise SettingError(f"model.params={params:g} is too few: the smallest net of this kind has {total(1)}.")
    return round(best * step, 10)


def counts_of(code: str, own: Mapping[str, Any], width: float, shape: tuple[int, int, int], classes: int) -> Counts:
    """Return the parameter counts of a model.

    Args:
        code: its dotted path.
        own: its settings beside the width, as plain values.
        width: its width.
        shape: (c, h, w) of an image.
        classes: number of classes.
    """
    return _counts_of(code, json.dumps(own), width, shape, classes)


@functools.cache
def _counts_of(code: str, own: str, width: float, shape: tuple[int, int, int], classes: int) -> Counts:
    with torch.device("meta"):
        return count(call("model", locate(code, "model.code"), shape, classes, width=width, **json.loads(own)))


def width_of(code: str, own: Mapping[str, Any], params: float, shape: tuple[int, int, int], classes: int) -> float:
    """Return the width at which a model has nearly `params` parameters; other arguments as for `counts_of`."""
    return _width_of(code, json.dumps(own), params, shape, classes)


@functools.cache
def _width_of(code: str, own: str, params: float, shape: tuple[int, int, int], classes: int) -> float:
    model = locate(code, "model.code")
    step = locate(f"{model.__module__}.WIDTH_STEP")
    settings = json.loads(own)
    return nearest_width(lambda width: call("model", model, shape, classes, width=width, **settings), params, step)


def whole(value: Any, name: str) -> int:
    """Return `value` as an int; `name` is for the message.

    Raises:
        SettingError: `value` is not a positive whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
        raise SettingError(f"{name} must be a whole number from 1, got {said(value)}.")
    return int(value)

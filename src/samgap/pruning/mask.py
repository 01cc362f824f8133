"""Masks: which weights of a net live, and how the others stay 0 in forward, gradient, momentum and ascent.

Weights are zeroed once and their gradients masked by hooks before any optimizer sees them. So the ascent norm runs
over live weights alone and |eps| is rho at every sparsity; masking the weights only would let most of rho fall on
pruned coordinates, more so the sparser the net.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from samgap.errors import SettingError
from samgap.models.count import prunable

Masks = dict[str, Tensor]  # parameter name -> bool of the same shape, True = live


def live_kernels(total: int, sparsity: float) -> int:
    """Kernel weights that live: round((1 - sparsity) total).

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise SettingError(f"pruner.sparsity must be from 0 up to but not including 1, got {sparsity!r}.")
    return round((1 - sparsity) * total)


def shares(sizes: list[int], live: int) -> list[int]:
    """Deal `live` weights out to layers in proportion to their sizes, to the last weight (Webster's method).

    A divisor method: a layer never gets fewer when `live` grows, so masks of one seed are nested in sparsity.

    Args:
        sizes: weights of each layer.
        live: weights to deal out, at most the sum of `sizes`.

    Returns:
        Live weights of each layer; their sum is `live`.
    """
    total = sum(sizes)
    given = [(2 * live * size + total) // (2 * total) for size in sizes]  # nearest whole number, exactly
    while missing := live - sum(given):
        step = 1 if missing > 0 else -1
        # To get one: the layer with the largest size / (given + 1/2), of equals the first. To lose one: the layer
        # that would have been the last to get it.
        able = [layer for layer, have in enumerate(given) if have + step >= 0]
        given[max(able, key=lambda layer: (step * sizes[layer] / (given[layer] + step / 2), -step * layer))] += step
    return given


def keep_largest(scores: Tensor, live: int) -> Tensor:
    """A mask of the `live` largest scores; of equal scores the first in memory wins."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().argsort(descending=True, stable=True)[:live]] = True
    return mask.view_as(scores)


def apply(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero the pruned weights of `net` now and keep their gradients at 0.

    Plain keys in `state_dict`: the net is as loadable as a dense one.
    """
    weights = dict(net.named_parameters())
    for name, mask in masks.items():
        weight = weights[name]
        with torch.no_grad():
            weight.mul_(mask.to(weight.device))
        weight.register_hook(_Masked(mask))  # type: ignore[no-untyped-call]


def params_live(net: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Parameters without the pruned ones; biases and batch norm count."""
    total = sum(weight.numel() for weight in net.parameters())
    return total - sum(mask.numel() - int(mask.sum()) for mask in masks.values())


def layers(net: nn.Module) -> dict[str, int]:
    """Kernel names with their sizes, in the net's order."""
    return {name: weight.numel() for name, weight in prunable(net)}


class _Masked:
    """Gradient hook that follows the gradient to its device once."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        self.mask = self.mask.to(gradient.device)
        return gradient * self.mask

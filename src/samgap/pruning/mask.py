"""Masks: which weights of a net are live. The others stay 0 in forward pass, gradient, momentum and ascent.

`apply` zeroes pruned weights once, and hooks mask their gradients before any optimizer reads them. So the norm of the
ascent is over live weights only, and |eps| is rho at every sparsity. If only the weights were masked, a part of eps
that grows with sparsity would lie in pruned coordinates.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from samgap.errors import SettingError, said
from samgap.models.count import Counts, prunable

Masks = dict[str, Tensor]  # parameter name -> bool of the same shape, True = live
TIED = 0.01  # largest accepted number of tied weights, as a share of the live ones, see `refuse_ties`


def live_kernels(total: int, sparsity: float) -> int:
    """Return the number of live kernel weights, round((1 - sparsity) total).

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise SettingError(f"pruner.sparsity must be from 0 up to but not including 1, got {said(sparsity)}.")
    return round((1 - sparsity) * total)


def sparsity_of(live: int, counts: Counts, width: float | None = None) -> float:
    """Return the share of kernel weights to remove so that `live` parameters are left, with biases and batch norm.

    Raises:
        SettingError: the net, whose `width` is for the message, has fewer, or no kernel weight would be left.
    """
    dense = counts.total - counts.prunable
    if not dense < live <= counts.total:
        at = "" if width is None else f" at model.width={width:g}"
        raise SettingError(
            f"pruner.live_params must be from {dense + 1}, one kernel weight beside biases and batch norm, "
            f"to {counts.total}, the whole net{at}, got {live}."
        )
    return 1 - (live - dense) / counts.prunable


def shares(weights: list[int], live: int, sizes: list[int]) -> list[int]:
    """Distribute exactly `live` weights over layers in proportion to `weights` (Webster's method).

    This is a divisor method: no layer gets fewer when `live` grows, so masks of one seed are nested in sparsity.

    Args:
        weights: the number to which each layer's share is proportional.
        live: number of weights to distribute, at most the sum of `sizes`.
        sizes: size of each layer, the upper limit of its share.

    Returns:
        The number of live weights of each layer; their sum is `live`.
    """
    given = _near(weights, live, sizes)
    while missing := live - sum(given):
        step = 1 if missing > 0 else -1
        # The next weight goes to the layer with the largest weight / (given + 1/2), the first of equals. A surplus
        # weight is taken from the layer that got the last one.
        able = [layer for layer, count in enumerate(given) if 0 <= count + step <= sizes[layer]]
        given[max(able, key=lambda layer: (step * weights[layer] / (given[layer] + step / 2), -step * layer))] += step
    return given


def _near(weights: list[int], live: int, sizes: list[int]) -> list[int]:
    # Layers whose share exceeds their size are filled; the shares of the others are rounded, in exact arithmetic.
    full: set[int] = set()
    while True:
        rest = [layer for layer in range(len(sizes)) if layer not in full]
        left, total = live - sum(sizes[layer] for layer in full), sum(weights[layer] for layer in rest)
        over = {layer for layer in rest if left * weights[layer] >= sizes[layer] * total}
        if not over:
            return [
                sizes[layer] if layer in full else (2 * left * weights[layer] + total) // (2 * total)
                for layer in range(len(sizes))
            ]
        full |= over


def by_layer(scores: Mapping[str, Tensor], live: list[int]) -> Masks:
    """Return masks of the largest scores of each layer; `live` has the number for each."""
    return {name: keep_largest(layer, count) for (name, layer), count in zip(scores.items(), live, strict=True)}


def globally(scores: Mapping[str, Tensor], live: int) -> Masks:
    """Return masks of the `live` largest scores of all layers together.

    Raises:
        SettingError: a score is not finite, or whole layers have equal scores, see `refuse_ties`.
    """
    masks = largest(scores, live)
    refuse_ties(scores, masks)
    return masks


def largest(scores: Mapping[str, Tensor], live: int) -> Masks:
    """As `globally`, but ties are allowed; of equal scores those of earlier layers are kept."""
    sizes = [layer.numel() for layer in scores.values()]
    kept = keep_largest(torch.cat([layer.flatten() for layer in scores.values()]), live)
    parts = zip(scores.items(), torch.split(kept, sizes), strict=True)
    return {name: part.view_as(layer) for (name, layer), part in parts}


def refuse_ties(scores: Mapping[str, Tensor], masks: Masks) -> None:
    """Refuse masks that depend on the order of layers, because all weights of some layers have the same score.

    Ties inside a layer are allowed: weights whose inputs are always 0 have scores of 0, and since they have no effect,
    it does not matter which of them are kept.

    Args:
        scores: score of each kernel weight, by parameter name.
        masks: masks of the largest scores.

    Raises:
        SettingError: kept and pruned weights share the lowest kept score, and the layers in which all weights have
            this score have more weights than the share `TIED` of the number kept.
    """
    kept = torch.cat([layer[masks[name]] for name, layer in scores.items()])
    if not len(kept):
        return
    lowest = kept.min()
    tied = [name for name, layer in scores.items() if (layer == lowest).all()]
    weights = sum(scores[name].numel() for name in tied)
    split = any((layer[~masks[name]] == lowest).any() for name, layer in scores.items())
    if split and weights > TIED * len(kept):
        names = ", ".join(tied[:3]) + (f" and {len(tied) - 3} more layers" if len(tied) > 3 else "")
        raise SettingError(
            f"All {weights:,} weights of {names} have the same score ({lowest:g}), so that their position would decide "
            "which of them live: set pruner=random, or initialize the model differently (a factor that starts at 0 "
            "hides the layers before it from the pruner)."
        )


def keep_largest(scores: Tensor, live: int) -> Tensor:
    """Return a mask of the `live` largest scores; of equal scores the first in memory is kept.

    Raises:
        SettingError: a score is not finite.
    """
    if not torch.isfinite(scores).all():
        raise SettingError(f"A pruner gave {int((~torch.isfinite(scores)).sum())} scores that are not finite.")
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().argsort(descending=True, stable=True)[:live]] = True
    return mask.view_as(scores)


def apply(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero the pruned weights of `net` and keep their gradients at 0.

    The keys of `state_dict` are those of a dense net. A deep copy of `net` does not keep the gradients at 0: call this
    for each copy.
    """
    weights = dict(net.named_parameters())
    for name, mask in masks.items():
        weight = weights[name]
        with torch.no_grad():
            weight.mul_(mask.to(weight.device))
        if weight.requires_grad:
            weight.register_hook(Masked(mask))  # type: ignore[no-untyped-call]


def params_live(net: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Return the number of parameters that are not pruned, including biases and batch norm."""
    total = sum(weight.numel() for weight in net.parameters())
    return total - sum(mask.numel() - int(mask.sum()) for mask in masks.values())


def layers(net: nn.Module) -> dict[str, int]:
    """Return the number of weights of each kernel by name, in the net's order.

    Raises:
        SettingError: a kernel is computed from other parameters (weight norm), which masks cannot prune.
    """
    kernels = dict(prunable(net))
    if computed := [name for name in kernels if ".parametrizations." in f".{name}"]:
        raise SettingError(
            f"The net computes a kernel from {computed[0]}, so no mask can prune it: set pruner.sparsity=0, or remove "
            "this parametrization."
        )
    return {name: weight.numel() for name, weight in kernels.items()}


def sparsity_by_layer(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the pruned share of each kernel."""
    return {name: 1 - int(mask.sum()) / mask.numel() for name, mask in masks.items()}


def load(masks: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy `saved` into `masks` in place, since gradient hooks refer to these tensors."""
    for name, mask in masks.items():
        mask.copy_(saved[name])


class Masked:
    """Gradient hook that applies a mask, and moves it to the gradient's device once."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, 0 at pruned weights."""
        self.mask = self.mask.to(gradient.device)
        return gradient * self.mask

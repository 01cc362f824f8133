"""Masks: which weights of a net are live. The others stay 0 in forward pass, gradient, momentum and ascent.

`apply` zeroes pruned weights once, and hooks mask their gradients before any optimizer reads them. So the ascent norm
is over live weights alone and |eps| is rho at every sparsity. If only the weights were masked, most of rho would be
spent on pruned coordinates, and more the sparser the net.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from samgap.errors import SettingError, said
from samgap.models.count import Counts, prunable

Masks = dict[str, Tensor]  # parameter name -> bool of the same shape, True = live
TIED = 0.01  # largest number of weights in layers of a single score, as a share of those kept, see `refuse_ties`


def live_kernels(total: int, sparsity: float) -> int:
    """The number of live kernel weights, round((1 - sparsity) total).

    Raises:
        SettingError: sparsity is outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise SettingError(f"pruner.sparsity must be from 0 up to but not including 1, got {said(sparsity)}.")
    return round((1 - sparsity) * total)


def sparsity_of(live: int, counts: Counts, width: float | None = None) -> float:
    """The share of kernel weights to remove, for `live` parameters to be left, biases and batch norm included.

    Raises:
        SettingError: the net, of this width, has fewer, or no kernel weight would be left.
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
        weights: of each layer, to which its share is proportional.
        live: weights to distribute, at most the sum of `sizes`.
        sizes: of the layers, which cap their shares.

    Returns:
        The live weights of each layer; their sum is `live`.
    """
    given = _near(weights, live, sizes)
    while missing := live - sum(given):
        step = 1 if missing > 0 else -1
        # The next weight goes to the layer with the largest weight / (given + 1/2), the first of equals. A surplus
        # weight is taken from the layer that got the last one.
        able = [layer for layer, have in enumerate(given) if 0 <= have + step <= sizes[layer]]
        given[max(able, key=lambda layer: (step * weights[layer] / (given[layer] + step / 2), -step * layer))] += step
    return given


def _near(weights: list[int], live: int, sizes: list[int]) -> list[int]:
    # Fill the layers whose share exceeds their size; round the shares of the others, in exact arithmetic.
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
    """Masks of the largest scores of each layer; `live` has the number for each."""
    return {name: keep_largest(layer, count) for (name, layer), count in zip(scores.items(), live, strict=True)}


def globally(scores: Mapping[str, Tensor], live: int) -> Masks:
    """Masks of the `live` largest scores of all layers together.

    Raises:
        SettingError: a score is not finite, or whole layers have equal scores, see `refuse_ties`.
    """
    masks = largest(scores, live)
    refuse_ties(scores, masks)
    return masks


def largest(scores: Mapping[str, Tensor], live: int) -> Masks:
    """As `globally`, but ties are allowed; of equal scores the first layer's win."""
    sizes = [layer.numel() for layer in scores.values()]
    kept = keep_largest(torch.cat([layer.flatten() for layer in scores.values()]), live)
    parts = zip(scores.items(), torch.split(kept, sizes), strict=True)
    return {name: part.view_as(layer) for (name, layer), part in parts}


def refuse_ties(scores: Mapping[str, Tensor], masks: Masks) -> None:
    """Refuse masks in which the position of a layer decides, because all its weights have the same score.

    Ties inside a layer are allowed: inputs and kernel taps that only ever see 0 have scores of 0, and since they have
    no effect, it does not matter which of them are kept.

    Args:
        scores: of every kernel weight.
        masks: of the largest scores.

    Raises:
        SettingError: the lowest kept score belongs to kept and to pruned weights, and the layers that have no other
            score hold more weights than a share `TIED` of the number kept.
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
    """A mask of the `live` largest scores; of equal scores the first in memory wins.

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

    The keys of `state_dict` are those of a dense net.
    """
    weights = dict(net.named_parameters())
    for name, mask in masks.items():
        weight = weights[name]
        with torch.no_grad():
            weight.mul_(mask.to(weight.device))
        weight.register_hook(Masked(mask))  # type: ignore[no-untyped-call]


def params_live(net: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """The number of parameters that are not pruned, biases and batch norm included."""
    total = sum(weight.numel() for weight in net.parameters())
    return total - sum(mask.numel() - int(mask.sum()) for mask in masks.values())


def layers(net: nn.Module) -> dict[str, int]:
    """Kernel names and sizes, in the net's order."""
    return {name: weight.numel() for name, weight in prunable(net)}


def sparsity_by_layer(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The pruned share of each kernel."""
    return {name: 1 - int(mask.sum()) / mask.numel() for name, mask in masks.items()}


def load(masks: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Copy `kept` into `masks` in place, since gradient hooks hold these tensors."""
    for name, mask in masks.items():
        mask.copy_(kept[name])


class Masked:
    """Gradient hook that moves its mask to the gradient's device once."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the gradient, 0 at pruned weights."""
        self.mask = self.mask.to(gradient.device)
        return gradient * self.mask

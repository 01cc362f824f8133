"""Masks: which weights of a net live, and how the others stay 0 in forward, gradient, momentum and ascent.

Weights are zeroed once and their gradients masked by hooks before any optimizer sees them. So the ascent norm runs
over live weights alone and |eps| is rho at every sparsity; masking the weights only would let most of rho fall on
pruned coordinates, more so the sparser the net.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from samgap.errors import SettingError, said
from samgap.models.count import Counts, prunable

Masks = dict[str, Tensor]  # parameter name -> bool of the same shape, True = live
BLIND = 0.01  # so many weights, as a share of those kept, may lie in layers of one score, see `refuse_blind`


def live_kernels(total: int, sparsity: float) -> int:
    """Kernel weights that live: round((1 - sparsity) total).

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
    """Deal `live` weights out to layers in proportion to `weights`, to the last one (Webster's method).

    A divisor method: a layer never gets fewer when `live` grows, so masks of one seed are nested in sparsity.

    Args:
        weights: what each layer's share is in proportion to.
        live: weights to deal out, at most the sum of `sizes`.
        sizes: of the layers; one that is full leaves the rest to the others.

    Returns:
        Live weights of each layer; their sum is `live`.
    """
    given = _near(weights, live, sizes)
    while missing := live - sum(given):
        step = 1 if missing > 0 else -1
        # To get one: the layer with the largest weight / (given + 1/2), of equals the first. To lose one: the layer
        # that would have been the last to get it.
        able = [layer for layer, have in enumerate(given) if 0 <= have + step <= sizes[layer]]
        given[max(able, key=lambda layer: (step * weights[layer] / (given[layer] + step / 2), -step * layer))] += step
    return given


def _near(weights: list[int], live: int, sizes: list[int]) -> list[int]:
    # Full layers first, then for the rest the nearest whole number to its share, exactly.
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
    """Masks of the largest scores of each layer, so many of each."""
    return {name: keep_largest(layer, count) for (name, layer), count in zip(scores.items(), live, strict=True)}


def globally(scores: Mapping[str, Tensor], live: int) -> Masks:
    """Masks of the `live` largest scores of all layers together.

    Raises:
        SettingError: a score is no number, or the scores leave whole layers to position, see `refuse_blind`.
    """
    masks = largest(scores, live)
    refuse_blind(scores, masks)
    return masks


def largest(scores: Mapping[str, Tensor], live: int) -> Masks:
    """As `globally`, whatever the ties; of equal scores the first layer's win."""
    sizes = [layer.numel() for layer in scores.values()]
    kept = keep_largest(torch.cat([layer.flatten() for layer in scores.values()]), live)
    parts = zip(scores.items(), torch.split(kept, sizes), strict=True)
    return {name: part.view_as(layer) for (name, layer), part in parts}


def refuse_blind(scores: Mapping[str, Tensor], masks: Masks) -> None:
    """Refuse masks that would follow the position of layers, as the pruner gives all weights of these one score.

    Ties inside a layer are no such case: inputs and kernel taps that see nothing but 0 have scores of 0, and as they do
    nothing, it does not matter which of them are kept.

    Args:
        scores: of every kernel weight, larger than those of the weights that went, or equal.
        masks: made of them.

    Raises:
        SettingError: some weights of the lowest score that is kept are kept and others are not, and layers that
            have no other score hold more than a share `BLIND` of the number kept.
    """
    kept = torch.cat([layer[masks[name]] for name, layer in scores.items()])
    if not len(kept):
        return
    lowest = kept.min()
    blind = [name for name, layer in scores.items() if (layer == lowest).all()]
    weights = sum(scores[name].numel() for name in blind)
    split = any((layer[~masks[name]] == lowest).any() for name, layer in scores.items())
    if split and weights > BLIND * len(kept):
        names = ", ".join(blind[:3]) + (f" and {len(blind) - 3} more layers" if len(blind) > 3 else "")
        raise SettingError(
            f"All {weights:,} weights of {names} have the same score ({lowest:g}), so that their position would decide "
            "which of them live: set pruner=random, or start the model otherwise (a factor that starts at 0 hides the "
            "layers before it from the pruner)."
        )


def keep_largest(scores: Tensor, live: int) -> Tensor:
    """A mask of the `live` largest scores; of equal scores the first in memory wins.

    Raises:
        SettingError: a score is no number.
    """
    if not torch.isfinite(scores).all():
        raise SettingError(f"A pruner gave {int((~torch.isfinite(scores)).sum())} scores that are no numbers.")
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


def sparsity_by_layer(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of each kernel that is pruned."""
    return {name: 1 - int(mask.sum()) / mask.numel() for name, mask in masks.items()}


def load(masks: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Make `masks`, which hooks hold, what they were when `kept` was made of them."""
    for name, mask in masks.items():
        mask.copy_(kept[name])


class _Masked:
    """Gradient hook that follows the gradient to its device once."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        self.mask = self.mask.to(gradient.device)
        return gradient * self.mask

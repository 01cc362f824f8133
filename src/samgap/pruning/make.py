"""`hydra.utils.instantiate(config.pruner)`: makes the masks that a file of conf/pruner/ describes."""

import warnings
from typing import Any

from torch import nn

from samgap.errors import SettingError
from samgap.models.count import count
from samgap.pruning.examples import Examples
from samgap.pruning.mask import Masks, sparsity_of
from samgap.targets import call, locate


def masks(
    net: nn.Module,
    examples: Examples,
    *,
    code: str,
    name: str,
    sparsity: float,
    live_params: int | None = None,
    refuse_empty: bool = False,
    **own: Any,
) -> Masks:
    """Return masks of an initialized net by parameter name, empty if it stays dense; `mask.apply` prunes the net.

    conf/pruner/base.yaml explains the keys; `own` has those of the pruner.
    """
    if live_params is not None:
        sparsity = sparsity_of(live_params, count(net))
    if not sparsity:
        return {}
    masks: Masks = call("pruner", locate(code, "pruner.code"), net, examples, sparsity=sparsity, **own)
    if empty := [layer for layer, mask in masks.items() if not mask.any()]:
        sentence = f"The mask leaves no weight in {', '.join(empty)}, so nothing of the image passes there"
        if refuse_empty:
            cure = "lower pruner.sparsity, take another pruner, or set pruner.refuse_empty=false"
            raise SettingError(f"{sentence}: {cure}.")
        warnings.warn(f"{sentence} (pruner.refuse_empty=true makes this an error).", stacklevel=2)
    return masks

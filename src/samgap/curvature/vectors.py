"""The trained and live coordinates of a net as one flat vector.

Pruned coordinates are left out: pruned weights stay 0, so derivatives along them do not matter. P is the number of live
coordinates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samgap.errors import SettingError

Array = NDArray[np.float64]


class Symmetric(Protocol):
    """A symmetric matrix defined by its products; SciPy accepts it as a linear operator."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def matvec(self, vector: Array) -> Array:
        """Return the product with a float64 vector, (P,)."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The trained and live coordinates of each parameter, in the net's order."""

    shapes: dict[str, torch.Size]  # shape of each trained parameter
    live: dict[str, Tensor]  # of each masked parameter, the positions of live weights in the flat parameter, int64

    @classmethod
    def of(cls, net: nn.Module, masks: Mapping[str, Tensor] | None = None) -> "Coordinates":
        """Return the coordinates of `net` that require a gradient and are live in `masks`.

        Args:
            net: its pruned weights must be 0.
            masks: parameter name to bool of its shape, True = live; parameters without a mask are dense.

        Raises:
            SettingError: a mask does not belong to this net, or no coordinate is left.
        """
        weights = dict(net.named_parameters())
        trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
        live = {}
        for name, mask in (masks or {}).items():
            if name not in weights or weights[name].shape != mask.shape or mask.dtype != torch.bool:
                raise SettingError(f"The mask of {name!r} must be a bool tensor of the shape of a weight of this net.")
            mask = mask.to(weights[name].device)
            if weights[name].detach()[~mask].count_nonzero():
                raise SettingError(f"The mask of {name!r} prunes weights that are not 0: it is another net's.")
            if name in trained:
                live[name] = mask.flatten().nonzero().squeeze(1)
        coordinates = cls({name: weight.shape for name, weight in trained.items()}, live)
        if coordinates.size == 0:
            raise SettingError("The net has no trained weight that lives: nothing has a curvature.")
        return coordinates

    @property
    def sizes(self) -> list[int]:
        """The number of live coordinates of each parameter."""
        return [len(self.live[name]) if name in self.live else shape.numel() for name, shape in self.shapes.items()]

    @property
    def size(self) -> int:
        """P."""
        return sum(self.sizes)

    def weights(self, net: nn.Module) -> dict[str, Tensor]:
        """Return the current parameters, detached; they share memory with the net."""
        weights = dict(net.named_parameters())
        return {name: weights[name].detach() for name in self.shapes}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return parameters of shape (..., *shape) as vectors (..., P), without pruned coordinates."""
        flat = []
        for name, shape in self.shapes.items():
            part = parts[name]
            part = part.reshape(*part.shape[: part.ndim - len(shape)], -1)
            flat.append(part[..., self.live[name]] if name in self.live else part)
        return torch.cat(flat, dim=-1)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Return vectors (..., P) as parameters of shape (..., *shape), 0 where pruned."""
        parts = {}
        for (name, shape), part in zip(self.shapes.items(), torch.split(vectors, self.sizes, dim=-1), strict=True):
            if name in self.live:
                whole = part.new_zeros(*part.shape[:-1], shape.numel())
                whole[..., self.live[name]] = part
                part = whole
            parts[name] = part.reshape(*part.shape[:-1], *shape)
        return parts

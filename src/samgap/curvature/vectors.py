"""The trained and live coordinates of a net as one flat vector.

Pruned coordinates are left out: a pruned weight stays 0, so its second derivatives do not matter to the sparse net. P
is the number of live coordinates.
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
        """The product with a float64 vector."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The trained and live coordinates of each parameter, in the net's order."""

    shapes: dict[str, torch.Size]  # of trained parameters
    live: dict[str, Tensor]  # of masked parameters: positions of live weights in the flat parameter, int64

    @classmethod
    def of(cls, net: nn.Module, masks: Mapping[str, Tensor] | None = None) -> "Coordinates":
        """The coordinates of `net` that require a gradient and are live in `masks`.

        Args:
            net: its pruned weights must be 0.
            masks: parameter name to bool of its shape, True = live; parameters without a mask are dense.

        Raises:
            SettingError: a mask does not belong to this net, or no coordinate is left.
        """
        trained = {name: weight for name, weight in net.named_parameters() if weight.requires_grad}
        live = {}
        for name, mask in (masks or {}).items():
            if name not in trained or trained[name].shape != mask.shape or mask.dtype != torch.bool:
                raise SettingError(
                    f"The mask of {name!r} must be a bool tensor of the shape of a trained parameter of this net."
                )
            mask = mask.to(trained[name].device)
            if trained[name].detach()[~mask].count_nonzero():
                raise SettingError(f"The mask of {name!r} prunes weights that are not 0: it is another net's.")
            live[name] = mask.flatten().nonzero().squeeze(1)
        coordinates = cls({name: weight.shape for name, weight in trained.items()}, live)
        if coordinates.size == 0:
            raise SettingError("The net has no trained weight that lives: nothing has a curvature.")
        return coordinates

    @property
    def sizes(self) -> list[int]:
        """Live coordinates of each parameter."""
        return [len(self.live[name]) if name in self.live else shape.numel() for name, shape in self.shapes.items()]

    @property
    def size(self) -> int:
        """P."""
        return sum(self.sizes)

    def weights(self, net: nn.Module) -> dict[str, Tensor]:
        """The current parameters, detached; they share memory with the net."""
        weights = dict(net.named_parameters())
        return {name: weights[name].detach() for name in self.shapes}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Parameters of shape (..., *shape) as vectors (..., P), without pruned coordinates."""
        flat = []
        for name, shape in self.shapes.items():
            part = parts[name]
            part = part.reshape(*part.shape[: part.ndim - len(shape)], -1)
            flat.append(part[..., self.live[name]] if name in self.live else part)
        return torch.cat(flat, dim=-1)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """Vectors (..., P) as parameters of shape (..., *shape), 0 where pruned."""
        parts = {}
        for (name, shape), part in zip(self.shapes.items(), torch.split(vectors, self.sizes, dim=-1), strict=True):
            if name in self.live:
                whole = part.new_zeros(*part.shape[:-1], shape.numel())
                whole[..., self.live[name]] = part
                part = whole
            parts[name] = part.reshape(*part.shape[:-1], *shape)
        return parts

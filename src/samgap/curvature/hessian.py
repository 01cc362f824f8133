"""Matrix-free products with the Hessian of the mean loss over all examples. Pearlmutter 1994.

H v is the gradient of <g(w), v> with respect to w. There are N examples, B in a block, and P live coordinates.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from samgap.curvature.examples import Examples, Loss, frozen
from samgap.curvature.vectors import Array, Coordinates

BLOCK = 500  # examples per forward pass; bounds memory and changes results only by rounding

Parts = dict[str, Tensor]  # parameter name -> tensor of its shape


class Hessian:
    """The symmetric (P, P) matrix of second derivatives in the live coordinates, as a linear operator.

    The net is in evaluation mode during a product, and restored afterwards. Products are computed in the net's
    precision and summed over blocks in float64: convert the net to float64 for more than about six digits.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        examples: Examples,
        masks: Mapping[str, Tensor] | None = None,
        block: int = BLOCK,
    ) -> None:
        """
        Args:
            net: its weights are read at each product, so do not train it in between.
            loss: mean over a batch.
            examples: the N examples of the mean loss.
            masks: masks of a sparse net, see `Coordinates.of`.
            block: B.

        Raises:
            SettingError: the masks do not belong to this net.
        """
        self.net, self.loss, self.examples, self.block = net, loss, examples, block
        self.coordinates = Coordinates.of(net, masks)
        self.shape = (self.coordinates.size, self.coordinates.size)
        self.dtype: np.dtype[Any] = np.dtype(np.float64)
        self.gradients = 0  # number of gradients over all examples that were computed and differentiated

    def matvec(self, vector: Array) -> Array:
        """Return H v, (P,), for v of shape (P,)."""
        weights = self.coordinates.weights(self.net)
        like = next(iter(weights.values()))
        along = self.coordinates.split(torch.tensor(vector).to(like))
        total = torch.zeros(self.shape[0], dtype=torch.float64, device=like.device)
        with frozen(self.net):
            for inputs, labels in self.examples.blocks(self.block, like):
                part = second_derivative(self._loss_of(inputs, labels), weights, along)
                total += self.coordinates.join(part).double() * len(labels)
        self.gradients += 1
        return np.asarray((total / len(self.examples)).cpu().numpy())

    def _loss_of(self, inputs: Tensor, labels: Tensor) -> Callable[[Parts], Tensor]:
        return lambda weights: self.loss(functional_call(self.net, weights, (inputs,)), labels)


def second_derivative(function: Callable[[Parts], Tensor], weights: Parts, along: Parts) -> Parts:
    """Return the Hessian of `function` at `weights`, times `along`.

    This is reverse over reverse mode, which works for every layer that has a backward pass.
    """

    def slope(weights: Parts) -> Tensor:
        gradient = grad(function)(weights)
        return torch.stack([(gradient[name] * along[name]).sum() for name in weights]).sum()

    return grad(slope)(weights)

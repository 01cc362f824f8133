"""How much the Hessians of single examples differ: the non-uniformities s_2, s_3, s_4 of arXiv 2311.17539.

Let H_i be the Hessian of the loss of example i, H = mean H_i, and M_k = mean H_i^k. Then s_k is the k-th root of the
absolute value of the largest eigenvalue of M_k - H^k, with the sign of that eigenvalue. s_2 is never negative; s_3 and
s_4 can be if some H_i is indefinite. There are n examples, B in a chunk, and P live coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from samgap.curvature import eigen, outer
from samgap.curvature.eigen import Eigen
from samgap.curvature.examples import frozen
from samgap.curvature.hessian import Hessian, Parts, second_derivative
from samgap.curvature.vectors import Array
from samgap.errors import SettingError, said

ORDERS = (2, 3, 4)
COMPARED, AGREES = 4, 1e-3  # examples on which both ways are compared, and their largest relative difference
CHUNK = 16  # examples at a time, each with its own vectors; bounds memory and changes results only by rounding


@dataclass(frozen=True)
class Moment:
    """One s_k and the eigenvalue of which it is the root."""

    order: int  # k
    n: int  # number of examples
    s: float
    eigen: Eigen  # of M_k - H^k
    gradients: int  # number of gradients over all n examples that were computed


class Excess:
    """M_k - H^k as a linear operator.

    It is a small difference of large terms. In float32, if the |H_i| are about h, an s_k below h 1e-7^(1/k) is rounding
    error; for k = 4 that is h / 56. Convert the net to float64 for smaller ones.
    """

    def __init__(self, hessian: Hessian, order: int, chunk: int = CHUNK) -> None:
        """
        Args:
            hessian: H; it also defines the H_i.
            order: k.
            chunk: B.

        Raises:
            SettingError: k is not 2, 3 or 4.
        """
        if order not in ORDERS:
            raise SettingError(f"A non-uniformity has order 2, 3 or 4, got {said(order)}.")
        self.hessian, self.order, self.chunk = hessian, order, chunk
        self.shape = hessian.shape
        self.dtype: np.dtype[Any] = hessian.dtype
        self._own = 0
        self._shortcut: bool | None = None  # whether `outer.powers` is right for this net

    @property
    def gradients(self) -> int:
        """The number of gradients over all n examples that were computed."""
        return self._own + self.hessian.gradients

    def matvec(self, vector: Array) -> Array:
        """Return (M_k - H^k) v, (P,), for v of shape (P,)."""
        power = vector
        for _ in range(self.order):
            power = self.hessian.matvec(power)
        return np.asarray(self.moment(vector) - power)

    def moment(self, vector: Array) -> Array:
        """Return M_k v, (P,), for v of shape (P,)."""
        hessian, coordinates = self.hessian, self.hessian.coordinates
        like = next(iter(coordinates.weights(hessian.net).values()))
        along = coordinates.split(torch.tensor(vector).to(like))
        total = torch.zeros(self.shape[0], dtype=torch.float64, device=like.device)
        with frozen(hessian.net):
            if self._shortcut is None:
                self._shortcut = not coordinates.live and outer.applies(hessian.net) and self._agree(along, like)
            for inputs, labels in hessian.examples.blocks(hessian.block if self._shortcut else self.chunk, like):
                compute = self._by_layers if self._shortcut else self._by_copies
                total += coordinates.join(compute(inputs, labels, along)).double()
        self._own += self.order
        return np.asarray((total / len(hessian.examples)).cpu().numpy())

    def _agree(self, along: Parts, like: Tensor) -> bool:
        """Return whether both ways to compute powers give the same on a few examples."""
        inputs, labels = next(iter(self.hessian.examples.blocks(COMPARED, like)))
        try:
            by_layers = self.hessian.coordinates.join(self._by_layers(inputs, labels, along))
        except (RuntimeError, IndexError, TypeError):  # what torch raises depends on how the net uses its layers
            return False
        by_copies = self.hessian.coordinates.join(self._by_copies(inputs, labels, along))
        return bool((by_layers - by_copies).norm() <= AGREES * by_copies.norm())

    def _by_layers(self, inputs: Tensor, labels: Tensor, along: Parts) -> Parts:
        """Return the same as `_by_copies`, faster, for some nets of linear layers."""
        return outer.powers(self.hessian.net, self.hessian.loss, inputs, labels, along, self.order)

    def _by_copies(self, inputs: Tensor, labels: Tensor, along: Parts) -> Parts:
        """Return the sum of H_i^k v over B examples, each with its own copy of the weights and its own vector."""
        hessian, coordinates = self.hessian, self.hessian.coordinates

        def repeated(parts: Parts) -> Parts:
            return {name: part.expand(len(labels), *part.shape) for name, part in parts.items()}

        copies, vectors = repeated(coordinates.weights(hessian.net)), repeated(along)
        losses = _sum_of_losses(hessian, inputs, labels)
        for _ in range(self.order):
            # Joining and splitting keeps pruned coordinates at 0.
            vectors = coordinates.split(coordinates.join(second_derivative(losses, copies, vectors)))
        return {name: vector.sum(0) for name, vector in vectors.items()}


def moment(
    hessian: Hessian, order: int, *, tol: float = eigen.TOL, seed: int = 0, maxiter: int = eigen.MAXITER
) -> Moment:
    """Compute s_k of a net on the examples of its Hessian.

    Args:
        hessian: H; H_i is the Hessian of the loss of a batch with example i only.
        order: k.
        tol, seed, maxiter: see `eigen.largest`.

    Raises:
        SettingError: k is not 2, 3 or 4, or the masks do not belong to this net.
    """
    excess = Excess(hessian, order)
    largest = eigen.largest(excess, tol=tol, seed=seed, maxiter=maxiter)
    return Moment(order, len(hessian.examples), signed_root(largest.values[0], order), largest, excess.gradients)


def signed_root(value: float, order: int) -> float:
    """Return the root of |value| of this order, with the sign of value."""
    return float(np.sign(value) * abs(value) ** (1 / order))


def _sum_of_losses(hessian: Hessian, inputs: Tensor, labels: Tensor) -> Callable[[Parts], Tensor]:
    # Each example has its own copy of the weights, so one gradient contains those of all examples. The loss is outside
    # vmap, which does not support one-hot encoding. It is a mean, so it is multiplied by B.
    def logits(weights: Parts, example: Tensor) -> Tensor:
        outputs: Tensor = functional_call(hessian.net, weights, (example.unsqueeze(0),))
        return outputs.squeeze(0)

    return lambda copies: hessian.loss(vmap(logits)(copies, inputs), labels) * len(labels)

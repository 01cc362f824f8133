"""Curvature of the squared loss near interpolation, exactly, from the Gram matrix of output gradients.

Of a loss whose second derivative in every output is c, as 2 of `losses.squared`, example i has the Gauss-Newton matrix
G_i = c J_i' J_i, which is its Hessian where its outputs equal its targets. Let J stack the J_i, K = J J' and K_i its
diagonal blocks. Then with G = mean G_i

    mean G_i^k - G^k = J' B J,   B = (c^k / n) diag(K_1^(k-1), .., K_n^(k-1)) - (c / n)^k K^(k-1),

and with K = W W' the eigenvalues of J' B J other than 0 are those of W' B W, which has no P in it.
n examples, C outputs, m = n C, P live coordinates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from samgap.curvature.examples import held
from samgap.curvature.layers import by_layers, of_linear_layers
from samgap.curvature.moments import CHUNK, ORDERS, signed_root
from samgap.curvature.vectors import Array, Coordinates
from samgap.errors import SettingError


@dataclass(frozen=True, eq=False)
class Gram:
    """Inner products of the output gradients."""

    matrix: Array  # K, (m, m), the outputs of one example beside one another
    n: int


@dataclass(frozen=True)
class GaussNewton:
    """Curvature as if every example were fitted."""

    n: int
    top: float  # the largest eigenvalue of G
    s: dict[int, float]  # k to s_k, the k-th root of the largest eigenvalue of mean G_i^k - G^k


def gram(net: nn.Module, inputs: Tensor, masks: Mapping[str, Tensor] | None = None, chunk: int = CHUNK) -> Gram:
    """K of `net`, by the shortest way to it.

    Args:
        net: gives outputs (B, C).
        inputs: (n, ...).
        masks: of a sparse net, see `Coordinates.of`.
        chunk: examples at a time; bounds memory, moves no number beyond rounding.

    Raises:
        SettingError: there is no input, the chunk is below 1 or the masks are not of this net.
    """
    if len(inputs) < 1 or chunk < 1:
        raise SettingError(f"A Gram matrix wants an input and a chunk of at least 1, got {len(inputs)} and {chunk}.")
    if not masks and of_linear_layers(net):
        return Gram(by_layers(net, inputs, chunk), len(inputs))
    return Gram(by_jacobians(net, inputs, masks, chunk), len(inputs))


def by_jacobians(
    net: nn.Module, inputs: Tensor, masks: Mapping[str, Tensor] | None = None, chunk: int = CHUNK
) -> Array:
    """K of any net, in float64: two chunks of J are held at a time, and made anew for each pair of chunks."""
    coordinates = Coordinates.of(net, masks)
    weights = coordinates.weights(net)
    like = next(iter(weights.values()))

    def outputs(weights: dict[str, Tensor], one: Tensor) -> Tensor:
        found: Tensor = functional_call(net, weights, (one.unsqueeze(0),))
        return found.squeeze(0)

    def rows(part: Tensor) -> Tensor:
        each = vmap(jacrev(outputs), in_dims=(None, 0))(weights, part.to(like))
        return coordinates.join(each).flatten(0, 1).double()  # (B C, P)

    parts = torch.split(inputs, chunk)
    blocks: list[list[Array]] = [[np.empty(0)] * len(parts) for _ in parts]
    with held(net):
        for a, first in enumerate(parts):
            one = rows(first)
            for b in range(a, len(parts)):
                other = one if a == b else rows(parts[b])
                blocks[a][b] = (one @ other.T).cpu().numpy()
                blocks[b][a] = blocks[a][b].T
    return np.block(blocks)


def measure(gram: Gram, curvature: float = 2.0) -> GaussNewton:
    """Largest eigenvalue and non-uniformities of the Gauss-Newton matrices; dense, of order m^3.

    Args:
        gram: K.
        curvature: c, see `losses.output_curvature`.

    Raises:
        SettingError: K has a number that is not finite.
    """
    if not np.isfinite(gram.matrix).all():
        raise SettingError("The Gram matrix has numbers that are not finite: the net's weights or outputs are not.")
    values, vectors = scipy.linalg.eigh(gram.matrix)
    values = np.maximum(values, 0)  # of rounding
    s = {order: curvature * signed_root(_excess(gram, values, vectors, order), order) for order in ORDERS}
    return GaussNewton(gram.n, float(curvature / gram.n * values[-1]), s)


def _excess(gram: Gram, values: Array, vectors: Array, order: int) -> float:
    # Of c = 1. W has the columns sqrt(value) vector, so W' K^(k-1) W is the diagonal matrix of value^k.
    n, outputs = gram.n, len(gram.matrix) // gram.n
    own = gram.matrix.reshape(n, outputs, n, outputs)[np.arange(n), :, np.arange(n)]  # the K_i, (n, C, C)
    root = vectors * np.sqrt(values)  # W, (m, m)
    powered = np.linalg.matrix_power(own, order - 1) @ root.reshape(n, outputs, -1)
    matrix = root.T @ powered.reshape(root.shape) / n - np.diag((values / n) ** order)
    last = len(values) - 1
    top = scipy.linalg.eigh(matrix, eigvals_only=True, subset_by_index=[last, last])[0]
    # Not below 0: the trace of a convex function is convex, so the trace of mean G_i^k is at least that of G^k. Nor do
    # zeros matter that W' B W has too many, where K is singular, or too few, for directions that move no output.
    return max(float(top), 0.0)

"""The loss on a plane through the weights of a net: L(w + x d1 + y d2). Li et al. 2018, section 4.

Raw and filter-normalized directions are Gaussian and depend only on the seed and on the name and shape of a parameter.
So all nets of one architecture, dense or sparse, have the same directions, up to mask and normalization. The two
directions are not made orthogonal, but are nearly so, since their dimension is high. Eigenvector directions differ
between nets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from samgap import seeds
from samgap.curvature import eigen
from samgap.curvature.examples import Examples, Loss, frozen
from samgap.curvature.hessian import BLOCK, Hessian, Parts
from samgap.curvature.vectors import Array, Coordinates
from samgap.errors import SettingError, said

KINDS = ("eigen", "raw", "filter")  # of directions
TOL = 1e-3  # relative, of the eigenvalues for eigenvector directions


@dataclass(frozen=True, eq=False)
class Surface:
    """Losses on a grid; they may be infinite or NaN."""

    xs: Array  # (X,)
    ys: Array  # (Y,)
    losses: Array  # (X, Y), at xs[i] and ys[j]
    norms: tuple[float, float]  # of d1 and d2, which convert x and y to distances


def surface(
    net: nn.Module,
    loss: Loss,
    examples: Examples,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    along: tuple[Parts, Parts],
    masks: Mapping[str, Tensor] | None = None,
    block: int = BLOCK,
) -> Surface:
    """The mean loss over all examples on a grid around `net`, which is not changed.

    Args:
        net: evaluated in evaluation mode.
        loss: mean over a batch.
        examples: the loss is the mean over these.
        xs, ys: steps along d1 and d2; the net is at (0, 0).
        along: d1 and d2, see `directions`.
        masks: of a sparse net, see `Coordinates.of`.
        block: examples at a time.

    Raises:
        SettingError: the grid is empty, or the masks do not belong to this net.
    """
    if len(xs) == 0 or len(ys) == 0:
        raise SettingError(f"A surface needs at least one x and one y, got {len(xs)} and {len(ys)}.")
    coordinates = Coordinates.of(net, masks)
    weights = coordinates.weights(net)
    first, second = along
    losses = np.empty((len(xs), len(ys)))
    with frozen(net), torch.no_grad():
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                # A copy, so that the weights need not be restored.
                moved = {name: weight + x * first[name] + y * second[name] for name, weight in weights.items()}
                losses[i, j] = _mean_loss(net, moved, loss, examples, block)
    norms = tuple(float(torch.linalg.vector_norm(coordinates.join(direction).double())) for direction in along)
    return Surface(np.array(xs, float), np.array(ys, float), losses, (norms[0], norms[1]))


def directions(
    net: nn.Module,
    loss: Loss,
    examples: Examples,
    kind: str,
    *,
    seed: int = 0,
    masks: Mapping[str, Tensor] | None = None,
    block: int = BLOCK,
) -> tuple[Parts, Parts]:
    """d1 and d2 by parameter name; 0 in pruned weights.

    Args:
        net: its weights set the lengths for "filter" and the Hessian for "eigen".
        loss, examples, block: of the Hessian, see `surface`; used for "eigen" alone.
        kind: "raw": a Gaussian direction, scaled to length 1, so that x is a distance, like rho. "filter": a Gaussian
            direction; each row of it (the inputs of one neuron or channel) has the length of that row of the
            weights; it is 0 in vectors (biases and batch norm). "eigen": the unit eigenvectors of the two largest
            eigenvalues of the Hessian, along which the loss rises fastest.
        seed: of both directions; for "eigen", of the starting vector.
        masks: of a sparse net, see `Coordinates.of`.

    Raises:
        SettingError: the kind is another, the masks do not belong to this net, or it has fewer than two weights.
    """
    if kind not in KINDS:
        raise SettingError(f"A surface's directions are one of {', '.join(KINDS)}, got {said(kind)}.")
    coordinates = Coordinates.of(net, masks)
    weights = coordinates.weights(net)
    if kind == "eigen":
        found = eigen.vectors(Hessian(net, loss, examples, masks, block), 2, tol=TOL, seed=seed)
        like = next(iter(weights.values()))
        steepest = [coordinates.split(torch.tensor(vector).to(like)) for vector in found.T]
        return steepest[0], steepest[1]
    first, second = (_draw(coordinates, weights, seed, axis) for axis in (0, 1))
    if kind == "filter":
        return _by_filter(first, weights), _by_filter(second, weights)
    return _unit(first, coordinates), _unit(second, coordinates)


def _draw(coordinates: Coordinates, weights: Mapping[str, Tensor], seed: int, axis: int) -> Parts:
    # Draw whole parameters on the CPU, then mask them, so that live numbers do not depend on sparsity or device.
    drawn = {}
    for name, weight in weights.items():
        draw = seeds.generator(seed, "landscape", axis, name)
        drawn[name] = torch.randn(weight.shape, generator=draw, dtype=torch.float64).to(weight)
    return coordinates.split(coordinates.join(drawn))


def _unit(direction: dict[str, Tensor], coordinates: Coordinates) -> dict[str, Tensor]:
    length = float(torch.linalg.vector_norm(coordinates.join(direction).double()))
    return {name: part / length for name, part in direction.items()}


def _by_filter(direction: dict[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scaled = {}
    for name, part in direction.items():
        if part.ndim < 2:
            scaled[name] = torch.zeros_like(part)
            continue
        length, target = (torch.linalg.vector_norm(rows.flatten(1), dim=1) for rows in (part, weights[name]))
        ratio = torch.where(length > 0, target / length, 0)  # a pruned row has length 0
        scaled[name] = part * ratio.view(-1, *[1] * (part.ndim - 1))
    return scaled


def _mean_loss(net: nn.Module, weights: dict[str, Tensor], loss: Loss, examples: Examples, block: int) -> float:
    total = 0.0
    for inputs, labels in examples.blocks(block, next(iter(weights.values()))):
        total += float(loss(functional_call(net, weights, (inputs,)), labels)) * len(labels)
    return total / len(examples)

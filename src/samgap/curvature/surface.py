"""The loss on a plane through the weights of a net: L(w + x d1 + y d2). Li et al. 2018, section 4.

Raw and filter-normalized directions are Gaussian and depend on the seed and the parameter's name and shape alone. So
all nets of one architecture, dense or sparse, are cut along the same ones, up to mask and normalization; the two are
not made orthogonal, which in so many dimensions they nearly are. The directions of largest curvature are each net's
own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from samgap import seeds
from samgap.curvature import eigen
from samgap.curvature.examples import Examples, Loss, held
from samgap.curvature.hessian import Hessian, Parts
from samgap.curvature.vectors import Array, Coordinates
from samgap.errors import SettingError, said

KINDS = ("eigen", "raw", "filter")  # of directions
TOL = 1e-3  # of the eigenvalues whose eigenvectors are directions, relative
BLOCK = 500  # examples at a time; bounds memory, moves no number beyond rounding


@dataclass(frozen=True, eq=False)
class Surface:
    """Losses on a grid; infinite or NaN ones are what the net gave."""

    xs: Array  # (X,)
    ys: Array  # (Y,)
    losses: Array  # (X, Y), at xs[i] and ys[j]
    norms: tuple[float, float]  # of d1 and d2, so that x and y can be read as distances


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
    """The mean loss over a whole data part on a grid around `net`, which is not touched.

    Args:
        net: in evaluation mode meanwhile.
        loss: mean over a batch.
        examples: the data part.
        xs, ys: steps along d1 and d2; at 0, 0 lies the net.
        along: d1 and d2, see `directions`.
        masks: of a sparse net, see `Coordinates.of`.
        block: examples at a time.

    Raises:
        SettingError: an empty grid, or the masks are not of this net.
    """
    if len(xs) == 0 or len(ys) == 0:
        raise SettingError(f"A surface wants at least one x and one y, got {len(xs)} and {len(ys)}.")
    coordinates = Coordinates.of(net, masks)
    weights = coordinates.weights(net)
    first, second = along
    losses = np.empty((len(xs), len(ys)))
    with held(net), torch.no_grad():
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                # Beside the weights, not in them: they need no putting back.
                moved = {name: weight + x * first[name] + y * second[name] for name, weight in weights.items()}
                losses[i, j] = _mean_loss(net, moved, loss, examples, block)
    norms = tuple(float(torch.linalg.vector_norm(coordinates.join(way).double())) for way in (first, second))
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
    """d1 and d2, parameter name to direction; 0 in dead weights.

    Args:
        net: whose weights a filter normalization measures.
        loss, examples, block: of the Hessian, see `surface`; Gaussian directions do not use them.
        kind: "raw" scales a Gaussian direction as a whole to length 1, so that x is a distance as rho is. "filter"
            scales each row of it, which is what enters one neuron or channel, to the length of that row of the
            weights; vectors, which are biases and batch norm, stay where they are. "eigen" are the eigenvectors of
            length 1 of the two largest eigenvalues of the loss's Hessian, where the loss rises fastest.
        seed: of the two, for "eigen" of the starting vector.
        masks: of a sparse net, see `Coordinates.of`; its dead weights have no direction.

    Raises:
        SettingError: another kind, the masks are not of this net, or it has fewer than two weights.
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
    # Whole parameters are drawn and then masked, on the CPU: sparsity and device move no live number.
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
        have, wanted = (torch.linalg.vector_norm(rows.flatten(1), dim=1) for rows in (part, weights[name]))
        ratio = torch.where(have > 0, wanted / have, 0)  # a row that is dead has no length
        scaled[name] = part * ratio.view(-1, *[1] * (part.ndim - 1))
    return scaled


def _mean_loss(net: nn.Module, weights: dict[str, Tensor], loss: Loss, examples: Examples, block: int) -> float:
    total = 0.0
    for inputs, labels in examples.blocks(block, next(iter(weights.values()))):
        total += float(loss(functional_call(net, weights, (inputs,)), labels)) * len(labels)
    return total / len(examples)

"""The loss on a plane through the weights of a net: L(w + x d1 + y d2). Li et al. 2018, section 4.

Raw and filter-normalized directions are Gaussian and depend only on the seed and on the names and shapes of parameters.
So all nets of one architecture, dense or sparse, have the same directions, up to mask and normalization. The two
directions are nearly orthogonal, since their dimension is high. Eigenvector directions differ between nets.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from samgap import seeds
from samgap.curvature import eigen
from samgap.curvature.examples import Subject, frozen
from samgap.curvature.hessian import BLOCK, Hessian, Parts
from samgap.curvature.rules import DIRECTIONS
from samgap.curvature.vectors import Array, Coordinates
from samgap.errors import SettingError, said

TOL = 1e-3  # relative tolerance of the eigenvalues for eigenvector directions


def surface(
    subject: Subject, xs: Sequence[float], ys: Sequence[float], along: tuple[Parts, Parts], *, block: int = BLOCK
) -> tuple[Array, tuple[float, float]]:
    """Compute the mean loss on a grid around a net, which is not changed.

    Args:
        subject: the net and its examples.
        xs, ys: steps along d1 and d2; the net is at (0, 0).
        along: d1 and d2, see `directions`.
        block: examples per forward pass.

    Returns:
        Losses (len(xs), len(ys)), which may be infinite or NaN; and the norms of d1 and d2, which convert x and y to
        distances.

    Raises:
        SettingError: the grid is empty, or the masks do not belong to this net.
    """
    if len(xs) == 0 or len(ys) == 0:
        raise SettingError(f"A surface needs at least one x and one y, got {len(xs)} and {len(ys)}.")
    net, examples = subject.net, subject.examples
    coordinates = Coordinates.of(net, subject.masks)
    weights = coordinates.weights(net)
    first, second = along
    losses = np.zeros((len(xs), len(ys)))
    with frozen(net), torch.no_grad():
        for i, x in enumerate(xs):
            for j, y in enumerate(ys):
                # A copy, so that the weights need not be restored.
                moved = {name: weight + x * first[name] + y * second[name] for name, weight in weights.items()}
                for inputs, labels in examples.blocks(block, next(iter(moved.values()))):
                    loss = subject.loss(functional_call(net, moved, (inputs,)), labels)
                    losses[i, j] += float(loss) * len(labels)
    losses /= len(examples)
    norms = tuple(float(torch.linalg.vector_norm(coordinates.join(direction).double())) for direction in along)
    return losses, (norms[0], norms[1])


def directions(subject: Subject, kind: str, *, seed: int = 0) -> tuple[Parts, Parts]:
    """Return d1 and d2 by parameter name; 0 in pruned weights.

    Args:
        subject: its weights set the lengths for "filter", and its Hessian the directions for "eigen".
        kind: "raw": Gaussian, scaled to length 1, so that x is a distance, like rho. "filter": Gaussian, with each row
            (the inputs of one neuron or channel) scaled to the length of that row of the weights, and 0 in vectors
            (biases and batch norm). "eigen": unit eigenvectors of the two largest eigenvalues of the Hessian, along
            which the loss rises fastest.
        seed: seed of both directions; for "eigen", of the starting vector.

    Raises:
        SettingError: the kind is unknown, the masks do not belong to this net, or it has fewer than two weights.
    """
    if kind not in DIRECTIONS:
        raise SettingError(f"A surface's directions are one of {', '.join(DIRECTIONS)}, got {said(kind)}.")
    coordinates = Coordinates.of(subject.net, subject.masks)
    weights = coordinates.weights(subject.net)
    if kind == "eigen":
        hessian = Hessian(subject.net, subject.loss, subject.examples, subject.masks)
        columns = eigen.vectors(hessian, 2, tol=TOL, seed=seed)
        like = next(iter(weights.values()))
        steepest = [coordinates.split(torch.tensor(vector).to(like)) for vector in columns.T]
        return steepest[0], steepest[1]
    first, second = (_draw(coordinates, weights, seed, axis) for axis in (0, 1))
    if kind == "filter":
        return _by_filter(first, weights), _by_filter(second, weights)
    return _unit(first, coordinates), _unit(second, coordinates)


def _draw(coordinates: Coordinates, weights: Mapping[str, Tensor], seed: int, axis: int) -> Parts:
    # Draw whole parameters on the CPU, then mask them, so that live entries do not depend on sparsity or device.
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

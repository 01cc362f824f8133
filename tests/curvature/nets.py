"""Nets and examples for tests of curvature, and their Hessians as explicit matrices."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional as F

from samgap.curvature.examples import Examples
from samgap.curvature.vectors import Array
from samgap.models.mlp import MLP

CLASSES = 3


def examples(count: int = 7) -> Examples:
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(count, 1, 4, 4, generator=draw, dtype=torch.float64)
    return Examples(images, torch.randint(0, CLASSES, (count,), generator=draw))


def mlp() -> nn.Module:
    """Return an MLP with 125 parameters, 6 and 2 neurons."""
    torch.manual_seed(1)
    return MLP((1, 4, 4), CLASSES, 0.02).double()


def smooth() -> nn.Module:
    """Return a smooth net with 40 parameters."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.Tanh(), nn.Linear(2, CLASSES, bias=False)).double()


def conv() -> nn.Module:
    """Return a convolutional net with 72 parameters and a batch norm whose statistics are not the initial ones."""
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    layers = [nn.Conv2d(1, 3, 3, bias=False), norm, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, CLASSES)]
    return nn.Sequential(*layers).double()


NETS = [mlp, smooth, conv]


def masked(net: nn.Module) -> dict[str, Tensor]:
    """Prune about half of each kernel of `net`, at random."""
    draw = torch.Generator().manual_seed(4)
    masks = {}
    for name, weight in net.named_parameters():
        if weight.ndim >= 2:
            masks[name] = torch.rand(weight.shape, generator=draw) < 0.5
            with torch.no_grad():
                weight.mul_(masks[name])
    return masks


def explicit(
    net: nn.Module, loss: Callable[..., Tensor], data: Examples, masks: dict[str, Tensor] | None = None
) -> Array:
    """Return the Hessian in evaluation mode as a matrix, without rows and columns of pruned weights."""
    weights = dict(net.named_parameters())
    sizes = [weight.numel() for weight in weights.values()]
    mode = net.training

    def of_vector(vector: Tensor) -> Tensor:
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        replaced = {name: part.view_as(weight) for (name, weight), part in parts}
        return loss(functional_call(net, replaced, (data.inputs,)), data.labels)

    net.eval()
    matrix = hessian(of_vector, torch.cat([weight.detach().flatten() for weight in weights.values()]))
    net.train(mode)
    live = [(masks or {}).get(name, torch.ones_like(weight) > 0).flatten() for name, weight in weights.items()]
    kept = torch.cat(live).numpy()
    return np.asarray(matrix.numpy()[np.ix_(kept, kept)])


def one_by_one(
    net: nn.Module, loss: Callable[..., Tensor], data: Examples, masks: dict[str, Tensor] | None = None
) -> Array:
    """Return the Hessians of single examples, (n, P, P)."""
    singles = [Examples(data.inputs[i : i + 1], data.labels[i : i + 1]) for i in range(len(data))]
    return np.stack([explicit(net, loss, single, masks) for single in singles])


class Scales(nn.Module):
    """One weight for each coordinate, without interaction: with `bowls` the Hessian of example i is diag(labels[i])."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.weight


def bowls(outputs: Tensor, labels: Tensor) -> Tensor:
    return (labels * outputs.square()).sum(1).mean() / 2


def diagonal(rows: list[list[float]]) -> tuple[nn.Module, Callable[..., Tensor], Examples]:
    """Return a net, a loss and examples whose Hessians are diagonal with these rows."""
    labels = torch.tensor(rows, dtype=torch.float64)
    return Scales(labels.shape[1]), bowls, Examples(torch.ones_like(labels), labels)


def matrix_of(operator: object) -> Array:
    """Return an operator as a matrix, from its products."""
    size = operator.shape[0]
    return np.stack([operator.matvec(row) for row in np.eye(size)], axis=1)


cross_entropy = F.cross_entropy

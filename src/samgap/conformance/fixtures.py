"""Small nets and batches for the checks, and the record of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from samgap.conformance.subject import Subject

RHO = 0.1


class Unexpected(Exception):
    """A check cannot continue; the message says what happened instead of the expected."""


class Spy(SGD):
    """SGD that records the weights and the learning rate of each step."""

    seen: list[tuple[list[Tensor], float]]

    def step(self, closure: Any = None) -> Any:
        """Record, then step as SGD."""
        weights = [w.detach().clone() for group in self.param_groups for w in group["params"]]
        type(self).seen.append((weights, self.param_groups[0]["lr"]))
        return super().step(closure)


@dataclass(frozen=True)
class Step:
    """The record of one step."""

    before: list[Tensor]  # weights
    passes: list[list[Tensor]]  # weights in each pass
    gradients: list[list[Tensor]]  # gradients after each pass, of the weights that have one
    losses: list[float]  # of each pass
    seen: list[list[Tensor]]  # weights at each step of the base
    after: list[Tensor]  # weights
    returned: Any  # return value of the optimizer

    @property
    def second(self) -> list[Tensor]:
        """Weights in the second pass."""
        if len(self.passes) != 2:
            raise Unexpected(f"{len(self.passes)} passes")
        return self.passes[1]

    @property
    def eps(self) -> list[Tensor]:
        """The perturbation: weights in the second pass minus the weights before."""
        return [perturbed - weight for perturbed, weight in zip(self.second, self.before, strict=True)]


def observe(subject: Subject, net: nn.Module, loss: Callable[[], Tensor], rho: float = RHO, **options: Any) -> Step:
    """Make an optimizer for `net` and record one step. `options` are the base's; the default learning rate is 0."""
    Spy.seen = []
    optimizer = subject.make(net, Spy, rho, **({"lr": 0.0} | options))
    weights = list(net.parameters())
    passes, gradients, losses = [], [], []

    def closure() -> Tensor:
        optimizer.zero_grad()
        passes.append(copies(weights))
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        gradients.append([w.grad.clone() for w in weights if w.grad is not None])
        losses.append(float(value.detach()))
        return value

    before = copies(weights)
    returned = subject.style.step(optimizer, closure)
    return Step(before, passes, gradients, losses, [w for w, _ in Spy.seen], copies(weights), returned)


def advance(subject: Subject | None, optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """Take one step on `loss`; without a subject, as a plain torch optimizer."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    if subject is None:
        optimizer.step(closure)
    else:
        subject.style.step(optimizer, closure)


def generator(seed: int) -> torch.Generator:
    """Return a generator on the default device."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def copies(weights: list[Any]) -> list[Tensor]:
    """Return detached copies."""
    return [w.detach().clone() for w in weights]


def norm(tensors: list[Tensor]) -> float:
    """Return the L2 norm over all tensors together, computed in float64."""
    return float(torch.cat([t.detach().double().flatten() for t in tensors]).norm())


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Return whether tensors are equal bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Quadratic(nn.Module):
    """L(w) = w' A w / 2 in float64; w consists of a parameter of two and one of three numbers."""

    def __init__(self, scale: float = 1.0, at_minimum: bool = False) -> None:
        super().__init__()
        draw = generator(0)
        root = torch.randn(5, 5, generator=draw, dtype=torch.float64)
        self.matrix = scale * (root @ root.T)
        w = torch.randn(5, generator=draw, dtype=torch.float64) * (not at_minimum)
        self.weight, self.bias = nn.Parameter(w[:2].clone()), nn.Parameter(w[2:].clone())

    def forward(self) -> Tensor:
        """Return L, a scalar."""
        w = torch.cat([self.weight, self.bias])
        return 0.5 * w @ self.matrix @ w


def module(**weights: Tensor) -> Any:
    """Return a module with these parameters and nothing else."""
    net = nn.Module()
    for name, weight in weights.items():
        net.register_parameter(name, nn.Parameter(weight))
    return net


def layers(*, noisy: bool) -> Any:
    """Return a small classifier; if noisy, with batch norm and dropout, which a second pass may disturb."""
    torch.manual_seed(0)
    extra = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)] if noisy else [nn.ReLU()]
    return nn.Sequential(nn.Linear(6, 16), *extra, nn.Linear(16, 3))


def batch(number: int, size: int = 12) -> tuple[Tensor, Tensor]:
    """Return inputs (size, 6) and labels (size,)."""
    draw = generator(number)
    return torch.randn(size, 6, generator=draw), torch.randint(0, 3, (size,), generator=draw)


def train(subject: Subject | None, net: nn.Module, optimizer: Any, steps: int, first: int = 0) -> None:
    """Train on batches `first` to `first + steps - 1`; see `advance`."""
    for step in range(first, first + steps):
        x, y = batch(step)
        advance(subject, optimizer, lambda x=x, y=y: F.cross_entropy(net(x), y))  # type: ignore[misc]

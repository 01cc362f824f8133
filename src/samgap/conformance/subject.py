"""The class under test: how it is made, how it is stepped, and what its ascent should be."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Dicts = list[dict[str, Any]]
Closure = Callable[[], Tensor]  # clears the gradients, computes loss and gradients at the present weights


class Adapter(ABC):
    """How the optimizers of one style are used. For another style write one and name it: --adapter module:Class."""

    between = True  # whether the class itself runs the second pass, and so could clean up after an error

    @abstractmethod
    def make(
        self,
        kind: type,
        net: nn.Module,
        base: type[Optimizer],
        groups: list[dict[str, Any]],
        rho: float,
        **options: Any,
    ) -> Any:
        """An optimizer of `kind`.

        Args:
            kind: the class under test.
            net: what is trained; `groups` has its parameters.
            base: class of the base optimizer.
            groups: parameter groups.
            rho: radius of the ascent.
            options: `own`, arguments of `kind`; all others are the base's.
        """

    @abstractmethod
    def step(self, optimizer: Any, closure: Closure) -> Any:
        """One whole step; returns what the optimizer does."""


class Wrapper(Adapter):
    """`SAM(base_optimizer, rho=..., module=net)`, `step(closure)` calls the closure for both passes."""

    def make(
        self,
        kind: type,
        net: nn.Module,
        base: type[Optimizer],
        groups: list[dict[str, Any]],
        rho: float,
        **options: Any,
    ) -> Any:
        """See `Adapter`; the net is handed over where the constructor has an argument for it."""
        own = dict(options.pop("own", {}))
        names = inspect.signature(kind).parameters
        own |= {name: net for name in ("module", "model", "net") if name in names}
        return kind(base(groups, **options), rho=rho, **own)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        return optimizer.step(closure)


class Closured(Adapter):
    """`SAM(params, Base, rho=..., **base_options)`, `step(closure)` after a first backward outside of it."""

    def make(
        self,
        kind: type,
        net: nn.Module,
        base: type[Optimizer],
        groups: list[dict[str, Any]],
        rho: float,
        **options: Any,
    ) -> Any:
        """See `Adapter`."""
        own = dict(options.pop("own", {}))
        return kind(groups, base, rho=rho, **own, **options)

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        return optimizer.step(closure)


class TwoStep(Closured):
    """As `Closured`, with `first_step()` and `second_step()` after a backward each."""

    between = False

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)


ADAPTERS: dict[str, type[Adapter]] = {"wrapper": Wrapper, "closure": Closured, "two-step": TwoStep}


def _normalized(gradients: list[Tensor], rho: float) -> list[Tensor]:
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [rho * g / norm for g in gradients]


def _unnormalized(gradients: list[Tensor], rho: float) -> list[Tensor]:
    return [rho * g for g in gradients]


# What eps should be, for gradients at w and rho; "other" leaves out what depends on it.
ASCENTS: dict[str, Callable[[list[Tensor], float], list[Tensor]] | None] = {
    "sam": _normalized,
    "unnormalized": _unnormalized,
    "other": None,
}


@dataclass(frozen=True)
class Subject:
    """A class with its adapter. Made of plain values, so that other processes can make it again."""

    target: str  # "package.module:Class"
    adapter: str  # a key of ADAPTERS, or "package.module:Class"
    ascent: str = "sam"
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> type:
        """The class under test."""
        return load(self.target)

    @property
    def style(self) -> Adapter:
        """Its adapter."""
        style: Adapter = (ADAPTERS.get(self.adapter) or load(self.adapter))()
        return style

    def make(
        self,
        net: nn.Module,
        base: type[Optimizer],
        rho: float,
        groups: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        """An optimizer over `groups`, or all parameters of the net; `options` are the base's."""
        every = [{"params": list(net.parameters())}]
        return self.style.make(self.kind, net, base, groups or every, rho, own=self.own, **options)


def load(path: str) -> type:
    """The class at "package.module:Class".

    Raises:
        ValueError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"wanted package.module:Class, and {path!r} cannot be imported ({error}).") from error
    if not isinstance(found, type):
        raise ValueError(f"wanted package.module:Class, and {path!r} is no class.")
    return found


def detect(kind: type) -> str:
    """The adapter that fits by the look of the class: two calls, a built base, or parameters and a base class."""
    if hasattr(kind, "first_step") and hasattr(kind, "second_step"):
        return "two-step"
    first = next(iter(inspect.signature(kind).parameters), "")
    return "closure" if first.startswith("param") else "wrapper"

"""Adapters: how to construct and step an optimizer of one style."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

Dicts = list[dict[str, Any]]
Own = Mapping[str, Any]
Closure = Callable[[], Tensor]  # clears the gradients, computes loss and gradients at the current weights


class Adapter(ABC):
    """How to use optimizers of one style. For another style, write an adapter and pass --adapter module:Class."""

    between = True  # whether the class runs the second pass itself, and so can clean up after an error

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """An optimizer of `kind`: `SAM(base_optimizer, rho=..., module=net)`, the net only if there is a place for it.

        Args:
            kind: the class under test.
            net: the net to train; `groups` has its parameters.
            base: class of the base optimizer; `options` are its arguments.
            groups: parameter groups.
            rho: radius of the ascent.
            own: further arguments of `kind`.
        """
        names = inspect.signature(kind).parameters
        nets = {name: net for name in ("module", "model", "net") if name in names}
        return kind(base(groups, **options), rho=rho, **nets, **own)

    @abstractmethod
    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Take one whole step; return what the optimizer returns."""


class WrapperClosure(Adapter):
    """A base optimizer, and `step(closure)` calls the closure for both passes."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        return optimizer.step(closure)


class WrapperTwoStep(Adapter):
    """A base optimizer, and `first_step()` and `second_step()`, each after a backward pass."""

    between = False

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)


class ParamsClosure(WrapperClosure):
    """`SAM(params, Base, rho=..., **base_options)`, and a closure for both passes."""

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """See `Adapter`."""
        return kind(groups, base, rho=rho, **own, **options)


class ParamsBackwardClosure(ParamsClosure):
    """The same, and a backward pass, then a closure for the second pass."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        return optimizer.step(closure)


class ParamsTwoStep(WrapperTwoStep):
    """The same, and two calls."""

    make = ParamsClosure.make


ADAPTERS: dict[str, type[Adapter]] = {
    "wrapper": WrapperClosure,
    "wrapper-two-step": WrapperTwoStep,
    "closure": ParamsClosure,
    "backward-closure": ParamsBackwardClosure,
    "two-step": ParamsTwoStep,
}


def load(path: str) -> type:
    """The class at "package.module:Class".

    Raises:
        ValueError: there is no such class, or its import fails.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # the module is arbitrary code
        raise ValueError(
            f"expected package.module:Class of a module that Python finds, and {path!r} cannot be imported "
            f"({line(error)})."
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"expected package.module:Class, and {path!r} is no class.")
    return found


def adapter(name: str) -> Adapter:
    """The adapter with this name, or at this path.

    Raises:
        ValueError: there is no such adapter, or it cannot be constructed without arguments.
    """
    kind = ADAPTERS.get(name)
    if kind is None and ":" not in name:
        raise ValueError(f"expected an adapter ({', '.join(ADAPTERS)}, or package.module:Class), got {name!r}.")
    found = kind or load(name)
    if not issubclass(found, Adapter):
        raise ValueError(f"expected an adapter, and {name!r} is no samgap.conformance.adapters.Adapter.")
    try:
        return found()
    except Exception as error:
        raise ValueError(f"expected an adapter, and {name!r} cannot be made ({line(error)}).") from error


def line(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())

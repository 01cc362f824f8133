"""The class under test: how to construct it, how to step it, and its correct ascent."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

Dicts = list[dict[str, Any]]
Own = Mapping[str, Any]
Closure = Callable[[], Tensor]  # clears the gradients, computes loss and gradients at the current weights


class Adapter(ABC):
    """How to use optimizers of one style. For another style, write an adapter and pass --adapter module:Class."""

    between = True  # whether the class runs the second pass itself, and so can clean up after an error

    @abstractmethod
    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """An optimizer of `kind`.

        Args:
            kind: the class under test.
            net: the net to train; `groups` has its parameters.
            base: class of the base optimizer; `options` are its arguments.
            groups: parameter groups.
            rho: radius of the ascent.
            own: further arguments of `kind`.
        """

    @abstractmethod
    def step(self, optimizer: Any, closure: Closure) -> Any:
        """Take one whole step; return what the optimizer returns."""


class _Built(Adapter):
    """`SAM(base_optimizer, rho=..., module=net)`, with the net only if the constructor has an argument for it."""

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """See `Adapter`."""
        names = inspect.signature(kind).parameters
        nets = {name: net for name in ("module", "model", "net") if name in names}
        return kind(base(groups, **options), rho=rho, **nets, **own)


class _Params(Adapter):
    """`SAM(params, Base, rho=..., **base_options)`."""

    def make(
        self, kind: type, net: nn.Module, base: type[Optimizer], groups: Dicts, rho: float, own: Own, **options: Any
    ) -> Any:
        """See `Adapter`."""
        return kind(groups, base, rho=rho, **own, **options)


class _Closure(Adapter):
    """`step(closure)` calls the closure for both passes."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        return optimizer.step(closure)


class _BackwardClosure(Adapter):
    """A backward pass, then `step(closure)`."""

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        return optimizer.step(closure)


class _TwoStep(Adapter):
    """`first_step()` and `second_step()`, each after a backward pass."""

    between = False

    def step(self, optimizer: Any, closure: Closure) -> Any:
        """See `Adapter`."""
        closure()
        optimizer.first_step(zero_grad=True)
        closure()
        optimizer.second_step(zero_grad=True)


class WrapperClosure(_Built, _Closure):
    """A base optimizer, and a closure for both passes."""


class WrapperTwoStep(_Built, _TwoStep):
    """A base optimizer, and two calls."""


class ParamsClosure(_Params, _Closure):
    """Parameters and a base class, and a closure for both passes."""


class ParamsBackwardClosure(_Params, _BackwardClosure):
    """Parameters and a base class, and a closure for the second pass."""


class ParamsTwoStep(_Params, _TwoStep):
    """Parameters and a base class, and two calls."""


ADAPTERS: dict[str, type[Adapter]] = {
    "wrapper": WrapperClosure,
    "wrapper-two-step": WrapperTwoStep,
    "closure": ParamsClosure,
    "backward-closure": ParamsBackwardClosure,
    "two-step": ParamsTwoStep,
}


def _normalized(gradients: list[Tensor], rho: float) -> list[Tensor]:
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [rho * g / norm for g in gradients]


def _unnormalized(gradients: list[Tensor], rho: float) -> list[Tensor]:
    return [rho * g for g in gradients]


# The correct eps for gradients at w and rho; "other" skips the checks that need it.
ASCENTS: dict[str, Callable[[list[Tensor], float], list[Tensor]] | None] = {
    "sam": _normalized,
    "unnormalized": _unnormalized,
    "other": None,
}


@dataclass(frozen=True)
class Subject:
    """A class with its adapter, as plain values that other processes can use."""

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
        return adapter(self.adapter)

    def make(
        self,
        net: nn.Module,
        base: type[Optimizer],
        rho: float,
        groups: Dicts | None = None,
        **options: Any,
    ) -> Any:
        """An optimizer over `groups`, by default all parameters of the net; `options` are the base's."""
        every = [{"params": list(net.parameters())}]
        return self.style.make(self.kind, net, base, groups or every, rho, own=self.own, **options)


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
            f"({_line(error)})."
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
        raise ValueError(f"expected an adapter, and {name!r} is no samgap.conformance.subject.Adapter.")
    try:
        return found()
    except Exception as error:
        raise ValueError(f"expected an adapter, and {name!r} cannot be made ({_line(error)}).") from error


def subject_for(target: str, ascent: str, own: Own, name: str | None) -> Subject:
    """The class with its adapter: the named one, or the first that fits its constructor, methods and a trial step.

    Raises:
        ValueError: the class cannot be imported, or the adapter cannot construct or step it.
    """
    kind = load(target)
    if name is not None:
        adapter(name)
    guesses = _guesses(kind) if name is None else (name,)
    for guess in guesses:
        subject = Subject(target, guess, ascent, own)
        try:
            passes = _passes(subject)
        except Exception as error:
            if guess == guesses[-1]:
                raise ValueError(
                    f"the adapter {guess!r} does not fit {target} ({_line(error)}): name another with --adapter, or "
                    "give what the class needs with --own."
                ) from error
        else:
            if passes >= 2 or guess == guesses[-1]:
                break
    return subject


def _guesses(kind: type) -> tuple[str, ...]:
    try:
        first = next(iter(inspect.signature(kind).parameters), "")
    except ValueError:  # a built-in class; the trial step explains
        first = ""
    params = first.startswith("param")
    if hasattr(kind, "first_step") and hasattr(kind, "second_step"):
        return ("two-step" if params else "wrapper-two-step",)
    # The closure may be for both passes or for the second alone.
    return ("closure", "backward-closure") if params else ("wrapper",)


def _passes(subject: Subject) -> int:
    # The number of passes in one step.
    net, calls = nn.Linear(2, 1), 0
    optimizer = subject.make(net, SGD, 0.05, lr=0.1)

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss: Tensor = net(torch.ones(1, 2)).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    subject.style.step(optimizer, closure)
    return calls


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())

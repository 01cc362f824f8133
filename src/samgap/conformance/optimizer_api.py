"""Checks of the API of torch optimizers: checkpoints, schedulers, parameter groups, deep copies."""

import copy
import warnings
from typing import Any

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from samgap.conformance.fixtures import RHO, Quadratic, Spy, advance, copies, layers, norm, same, train
from samgap.conformance.properties import Outcome, register
from samgap.conformance.subject import Subject


@register("momentum in state_dict", "3 steps, save, load, 3 steps = 6 steps")
def momentum(subject: Subject) -> Outcome:
    """A run that is resumed without its momentum differs."""
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9}
    straight, first, second = (layers(noisy=False) for _ in range(3))
    train(subject, straight, subject.make(straight, SGD, RHO, **options), 6)
    optimizer = subject.make(first, SGD, RHO, **options)
    train(subject, first, optimizer, 3)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    again = subject.make(second, SGD, RHO, **options)
    second.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    train(subject, second, again, 3, first=3)
    pairs = zip(straight.parameters(), second.parameters(), strict=True)
    off = norm([a.detach() - b.detach() for a, b in pairs]) / norm(copies(list(straight.parameters())))
    return Outcome(f"{off:.2g} off", off == 0)


@register("size of state_dict", "nothing but the base's")
def state(subject: Subject) -> Outcome:
    """Copies of the weights make checkpoints larger, and may be stale."""
    net = layers(noisy=False)
    optimizer = subject.make(net, SGD, RHO, lr=0.1, momentum=0.9)
    train(subject, net, optimizer, 1)
    keys = {key for values in optimizer.state_dict()["state"].values() for key in values} - {"momentum_buffer"}
    return Outcome(", ".join(sorted(map(str, keys))) or "nothing else", not keys)


@register("a scheduler", "reaches the base, without a warning")
def scheduler(subject: Subject) -> Outcome:
    """The base steps at the scheduled rates."""
    Spy.seen = []
    net = layers(noisy=False)
    optimizer = subject.make(net, Spy, RHO, lr=1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        schedule = LambdaLR(optimizer, lambda step: 0.5**step)
        for step in range(3):
            train(subject, net, optimizer, 1, first=step)
            schedule.step()
    rates = [rate for _, rate in Spy.seen]
    warned = ", warned" if caught else ""
    return Outcome(f"{', '.join(f'{rate:g}' for rate in rates)}{warned}", rates == [1, 0.5, 0.25] and not caught)


@register("a group added later", "is trained")
def added(subject: Subject) -> Outcome:
    """The base must have the same groups."""
    net = Quadratic()
    optimizer = subject.make(net, SGD, RHO, groups=[{"params": [net.weight]}], lr=0.01)
    optimizer.add_param_group({"params": [net.bias]})
    before = net.bias.detach().clone()
    advance(subject, optimizer, net)
    moved = not torch.equal(before, net.bias)
    return Outcome("trained" if moved else "not moved", moved)


@register("a deep copy", "steps its own net alone")
def deep_copy(subject: Subject) -> Outcome:
    """Weight averaging and population-based training copy optimizers."""
    net = layers(noisy=False)
    optimizer = subject.make(net, SGD, RHO, lr=0.1, momentum=0.9)
    train(subject, net, optimizer, 1)
    other_net, other = copy.deepcopy((net, optimizer))
    before = copies(list(net.parameters()))
    train(subject, other_net, other, 1, first=1)
    kept = same(before, copies(list(net.parameters())))
    moved = not same(before, copies(list(other_net.parameters())))
    return Outcome(f"copy {'moves' if moved else 'stays'}, original {'stays' if kept else 'moves'}", kept and moved)

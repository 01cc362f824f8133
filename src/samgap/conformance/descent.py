"""Checks of restoring the weights and of the descent step; with rho = 0 a step must equal the base's."""

from typing import Any

import torch
from torch.optim import SGD, Adam

from samgap.conformance.fixtures import RHO, Quadratic, advance, copies, layers, module, norm, observe, train
from samgap.conformance.properties import EXACT, NotApplicable, Outcome, close, expected, register
from samgap.conformance.subject import Subject


@register("weights come back in bfloat16", "bit for bit, 200 ascents", dtype=torch.bfloat16)
@register("weights come back", "bit for bit, 200 ascents in float32", dtype=torch.float32)
def comes_back(subject: Subject, dtype: torch.dtype) -> Outcome:
    """Subtracting eps would leave rounding errors."""
    net = layers(noisy=False).to(dtype)
    before = copies(list(net.parameters()))
    optimizer = subject.make(net, SGD, 0.3, lr=0.0)
    x = torch.ones(4, 6, dtype=dtype)
    for _ in range(200):
        advance(subject, optimizer, lambda: net(x).square().sum())
    after = copies(list(net.parameters()))
    changed = sum(int((a != b).sum()) for a, b in zip(before, after, strict=True))
    return Outcome(f"{changed} of {sum(w.numel() for w in before)} weights changed", changed == 0)


@register("weights stay where they lie", "same memory after a step")
def same_memory(subject: Subject) -> Outcome:
    """Views, compiled code and CUDA graphs refer to this memory."""
    net = Quadratic()
    before = [w.data_ptr() for w in net.parameters()]
    observe(subject, net, net, lr=0.1)
    moved = sum(a != w.data_ptr() for a, w in zip(before, net.parameters(), strict=True))
    return Outcome(f"{moved} of 2 moved", moved == 0)


@register("descent", "20 steps with momentum and decay by their formula, to 1e-6")
def descent(subject: Subject) -> Outcome:
    """The formula is v = mu v + A (w + eps) + lambda w, w = w - lr v."""
    net = Quadratic()
    optimizer = subject.make(net, SGD, RHO, lr=0.03, momentum=0.9, weight_decay=0.01)
    w = torch.cat(copies([net.weight, net.bias]))
    v = torch.zeros(5, dtype=torch.float64)
    for _ in range(20):
        advance(subject, optimizer, net)
        g = net.matrix @ w
        v = 0.9 * v + net.matrix @ (w + expected(subject, [g], RHO)[0]) + 0.01 * w
        w = w - 0.03 * v
    off = norm([torch.cat([net.weight, net.bias]) - w]) / norm([w])
    return Outcome(f"{off:.2g} off", off < EXACT)


@register("a loss of zero", "is no failure: weight decay acts")
def zero_loss(subject: Subject) -> Outcome:
    """In float32, cross entropy is exactly 0 at a margin of 20."""
    net = module(weight=torch.ones(3))
    step = observe(subject, net, lambda: (net.weight - 5).clamp(min=0).sum(), lr=0.1, weight_decay=0.5)
    return close(float(step.after[0][0]), 0.95, 1e-6)


@register("returned loss", "of the first pass")
def returned(subject: Subject) -> Outcome:
    """Trainers log the returned loss."""
    net = Quadratic()
    step = observe(subject, net, net)
    if step.returned is None:
        raise NotApplicable("returns None")
    return close(float(torch.as_tensor(step.returned).detach()), step.losses[0])


@register("rho = 0 with batch norm and dropout", "the base, bit for bit, statistics too", noisy=True, adam=False)
@register("rho = 0 with Adam", "the base, bit for bit", noisy=False, adam=True)
@register("rho = 0", "the base, bit for bit (SGD)", noisy=False, adam=False)
def zero(subject: Subject, *, noisy: bool, adam: bool) -> Outcome:
    """SGD has momentum and weight decay; both passes share a dropout mask, and statistics are updated once."""
    plain, wrapped = layers(noisy=noisy), layers(noisy=noisy)
    options: dict[str, Any] = {"lr": 0.01} if adam else {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}
    base: type[SGD] | type[Adam] = Adam if adam else SGD
    torch.manual_seed(1)
    train(None, plain, base(plain.parameters(), **options), 10)
    torch.manual_seed(1)
    train(subject, wrapped, subject.make(wrapped, base, 0.0, **options), 10)
    pairs = [(plain.state_dict()[key], wrapped.state_dict()[key]) for key in plain.state_dict()]
    different = sum(not torch.equal(a, b) for a, b in pairs)
    return Outcome(f"{different} of {len(pairs)} tensors differ", different == 0)

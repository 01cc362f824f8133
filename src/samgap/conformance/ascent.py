"""Checks of the ascent: its direction and length, and what must not affect them."""

import torch
from torch.nn import functional as F

from samgap.conformance.fixtures import RHO, Quadratic, batch, generator, layers, module, norm, observe
from samgap.conformance.properties import EXACT, Outcome, close, expected, normalized, register
from samgap.conformance.subject import Subject


@register("first pass", "at the weights as they are")
def first_pass(subject: Subject) -> Outcome:
    """There are two passes, and the first one is at w."""
    net = Quadratic()
    step = observe(subject, net, net)
    moved = norm([a - b for a, b in zip(step.passes[0], step.before, strict=True)])
    return Outcome(f"{len(step.passes)} passes, first {moved:.3g} away", len(step.passes) == 2 and moved == 0)


@register("direction of the ascent", "eps by its formula, to 1e-6")
def direction(subject: Subject) -> Outcome:
    """Compare eps with its closed form on a quadratic."""
    net = Quadratic()
    step = observe(subject, net, net)
    target = expected(subject, step.gradients[0], RHO)
    off = norm([a - b for a, b in zip(step.eps, target, strict=True)]) / norm(target)
    return Outcome(f"{off:.2g} off", off < EXACT)


@register("one norm over all groups", "|eps| = 0.1 over two groups")
def all_groups(subject: Subject) -> Outcome:
    """Normalizing each tensor or group separately would give a longer eps."""
    normalized(subject)
    net = Quadratic()
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.2}]
    return close(norm(observe(subject, net, net, groups=groups).eps), RHO)


@register("a small gradient", "|eps| = 0.1 at |g| = 1e-6, to 1 %")
def small_gradient(subject: Subject) -> Outcome:
    """A constant added to the norm would shrink eps near interpolation, where gradients are small."""
    normalized(subject)
    net = Quadratic()
    factor = 1e-6 / norm(observe(subject, net, net).gradients[0])
    net = Quadratic(scale=factor)
    return close(norm(observe(subject, net, net).eps), RHO, 1e-2)


@register("a gradient of zero", "no ascent, no nan")
def zero_gradient(subject: Subject) -> Outcome:
    """The formula is 0 / 0 here."""
    net = Quadratic(at_minimum=True)
    step = observe(subject, net, net, lr=0.1)
    far = sum(norm(weights) for weights in [*step.passes, step.after])  # nan stays nan
    return Outcome(f"weights at {far:.3g}", far == 0)


@register("weight decay", "no part in eps")
def weight_decay(subject: Subject) -> Outcome:
    """Near interpolation, weight decay would dominate the direction of the ascent."""
    net = Quadratic()
    plain = observe(subject, net, net).eps
    decayed = observe(subject, net, net, weight_decay=100.0).eps
    off = norm([a - b for a, b in zip(plain, decayed, strict=True)]) / norm(plain)
    return Outcome(f"eps moves by {off:.2g}", off < EXACT)


@register("float16", "|eps| = 0.1 where the sum of squares overflows, to 1 %")
def half_precision(subject: Subject) -> Outcome:
    """The square of 300 overflows float16."""
    normalized(subject)
    net = module(weight=torch.zeros(4, dtype=torch.float16))
    return close(norm(observe(subject, net, lambda: (300 * net.weight).sum()).eps), RHO, 1e-2)


@register("masked weights", "stay 0; |eps| = 0.1 on the others")
def masked(subject: Subject) -> Outcome:
    """Hooks mask the gradients, as in a sparse net."""
    net = layers(noisy=False).double()
    weight = net[0].weight
    mask = torch.rand(weight.shape, generator=generator(1)) < 0.1
    with torch.no_grad():
        weight.mul_(mask)
    weight.register_hook(lambda gradient: gradient * mask)
    x, y = batch(0)
    step = observe(subject, net, lambda: F.cross_entropy(net(x.double()), y), lr=0.1, momentum=0.9)
    stray = sum(norm([w[0][~mask]]) for w in (step.second, step.after))
    live = norm(step.eps)
    right = subject.ascent != "sam" or abs(live - RHO) < EXACT * RHO
    return Outcome(f"{stray:.2g} on pruned weights, |eps| = {live:.6g}", stray == 0 and right)

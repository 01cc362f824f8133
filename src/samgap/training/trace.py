"""The graph of a whole SGD or SAM step: both passes, ascent, masks, clipping, weight decay and momentum.

The module `compiled` compiles it for the CPU; `programs` replays it, for one run or several.
"""

import copy
import pickle
import random
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from samgap.data.sets import Normalize
from samgap.errors import SettingError
from samgap.losses import correct
from samgap.optim.sam import SAM, freeze_statistics, global_norm
from samgap.pruning.mask import Masks
from samgap.training.products import MKL, Chosen
from samgap.training.steppers import EagerStepper

PLAIN = (int, float, str, type(None))
NUMBERS = ("rho", "eta", "alpha")
AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"  # and not AVX-512
Loss = Callable[[Tensor, Tensor], Tensor]
Named = dict[str, Tensor]  # key: name of the parameter in the net


class Parts(NamedTuple):
    """The constants of the graph."""

    net: nn.Module
    loss: Loss
    normalize: Normalize | None  # None if images are already normalized
    ascent: type[SAM] | None  # None for a step of SGD
    clips: bool  # clip the final gradient
    choice: str = MKL  # library of matrix products: auto, mkl or onednn
    known: Chosen | None = None
    measures: bool = False  # also return `AscentMetrics`
    half: bool = False  # forward passes under bfloat16 autocast (precision=bf16-mixed)
    channels_last: bool = False  # memory layout of images and kernels in both passes


class State(NamedTuple):
    """The inputs of the graph, which it may change, by their names in the net."""

    weights: dict[str, Tensor]
    momenta: dict[str, Tensor]  # empty without momentum
    buffers: dict[str, Tensor]
    masks: Masks
    numbers: dict[str, Tensor]  # each of shape (): lr, momentum, weight_decay, NUMBERS, clip_norm; 0 if not set


def numbers_of(stepper: EagerStepper) -> dict[str, float]:
    """Return the numbers of a run that are inputs of its graph; 0 for those that are not set."""
    (group,) = stepper.wrapper.param_groups
    numbers = {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}
    numbers |= {name: float(getattr(stepper.wrapper, name, 0.0)) for name in NUMBERS}
    return numbers | {"clip_norm": stepper.clip_norm or 0.0}


def readable(t: Tensor) -> Tensor:
    """Return a tensor with the values of `t` that a compiled loop reads fast; booleans and bytes may be slow.

    Inductor does not vectorize reading booleans. With AVX2 it reads 8 bytes at a time through a buffer of 32, and each
    load waits for the store before it: a step of SGD of the smallest MLP takes a fifth longer.
    """
    t = t.view(torch.uint8) if t.dtype == torch.bool else t
    return t.float() if AVX2 and t.dtype == torch.uint8 else t


def traced(
    parts: Parts, images: Tensor, labels: Tensor, state: State, instead: dict[Any, Callable[..., Any]]
) -> GraphModule:
    """Return the graph of one step, a function of (images, labels, *state as a flat list), see `_whole`.

    Args:
        parts: with a net on the meta device.
        images: (B, c, h, w), as stored if `parts.normalize` is set, else normalized.
        labels: (B,).
        state: the state of one run.
        instead: operator -> function that is traced instead of it.

    Raises:
        SettingError: the net draws random numbers, changes an attribute of its own, or decides by its data.
    """
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    flat, spec = pytree.tree_flatten((images, labels, state))
    frozen, before, drawn = _frozen(parts.net), attributes(parts.net), (random.getstate(), np.random.get_state())
    # Inductor cannot compile `_foreach_norm`.
    norm = {torch.ops.aten._foreach_norm.Scalar: lambda tensors: list(map(torch.linalg.vector_norm, tensors))}
    whole = partial(_whole, parts, frozen)
    trace = make_fx(lambda *flat: whole(*pytree.tree_unflatten(flat, spec)), norm | instead, tracing_mode="fake")
    try:
        graph: GraphModule = trace(*flat)
    except GuardOnDataDependentSymNode as error:
        raise SettingError("the net's control flow depends on data") from error
    after = random.getstate(), np.random.get_state()
    random.setstate(drawn[0])
    np.random.set_state(drawn[1])
    draws = any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in graph.graph.nodes)
    if draws or pickle.dumps(after) != pickle.dumps(drawn):
        raise SettingError("the net draws random numbers, which both passes of SAM must share")
    if attributes(parts.net) != before:
        raise SettingError("a forward pass changes an attribute of the net, which a graph would not repeat")
    _view_once(graph)
    return graph


def attributes(net: nn.Module) -> list[list[tuple[str, Any]]]:
    """Return the numbers, flags and texts among the attributes of a net; a graph has them as constants."""
    return [[(name, v) for name, v in vars(part).items() if isinstance(v, PLAIN)] for part in net.modules()]


def _whole(parts: Parts, frozen: nn.Module, images: Tensor, labels: Tensor, state: State) -> tuple[Tensor, ...]:
    """Take one step, which changes the state; return loss (), correct () and, if `parts.measures`, `AscentMetrics`.

    Args:
        parts, images, labels, state: as for `traced`.
        frozen: the net of the second pass, see `_frozen`.
    """
    x = (parts.normalize(images) if parts.normalize else images).to(state.numbers["lr"].dtype)
    batch = _laid_out(parts, x), labels
    loss, logits, g = _gradients(parts, parts.net, state, state.weights, batch)
    measured: tuple[Tensor, ...] = ()
    if parts.ascent is not None:
        g, measured = _ascend(parts, parts.ascent, frozen, state, batch, loss, g)
    _descend(parts, state, g)
    return loss, correct(logits, labels), *measured


def _gradients(
    parts: Parts, net: nn.Module, state: State, at: Named, batch: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Named]:
    """Return loss (), logits (B, C) and masked gradients of the weights `at`."""
    x, labels = batch
    half = torch.autocast(x.device.type, torch.bfloat16, enabled=parts.half, cache_enabled=False)
    with torch.enable_grad(), half:
        leaves = {name: _laid_out(parts, w.detach()).requires_grad_() for name, w in at.items()}
        logits = functional_call(net, leaves | state.buffers, (x,))
        loss = parts.loss(logits, labels)
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = [(name, g) for name, g in zip(leaves, gradients, strict=True) if g is not None]
    masked = {name: g * state.masks[name] if name in state.masks else g for name, g in pairs}
    return loss.detach(), logits.detach(), masked


def _laid_out(parts: Parts, t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if parts.channels_last and t.ndim == 4 else t


def _ascend(
    parts: Parts, ascent: type[SAM], frozen: nn.Module, state: State, batch: Any, loss: Tensor, first: Named
) -> tuple[Named, tuple[Tensor, ...]]:
    """Return the gradients of SAM's descent step and the `AscentMetrics`, given the loss and the gradients at w."""
    sam, weights = _rule(ascent, state), state.weights
    measured: tuple[Tensor, ...] = ()
    at, gradients = [weights[name] for name in first], list(first.values())
    eps = sam.ascent(at, gradients)
    perturbed = weights | {name: weights[name] + e for name, e in zip(first, eps, strict=True)}
    perturbed_loss, _, g = _gradients(parts, frozen, state, perturbed, batch)
    if parts.measures:
        rounded = [perturbed[name] - weights[name] for name in first]
        second = [g[name] if name in g else torch.zeros_like(weights[name]) for name in first]
        measured = sam.measure(at, gradients, second, rounded, perturbed_loss - loss)
    if sam.COMBINES:  # `combine` works in place on copies, since autograd may return one tensor for two weights
        holders: list[Any] = [SimpleNamespace(grad=g[name].clone()) for name in first]
        sam.combine(holders, gradients)
        g = {name: holder.grad for name, holder in zip(first, holders, strict=True)}
    return g, measured


def _descend(parts: Parts, state: State, g: Named) -> None:
    """Clip the final gradient if requested, and take the step of SGD."""
    weights, numbers = state.weights, state.numbers
    if parts.clips:  # like torch's clip_grad_norm_, which does not accept a tensor as limit
        factor = (numbers["clip_norm"] / (global_norm(list(g.values())) + 1e-6)).clamp(max=1)
        g = {name: gradient * factor for name, gradient in g.items()}
    for name, descent in g.items():
        descent = descent + numbers["weight_decay"] * weights[name]
        if name in state.momenta:
            descent = state.momenta[name].mul_(numbers["momentum"]).add_(descent)
        weights[name].sub_(numbers["lr"] * descent)


def _rule(ascent: type[SAM], state: State) -> SAM:
    """Return an instance of `ascent` whose rho and other numbers are inputs of the graph."""
    rule = object.__new__(ascent)
    vars(rule).update(state.numbers, module=SimpleNamespace(named_parameters=state.weights.items))
    return rule


def _frozen(net: nn.Module) -> nn.Module:
    """Return a copy of a net for SAM's second pass, which does not update running statistics (batch norm)."""
    net = copy.deepcopy(net)
    freeze_statistics(net)
    return net


def _view_once(graph: GraphModule) -> None:
    # Merge equal views: Inductor may write a tensor once per view, such as the input that both passes use.
    views: dict[Any, Node] = {}
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        node.replace_all_uses_with(views.setdefault(str(node.args), node))
    graph.recompile()

"""A whole SGD or SAM step as one function, traced once and compiled by torch's Inductor, for the CPU.

Both passes, ascent, masks, weight decay and momentum lie in one graph, so that little between them goes through
memory and no kernel waits for Python. It computes what `EagerStepper` does, to rounding; momentum lies in the base
optimizer's state whichever steps, so that each can go on where the other stopped.
"""

import contextlib
import copy
import ctypes
import hashlib
import logging
import pickle
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule, Node
from torch.optim import SGD
from torch.utils import _pytree as pytree

from samgap.data.batches import Batch
from samgap.data.sets import Scale
from samgap.errors import SettingError
from samgap.losses import correct
from samgap.optim.asam import ASAM, adaptive
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM, TRACKING, global_norm
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.optim.wrapper import Wrapper
from samgap.pruning.mask import Masks
from samgap.training.machine import COMPILED_FROM
from samgap.training.products import ONEDNN, Chosen, alone, apart, lacking, place
from samgap.training.steppers import EagerStepper, StepResult

ASCENTS = (SAM, SAMUnnormalized, ASAM, GSAM)  # functions of weights, gradients and these numbers alone:
NUMBERS = ("rho", "eta", "alpha")
OPTIONS = {
    "cpp_wrapper": True,  # the calls of kernels in C++ too
    # Inductor would lay convolutions out channels last, where oneDNN's strided 1x1 convolution writes past its memory
    # if it has fewer channels than a vector register holds (uxlfoundation/oneDNN#6035).
    "layout_optimization": False,
}
Loss = Callable[[Tensor, Tensor], Tensor]
Whole = Callable[..., Sequence[Tensor]]  # (images, labels, *state as a flat list): changes the state


def choose(
    choice: str, steps: int, masks: Masks, precision: str, eager: EagerStepper, products: str, known: Chosen
) -> EagerStepper:
    """What carries out the steps of a run.

    Args:
        choice: eager; compiled; or auto, which compiles on the CPU if the run has 2,000 steps or more. What the
            compiled step does not cover runs eagerly, and a warning says why.
        steps: of the whole run.
        masks: of the pruned net, or empty.
        precision: of the run.
        eager: what to use or to replace.
        products: auto, mkl or onednn; see `products`.
        known: libraries that an earlier part of the run took.
    """
    if choice == "eager" or (choice == "auto" and (steps < COMPILED_FROM or eager.weights[0].device.type != "cpu")):
        return eager
    if reason := uncovered(eager, precision):
        warnings.warn(f"The step is not compiled and runs slower: {reason}.", stacklevel=2)
        return eager
    if products == ONEDNN and (reason := lacking()):
        warnings.warn(f"The products of the step are not oneDNN's: {reason}.", stacklevel=2)
    return CompiledStepper(eager, masks, products, known)


def uncovered(eager: EagerStepper, precision: str) -> str | None:
    """Why a step cannot be compiled, or None."""
    wrapper, net, layout = eager.wrapper, eager.net, eager.layout
    base, device = wrapper.base, eager.weights[0].device.type
    odd = [key for key in ("dampening", "nesterov", "maximize") if base.defaults.get(key)]
    reasons = {
        f"it is for the CPU, not for {device}": device != "cpu",
        f"it is not for precision={precision}": precision not in ("32-true", "64-true"),
        "it is for one process": layout.ranks > 1,
        "it takes a batch whole (ascent.m, trainer.micro_batch)": layout.forward < layout.batch_size,
        f"it does not know {type(wrapper).__name__}": type(wrapper) not in (Wrapper, *ASCENTS),
        f"it does not know {type(base).__name__}": type(base) is not SGD,
        f"it does not know SGD's {', '.join(odd)}": bool(odd),
        "it wants one group of parameters": len(base.param_groups) != 1,
        "it wants every parameter trained": not all(w.requires_grad for w in net.parameters()),
    }
    return next((reason for reason, holds in reasons.items() if holds), None) or missing()


def missing() -> str | None:
    """Why no step can be compiled here, or None."""
    # Here and in `_compiled`, since it is torch's own affair: a version that has moved it shall not end runs that need
    # no compiler.
    try:
        from torch._inductor import exc
        from torch._inductor.cpp_builder import get_cpp_compiler
    except ImportError as error:
        return f"torch {torch.__version__} does not compile a traced step ({error})"
    try:
        get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return "there is no C++ compiler"
    return None


class CompiledStepper(EagerStepper):
    """Full batches by a compiled function; with an interval there are two, of steps with an ascent and without. The
    first step with momentum, measured ascents and the last, smaller batch of an epoch are eager.
    """

    def __init__(self, eager: EagerStepper, masks: Masks, products: str = "auto", known: Chosen | None = None) -> None:
        """
        Args:
            eager: whose parts are taken over.
            masks: of the pruned net.
            products, known: as for `choose`.
        """
        vars(self).update(vars(eager))
        self.masks, self.choice, self.known = masks, products, known or {}
        self.whole: dict[bool, Whole] = {}  # by whether there is an ascent
        self._take(self.known)
        _hold_memory()

    def _take(self, products: Chosen) -> None:
        self.products = products
        self.name = "compiled, oneDNN" if ONEDNN in products.values() else "compiled"

    def step(self, batch: Batch) -> StepResult:
        """One optimizer step on one batch."""
        sam = self.wrapper if isinstance(self.wrapper, SAM) else None
        (group,) = self.wrapper.param_groups
        lacking = group["momentum"] and not self.wrapper.base.state  # SGD's own step makes its momentum
        rises = sam is not None and sam.active
        measuring = sam is not None and sam.measuring and rises
        if self.name == "eager" or batch.size < self.layout.batch_size or measuring or lacking:
            return super().step(batch)
        if rises not in self.whole:
            try:
                self._compile(batch, rises)
            except Exception as error:  # whatever it is, the run need not end of it
                last = (str(error).strip() or repr(error)).splitlines()[-1]
                warnings.warn(f"The step could not be compiled and runs slower: {last}", stacklevel=2)
                self.name = "eager"
                return super().step(batch)
            self.wrapper._opt_called = True  # type: ignore[attr-defined]  # else a schedule warns of its first step
        self.lr.fill_(group["lr"])
        # What Lightning does around an optimizer's step is to count it; its way through costs as much as a small step.
        self.optimizer._on_before_step()
        loss, correct = self.whole[rises](batch.images, batch.labels, *self.flat)
        self.optimizer._on_after_step()
        if sam:
            sam.count()
        return StepResult(loss, correct, batch.size)

    def _compile(self, batch: Batch, rises: bool) -> None:
        (group,) = self.wrapper.param_groups
        if not self.whole:
            weights, state = dict(self.net.named_parameters()), self.wrapper.base.state
            numbers = {name: group[name] for name in ("lr", "momentum", "weight_decay")}
            numbers |= {name: getattr(self.wrapper, name, 0.0) for name in NUMBERS}
            numbers["clip_norm"] = self.clip_norm or 0.0
            self.state = _State(
                {name: w.detach() for name, w in weights.items()},
                {name: state[w]["momentum_buffer"] for name, w in weights.items() if group["momentum"] and w in state},
                dict(self.net.named_buffers()),
                self.masks,
                {name: torch.tensor(number, dtype=self.weights[0].dtype) for name, number in numbers.items()},
            )
            self.lr, self.flat = self.state.numbers["lr"], pytree.tree_leaves(self.state)
        ascent = cast(type[SAM], type(self.wrapper)) if rises else None
        clips = self.clip_norm is not None
        parts = _Parts(self.net, self.loss, self.scale, ascent, clips, self.choice, self.known)
        whole, products = _compiled(parts, batch.images, batch.labels, self.state)
        self._take(self.products | products if self.whole else products)
        self.whole[rises] = whole


class _Parts(NamedTuple):
    """What is constant in the graph."""

    net: nn.Module
    loss: Loss
    scale: Scale
    ascent: type[SAM] | None
    clips: bool
    choice: str  # of the library of products
    known: Chosen


class _State(NamedTuple):
    """What goes into the graph and is changed by it; tensors by the names that they have in the net."""

    weights: dict[str, Tensor]
    momenta: dict[str, Tensor]  # empty without momentum
    buffers: dict[str, Tensor]
    masks: Masks
    numbers: dict[str, Tensor]  # each (): lr, momentum, weight_decay, NUMBERS, clip_norm; 0 where there is none


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def _hold_memory() -> None:
    # A step frees what it allocates. glibc would hand large pieces back to the system, which zeroes them for the next
    # step, page by page; at 400,000 weights and more that takes a tenth of a step and up to a third.
    with contextlib.suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # the largest that it takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


_kept: dict[bytes, tuple[Whole, Chosen]] = {}  # for the later runs of this process


def _compiled(parts: _Parts, images: Tensor, labels: Tensor, state: _State) -> tuple[Whole, Chosen]:
    # Without storage a net is its structure alone, and two of the same have the same bytes.
    parts = parts._replace(net=copy.deepcopy(parts.net).to("meta").train())
    flat, spec = pytree.tree_flatten((images, labels, state))
    shapes = [(t.shape, t.stride(), t.dtype) for t in flat]
    key = pickle.dumps((parts, str(spec), shapes))
    if key not in _kept:
        from torch import _inductor
        from torch._inductor import codecache, config
        from torch.fx.experimental.proxy_tensor import make_fx

        with contextlib.suppress(AttributeError, RuntimeError):  # another torch; it is set already
            # Else Inductor hashes all of Triton, which has no part in code for the CPU, for a quarter of a second.
            codecache.triton_key.set(None)  # type: ignore[attr-defined]
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it says that there is no CUDA
        with torch.no_grad(), config.patch(compile_threads=1):
            held = _held(parts.net)
            graph = make_fx(
                lambda *flat: _whole(parts, held, *pytree.tree_unflatten(flat, spec)),
                {torch.ops.aten._foreach_norm.Scalar: _norms, torch.ops.aten.addmm.default: apart},
                tracing_mode="fake",
            )(*flat)
            if any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in graph.graph.nodes):
                raise SettingError("the net draws random numbers, which both passes of SAM must share")
            _view_once(graph)
            chosen = place(graph, parts.choice, parts.known)
            # Of several processes that want it, one compiles, and the others find it on the disk.
            with alone(hashlib.sha256((graph.code + str(shapes)).encode()).hexdigest()[:16]):
                _kept[key] = _inductor.compile(graph, flat, options=OPTIONS), chosen
    return _kept[key]


def _whole(parts: _Parts, held: nn.Module, images: Tensor, labels: Tensor, state: _State) -> tuple[Tensor, Tensor]:
    """One step on images (B, c, h, w) in levels and labels (B,): changes the state, gives loss () and correct ().

    Args:
        held: the net of the second pass.
    """
    weights, numbers = state.weights, state.numbers
    x = parts.scale(images).to(numbers["lr"].dtype)

    def gradients(net: nn.Module, at: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with torch.enable_grad():
            leaves = {name: w.detach().requires_grad_() for name, w in at.items()}
            logits = functional_call(net, leaves | state.buffers, (x,))
            loss = parts.loss(logits, labels)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        masked = {
            name: g * state.masks[name] if name in state.masks else g
            for name, g in zip(leaves, found, strict=True)
            if g is not None
        }
        return loss.detach(), logits.detach(), masked

    loss, logits, g = gradients(parts.net, weights)
    if parts.ascent is not None:
        sam, first = _rule(parts.ascent, state), g
        eps = sam.ascent([weights[name] for name in first], list(first.values()))
        risen = weights | {name: weights[name] + e for name, e in zip(first, eps, strict=True)}
        _, _, g = gradients(held, risen)
        if sam.COMBINES:  # it changes gradients in place, of which autograd may give one to two weights
            found: list[Any] = [SimpleNamespace(grad=g[name].clone()) for name in first]
            sam.combine(found, list(first.values()))
            g = {name: one.grad for name, one in zip(first, found, strict=True)}
    if parts.clips:  # as torch's clip_grad_norm_, which takes no tensor for the largest norm
        factor = (numbers["clip_norm"] / (global_norm(list(g.values())) + 1e-6)).clamp(max=1)
        g = {name: one * factor for name, one in g.items()}
    for name, descent in g.items():
        descent = descent + numbers["weight_decay"] * weights[name]
        if name in state.momenta:
            descent = state.momenta[name].mul_(numbers["momentum"]).add_(descent)
        weights[name].sub_(numbers["lr"] * descent)
    return loss, correct(logits, labels)


def _rule(ascent: type[SAM], state: _State) -> SAM:
    """A SAM whose numbers are the graph's."""
    rule = object.__new__(ascent)
    vars(rule).update(state.numbers, _adaptive=adaptive(state.weights.items()))
    return rule


def _held(net: nn.Module) -> nn.Module:
    """A net like this whose running statistics (batch norm) do not move, as SAM's second pass wants it."""
    net = copy.deepcopy(net)
    for part in net.modules():
        if hasattr(part, TRACKING):
            setattr(part, TRACKING, False)
    return net


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    # Inductor has no kernel for the norms of a list.
    return [torch.linalg.vector_norm(t) for t in tensors]


def _view_once(graph: GraphModule) -> None:
    # Inductor may write what is viewed twice to memory twice, such as the input of both passes.
    views: dict[Any, Node] = {}
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        node.replace_all_uses_with(views.setdefault(str(node.args), node))

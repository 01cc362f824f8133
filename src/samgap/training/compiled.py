"""A whole SGD or SAM step as one function, traced once and compiled by torch's Inductor, for the CPU.

One graph holds both passes, ascent, masks, weight decay and momentum. This saves memory traffic, and no kernel waits
for Python. The results equal those of `EagerStepper` up to rounding. Both keep momentum in the base optimizer's state,
so that each can continue after the other.
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
from samgap.data.sets import Normalize
from samgap.errors import SettingError
from samgap.losses import correct
from samgap.optim.asam import ASAM, adaptive
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM, TRACKING, global_norm
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.optim.wrapper import Wrapper
from samgap.pruning.mask import Masks
from samgap.training.machine import COMPILED_FROM
from samgap.training.products import MKL, ONEDNN, Chosen, alone, lacking, place, unfused_addmm
from samgap.training.steppers import EagerStepper, StepResult

ASCENTS = (SAM, SAMUnnormalized, ASAM, GSAM)  # depend only on weights, gradients and NUMBERS
NUMBERS = ("rho", "eta", "alpha")
OPTIONS = {
    "cpp_wrapper": True,  # kernel calls in C++ too
    # Else Inductor uses channels-last convolutions. There oneDNN's strided 1x1 convolution writes outside its memory
    # if it has fewer channels than a vector register holds (uxlfoundation/oneDNN#6035).
    "layout_optimization": False,
}
Loss = Callable[[Tensor, Tensor], Tensor]
Whole = Callable[..., Sequence[Tensor]]  # (images, labels, *state as a flat list): changes the state


def choose(
    choice: str, steps: int, masks: Masks, precision: str, eager: EagerStepper, products: str, known: Chosen
) -> EagerStepper:
    """Return the stepper of a run.

    Args:
        choice: eager; compiled; or auto, which compiles on the CPU if the run has 2,000 steps or more. A run that
            cannot be compiled is eager, and a warning says why.
        steps: of the whole run.
        masks: of the pruned net, or empty.
        precision: of the run.
        eager: the eager stepper.
        products: auto, mkl or onednn; see `products`.
        known: libraries that an earlier part of the run used.
    """
    if choice == "eager" or (choice == "auto" and (steps < COMPILED_FROM or eager.weights[0].device.type != "cpu")):
        return eager
    device = eager.weights[0].device.type
    reason = None if device == "cpu" else f"it is for the CPU, not for {device}"
    if reason is None and precision not in ("32-true", "64-true"):
        reason = f"it is not for precision={precision}"
    if reason := reason or uncovered(eager) or missing():
        warnings.warn(f"The step is not compiled and runs slower: {reason}.", stacklevel=2)
        return eager
    if products == ONEDNN and (reason := lacking()):
        warnings.warn(f"The products of the step are not oneDNN's: {reason}.", stacklevel=2)
    return CompiledStepper(eager, masks, products, known)


def uncovered(eager: EagerStepper) -> str | None:
    """Return the reason that a step cannot be traced, or None if it can."""
    wrapper, net, layout = eager.wrapper, eager.net, eager.layout
    base = wrapper.base
    odd = [key for key in ("dampening", "nesterov", "maximize") if base.defaults.get(key)]
    reasons = {
        "it is for one process": layout.ranks > 1,
        "it takes a batch whole (ascent.m, trainer.micro_batch)": layout.forward < layout.batch_size,
        f"it does not know {type(wrapper).__name__}": type(wrapper) not in (Wrapper, *ASCENTS),
        f"it does not know {type(base).__name__}": type(base) is not SGD,
        f"it does not know SGD's {', '.join(odd)}": bool(odd),
        "it needs one group of parameters": len(base.param_groups) != 1,
        "it needs every parameter trained": not all(w.requires_grad for w in net.parameters()),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def missing() -> str | None:
    """Return the reason that this machine cannot compile any step, or None if it can."""
    # Import private modules of torch here, not at the top: another version may lack them, and eager runs must still
    # work.
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
    """Runs full batches by a compiled function. With an interval there are two functions: with ascent and without.
    The first step with momentum, measured ascents and a smaller last batch of an epoch are eager.
    """

    def __init__(self, eager: EagerStepper, masks: Masks, products: str = "auto", known: Chosen | None = None) -> None:
        """
        Args:
            eager: the stepper to replace; this one uses its attributes.
            masks: of the pruned net.
            products, known: as for `choose`.
        """
        vars(self).update(vars(eager))
        # The same bytes as numbers: Inductor reads booleans one by one, which doubles the time of a step.
        self.masks = {name: mask.view(torch.uint8) for name, mask in masks.items()}
        self.choice, self.known = products, known or {}
        self.whole: dict[bool, Whole] = {}  # key: whether the step has an ascent
        self._take(self.known)
        _hold_memory()

    def _take(self, products: Chosen) -> None:
        self.products = products
        self.name = "compiled, oneDNN" if ONEDNN in products.values() else "compiled"

    def step(self, batch: Batch) -> StepResult:
        """Take one optimizer step on one batch."""
        sam = self.wrapper if isinstance(self.wrapper, SAM) else None
        (group,) = self.wrapper.param_groups
        lacking = group["momentum"] and not self.wrapper.base.state  # SGD's own first step creates the momentum
        rises = sam is not None and sam.active
        measuring = sam is not None and sam.measuring and rises
        if self.name == "eager" or batch.size < self.layout.batch_size or measuring or lacking:
            return super().step(batch)
        if rises not in self.whole:
            try:
                self._compile(batch, rises)
            except Exception as error:  # no error here must end the run
                last = (str(error).strip() or repr(error)).splitlines()[-1]
                warnings.warn(f"The step could not be compiled and runs slower: {last}", stacklevel=2)
                self.name = "eager"
                return super().step(batch)
            self.wrapper._opt_called = True  # type: ignore[attr-defined]  # else the scheduler warns at its first step
        self.lr.fill_(group["lr"])
        # Call only Lightning's step counters: its full `optimizer.step` would take as long as a small step.
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
            self.state = State(
                {name: w.detach() for name, w in weights.items()},
                {name: state[w]["momentum_buffer"] for name, w in weights.items() if group["momentum"] and w in state},
                dict(self.net.named_buffers()),
                self.masks,
                {name: torch.tensor(number, dtype=self.weights[0].dtype) for name, number in numbers_of(self).items()},
            )
            self.lr, self.flat = self.state.numbers["lr"], pytree.tree_leaves(self.state)
        ascent = cast(type[SAM], type(self.wrapper)) if rises else None
        clips = self.clip_norm is not None
        parts = Parts(self.net, self.loss, self.normalize, ascent, clips, self.choice, self.known)
        whole, products = _compiled(parts, batch.images, batch.labels, self.state)
        self._take(self.products | products if self.whole else products)
        self.whole[rises] = whole


class Parts(NamedTuple):
    """The constants of the graph."""

    net: nn.Module
    loss: Loss
    normalize: Normalize | None  # None: images are normalized already
    ascent: type[SAM] | None
    clips: bool
    choice: str = MKL  # library of matrix products: auto, mkl or onednn
    known: Chosen | None = None
    measures: bool = False  # also return the measurements of the ascent
    half: bool = False  # forward passes in bfloat16, where autocast does (precision=bf16-mixed)


class State(NamedTuple):
    """The inputs of the graph, which it may change; tensors have their names in the net."""

    weights: dict[str, Tensor]
    momenta: dict[str, Tensor]  # empty without momentum
    buffers: dict[str, Tensor]
    masks: Masks
    numbers: dict[str, Tensor]  # each (): lr, momentum, weight_decay, NUMBERS, clip_norm; 0 if not set


def numbers_of(stepper: EagerStepper) -> dict[str, float]:
    """Return the numbers of a run that are inputs of its graph; 0 for those that are not set."""
    (group,) = stepper.wrapper.param_groups
    numbers = {name: float(group[name]) for name in ("lr", "momentum", "weight_decay")}
    numbers |= {name: float(getattr(stepper.wrapper, name, 0.0)) for name in NUMBERS}
    return numbers | {"clip_norm": stepper.clip_norm or 0.0}


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


def _hold_memory() -> None:
    # Each step frees its memory. glibc would return large blocks to the system, which zeroes their pages for the next
    # step. From 400,000 weights, this would take between a tenth and a third of a step.
    with contextlib.suppress(AttributeError, OSError):  # the C library is not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 2**25)  # the largest valid value
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


_kept: dict[bytes, tuple[Whole, Chosen]] = {}  # compiled steps, for later runs of this process


def _compiled(parts: Parts, images: Tensor, labels: Tensor, state: State) -> tuple[Whole, Chosen]:
    # On the meta device a net has no values. So two nets of the same structure pickle to the same bytes.
    parts = parts._replace(net=copy.deepcopy(parts.net).to("meta").train())
    flat, spec = pytree.tree_flatten((images, labels, state))
    shapes = [(t.shape, t.stride(), t.dtype) for t in flat]
    key = pickle.dumps((parts, str(spec), shapes))
    if key not in _kept:
        from torch import _inductor
        from torch._inductor import codecache, config

        with contextlib.suppress(AttributeError, RuntimeError):  # another version of torch; already set
            # Else Inductor hashes all of Triton, which takes a quarter of a second; CPU code does not use Triton.
            codecache.triton_key.set(None)  # type: ignore[attr-defined]
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # else it warns that there is no CUDA
        with torch.no_grad(), config.patch(compile_threads=1):
            graph = traced(parts, images, labels, state, {torch.ops.aten.addmm.default: unfused_addmm})
            chosen = place(graph, parts.choice, parts.known or {})
            # If several processes need this step, one compiles it, and the others read it from disk.
            with alone(hashlib.sha256((graph.code + str(shapes)).encode()).hexdigest()[:16]):
                _kept[key] = _inductor.compile(graph, flat, options=OPTIONS), chosen
    return _kept[key]


def traced(
    parts: Parts, images: Tensor, labels: Tensor, state: State, instead: dict[Any, Callable[..., Any]]
) -> GraphModule:
    """Return the graph of one step, a function of (images, labels, *state as a flat list), see `_whole`.

    Args:
        parts: with a net on the meta device.
        images: (B, c, h, w), as stored if parts normalize them, else normalized.
        labels: (B,).
        state: of one run.
        instead: functions in place of operators.

    Raises:
        SettingError: the net draws random numbers.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    flat, spec = pytree.tree_flatten((images, labels, state))
    frozen = _frozen(parts.net)
    graph = make_fx(
        lambda *flat: _whole(parts, frozen, *pytree.tree_unflatten(flat, spec)),
        {torch.ops.aten._foreach_norm.Scalar: _norms, **instead},
        tracing_mode="fake",
    )(*flat)
    if any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in graph.graph.nodes):
        raise SettingError("the net draws random numbers, which both passes of SAM must share")
    _view_once(graph)
    return graph


def _whole(parts: Parts, frozen: nn.Module, images: Tensor, labels: Tensor, state: State) -> tuple[Tensor, ...]:
    """Take one step; change the state; return loss (), correct () and, if it measures, `AscentMetrics`.

    Args:
        parts, images, labels, state: as for `traced`.
        frozen: the net of the second pass, see `_frozen`.
    """
    weights, numbers = state.weights, state.numbers
    x = (parts.normalize(images) if parts.normalize else images).to(numbers["lr"].dtype)
    half = torch.autocast(x.device.type, torch.bfloat16, enabled=parts.half, cache_enabled=False)

    def gradients(net: nn.Module, at: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with torch.enable_grad(), half:
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
    measured: tuple[Tensor, ...] = ()
    if parts.ascent is not None:
        sam, first = _rule(parts.ascent, state), g
        eps = sam.ascent([weights[name] for name in first], list(first.values()))
        perturbed = weights | {name: weights[name] + e for name, e in zip(first, eps, strict=True)}
        loss_there, _, g = gradients(frozen, perturbed)
        if parts.measures:
            rounded = [perturbed[name] - weights[name] for name in first]
            second = [g[name] if name in g else torch.zeros_like(weights[name]) for name in first]
            at = [weights[name] for name in first], list(first.values()), second, rounded, loss_there - loss
            measured = sam.measure(*at)
        if sam.COMBINES:  # changes gradients in place; autograd may return one tensor for two weights
            found: list[Any] = [SimpleNamespace(grad=g[name].clone()) for name in first]
            sam.combine(found, list(first.values()))
            g = {name: one.grad for name, one in zip(first, found, strict=True)}
    if parts.clips:  # as torch's clip_grad_norm_, which does not accept a tensor as limit
        factor = (numbers["clip_norm"] / (global_norm(list(g.values())) + 1e-6)).clamp(max=1)
        g = {name: one * factor for name, one in g.items()}
    for name, descent in g.items():
        descent = descent + numbers["weight_decay"] * weights[name]
        if name in state.momenta:
            descent = state.momenta[name].mul_(numbers["momentum"]).add_(descent)
        weights[name].sub_(numbers["lr"] * descent)
    return loss, correct(logits, labels), *measured


def _rule(ascent: type[SAM], state: State) -> SAM:
    """Return a SAM whose rho and other numbers are tensors of the graph."""
    rule = object.__new__(ascent)
    vars(rule).update(state.numbers, _adaptive=adaptive(state.weights.items()))
    return rule


def _frozen(net: nn.Module) -> nn.Module:
    """Return a copy of a net for SAM's second pass, which does not update running statistics (batch norm)."""
    net = copy.deepcopy(net)
    for part in net.modules():
        if hasattr(part, TRACKING):
            setattr(part, TRACKING, False)
    return net


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    # Inductor cannot compile `_foreach_norm`.
    return [torch.linalg.vector_norm(t) for t in tensors]


def _view_once(graph: GraphModule) -> None:
    # Merge equal views: Inductor may write a tensor once per view, such as the input of both passes.
    views: dict[Any, Node] = {}
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        node.replace_all_uses_with(views.setdefault(str(node.args), node))

"""A whole SGD or SAM step as one function, traced once and compiled by torch's Inductor, for the CPU.

One graph holds both passes, ascent, masks, weight decay and momentum. This saves memory traffic and Python overhead.
The results equal those of `EagerStepper` up to rounding. Both steppers keep momentum in the base optimizer's state, so
a run can switch between them.
"""

import copy
import hashlib
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.optim import SGD
from torch.utils import _pytree as pytree

from samgap.data.batches import Batch
from samgap.errors import SettingError
from samgap.models.mlp import MLP
from samgap.optim.asam import ASAM
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.optim.wrapper import Wrapper
from samgap.pruning.mask import Masks
from samgap.training import hooks, process
from samgap.training.machine import COMPILED_FROM
from samgap.training.products import ONEDNN, Chosen, lacking, locked, place, unfused_addmm
from samgap.training.steppers import EagerStepper, StepResult
from samgap.training.trace import Parts, State, attributes, numbers_of, readable, traced

ASCENTS = (SAM, SAMUnnormalized, ASAM, GSAM)  # depend only on weights, gradients and `trace.NUMBERS`
OPTIONS = {
    "cpp_wrapper": True,  # kernel calls in C++ too
    "layout_optimization": False,  # the trace determines the layout, see `channels_last`
    "memory_planning": True,  # one block of memory for all intermediate results: 4 % of a small step
}
VECTOR = 16  # [float32 numbers] in the largest vector register
Whole = Callable[..., Sequence[Tensor]]  # (images, labels, *state as a flat list): changes the state


def choose(
    choice: str, steps: int, masks: Masks, precision: str, eager: EagerStepper, products: str, known: Chosen
) -> EagerStepper:
    """Return the stepper of a run.

    Args:
        choice: eager; compiled; or auto, which compiles on the CPU if the run has 2,000 steps or more. A run that
            cannot be compiled is eager, and a warning says why.
        steps: total number of steps of the run.
        masks: by parameter name; empty for a dense net.
        precision: the setting, such as 32-true.
        eager: the eager stepper.
        products: library of matrix products: auto, mkl or onednn; see the module `products`.
        known: the library of each product before the run was stopped; auto keeps it.
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
        "it does not call hooks of the net": hooks.any_of_net(net),
        "it does not call hooks of an optimizer": hooks.any_of_optimizers((wrapper, base), EagerStepper._finish),
        f"it does not call a callback's {' or '.join(hooks.OF_CALLBACK)}": hooks.any_of_callbacks(eager.callbacks),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def changed(stepper: EagerStepper, before: object) -> str | None:
    """Return the reason that a function traced for a net with attributes `before` is not its step now, or None."""
    different = attributes(stepper.net) != before
    return uncovered(stepper) or ("an attribute of the net has changed" if different else None)


def missing() -> str | None:
    """Return the reason that this machine cannot compile any step, or None if it can."""
    # Private modules of torch are imported here: another version may lack them, and eager runs must still work.
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
    """Runs full batches with a compiled function: one for steps with an ascent, and one for steps without.

    These steps are eager: the first one with momentum, those that measure the ascent, smaller last batches of an epoch.
    """

    def __init__(self, eager: EagerStepper, masks: Masks, products: str = "auto", known: Chosen | None = None) -> None:
        """
        Args:
            eager: the stepper to replace, whose attributes are copied.
            masks: by parameter name; empty for a dense net.
            products, known: as for `choose`.
        """
        vars(self).update(vars(eager))
        self.masks, self.choice, self.known = masks, products, known or {}
        self.whole: dict[bool, Whole] = {}  # key: whether the step has an ascent
        self._take(self.known)

    def _take(self, products: Chosen) -> None:
        self.products = products
        self.name = "compiled, oneDNN" if ONEDNN in products.values() else "compiled"

    def block(self, block: Iterable[Batch], advance: Callable[[], object]) -> tuple[Any, Any, int]:
        """Take a step for each batch, with the optimizer's present settings: a callback may have changed them."""
        if self.whole and self.name != "eager":
            if reason := changed(self, self.attributes):
                warnings.warn(f"The step is not compiled any more and runs slower: {reason}.", stacklevel=2)
                self.name = "eager"
            for name, number in numbers_of(self).items():
                self.state.numbers[name].fill_(number)
            for name, mask in self.masks.items():
                self.state.masks[name].copy_(mask)
            if bool(self.wrapper.param_groups[0]["momentum"]) != bool(self.state.momenta):
                self.whole.clear()  # with and without momentum are different functions
        return super().block(block, advance)

    def step(self, batch: Batch) -> StepResult:
        """Take one optimizer step on one batch."""
        sam = self.wrapper if isinstance(self.wrapper, SAM) else None
        (group,) = self.wrapper.base.param_groups
        lacking = group["momentum"] and not self.wrapper.base.state  # SGD's own first step creates the momentum
        ascends = sam is not None and sam.active
        measuring = sam is not None and sam.measuring and ascends
        if self.name == "eager" or batch.size < self.layout.batch_size or measuring or lacking:
            return super().step(batch)
        if ascends not in self.whole:
            try:
                self._compile(batch, ascends)
            except Exception as error:  # no compiler error may end the run
                last = (str(error).strip() or repr(error)).splitlines()[-1]
                warnings.warn(f"The step could not be compiled and runs slower: {last}", stacklevel=2)
                self.name = "eager"
                return super().step(batch)
        self.lr.fill_(group["lr"])
        # Call only Lightning's step counters: its full `optimizer.step` would take as long as a small step.
        self.optimizer._on_before_step()
        loss, correct = self.whole[ascends](readable(batch.images), batch.labels, *self.flat)
        self.optimizer._on_after_step()
        if sam:
            sam.count()
        return StepResult(loss, correct, batch.size)

    def _compile(self, batch: Batch, ascends: bool) -> None:
        (group,) = self.wrapper.param_groups
        if reason := uncovered(self):  # a callback may have added hooks since the start
            raise SettingError(reason)
        if not self.whole:
            weights, state = dict(self.net.named_parameters()), self.wrapper.base.state
            self.state = State(
                {name: w.detach() for name, w in weights.items()},
                {name: state[w]["momentum_buffer"] for name, w in weights.items() if group["momentum"] and w in state},
                dict(self.net.named_buffers()),
                {name: readable(mask) for name, mask in self.masks.items()},
                {name: torch.tensor(number, dtype=self.weights[0].dtype) for name, number in numbers_of(self).items()},
            )
            self.lr, self.flat = self.state.numbers["lr"], pytree.tree_leaves(self.state)
        ascent = cast(type[SAM], type(self.wrapper)) if ascends else None
        clips = self.clip_norm is not None
        parts = Parts(self.net, self.loss, self.normalize, ascent, clips, self.choice, self.known)
        whole, products = _compiled(parts, readable(batch.images), batch.labels, self.state)
        self._take(self.products | products if self.whole else products)
        self.whole[ascends], self.attributes = whole, attributes(self.net)


def channels_last(graph: GraphModule) -> bool:
    """Return whether a traced net should use the channels-last layout, which saves oneDNN's copies of the images.

    oneDNN's strided 1x1 convolution in that layout writes outside its memory if it has fewer channels than a vector
    register holds (uxlfoundation/oneDNN#6035): 16 in 32 bits. A larger kernel may have fewer input channels, as the
    first layer of a net has.
    """
    convs = [node.args for node in graph.graph.nodes if node.target is torch.ops.aten.convolution.default]
    for _, kernel, *_, is_transposed, _, groups in convs:
        w = kernel.meta["val"]
        wide = w.ndim == 4 and w.shape[0] >= VECTOR and (w.shape[1] >= VECTOR or min(w.shape[2:]) > 1)
        if w.dtype != torch.float32 or not wide or is_transposed or groups > 1:
            return False
    return bool(convs)


_kept: dict[Any, tuple[Whole, Chosen]] = {}  # compiled steps, for later runs of this process


def _compiled(parts: Parts, images: Tensor, labels: Tensor, state: State) -> tuple[Whole, Chosen]:
    # On the meta device a net has no values, so two nets of the same structure pickle to the same bytes.
    parts = parts._replace(net=copy.deepcopy(parts.net).to("meta"))
    flat, spec = pytree.tree_flatten((images, labels, state))
    shapes = [(t.shape, t.stride(), t.dtype) for t in flat]
    # Pickle stores classes and functions by name. After a reload of their module they are others.
    code = *map(type, parts.net.modules()), getattr(parts.loss, "func", parts.loss), parts.ascent
    key = code, pickle.dumps((parts, str(spec), shapes, torch.get_num_threads()))
    if key not in _kept:
        from torch import _inductor

        process.hold_memory()
        with torch.no_grad(), process.compiling():
            trace = partial(traced, instead={torch.ops.aten.addmm.default: unfused_addmm})
            graph = trace(parts, images, labels, state)
            if channels_last(graph):
                graph = trace(parts._replace(channels_last=True), images, labels, state)
            chosen = place(graph, parts.choice, parts.known or {})
            # If several processes need this step, one compiles it, and the others read it from disk.
            with locked(hashlib.sha256((graph.code + str(shapes)).encode()).hexdigest()[:16]):
                # Results of other layers, such as convolutions, may have other strides than the trace, which must not
                # pass unnoticed. Those of an MLP's products cannot, and the check takes 3 % of a small step.
                options = OPTIONS | {"size_asserts": type(parts.net) is not MLP}
                _kept[key] = _inductor.compile(graph, flat, options=options), chosen
    return _kept[key]

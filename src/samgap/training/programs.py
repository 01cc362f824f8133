"""A traced step of one run, or of several at once, replayed for whole epochs.

Runs whose tensors all have the same shapes, and that differ only in numbers (seed, rho, learning rate, weight decay,
mask, order of the data), can be stacked: `torch.func.vmap` of the graph from `trace.traced` gives each tensor a leading
axis of runs. The step gathers its batches itself and copies nothing to the host, and all tensors keep their addresses,
so CUDA can capture it.

There are S steps in an epoch, R rows (runs), B examples in a batch, and N training images.
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from samgap.data.batches import gathered
from samgap.errors import SettingError, line
from samgap.optim.sam import AscentMetrics
from samgap.training import compiled, cuda, trace
from samgap.training.graphs import GraphStepper
from samgap.training.trace import Parts, State

Call = Callable[[], object]
# Type of device -> function that captures a step for replay, see `cuda.captured`. On other devices steps are called.
CAPTURES: dict[str, Callable[[Call, list[Tensor]], Call]] = {"cuda": cuda.captured}


class Feed(NamedTuple):
    """The tensors that the graph reads and writes in addition to the state of the runs."""

    images: Tensor  # (N, c, H, W), as stored, and padded
    labels: Tensor  # (N, ...)
    moments: tuple[Tensor, Tensor, Tensor]  # of the normalization, see `Normalize.moments`
    drawn: dict[str, Tensor]  # (S, R, B, ...) each: positions, and offsets and flips if images are augmented
    rates: Tensor  # (S, R), learning rates
    at: Tensor  # (1,), index of the step in the epoch
    losses: Tensor  # (R,), float64, summed over the examples of the epoch
    correct: Tensor  # (R,), int64
    measured: Tensor  # (5, R), `AscentMetrics`

    @property
    def counters(self) -> tuple[Tensor, ...]:
        """The tensors that a step changes, which are 0 at the start of an epoch."""
        return self.at, self.losses, self.correct, self.measured


class Program:
    """Carries out epochs of runs whose tensors all have the same shapes."""

    def __init__(self, name: str, *, together: bool) -> None:
        """
        Args:
            name: name of the stepper in the records.
            together: whether it carries out several runs, by vmap.
        """
        self.name, self.together, self.compiles = name, together, False
        self.rows: list[GraphStepper] = []
        self.calls: dict[tuple[int, bool], Call] = {}  # key: size of the batch, whether the step measures the ascent

    def take(self, *runs: GraphStepper) -> str | None:
        """Carry out an epoch of each run, or return the reason that this is impossible and change nothing."""
        with torch.no_grad(), torch.autocast(runs[0].weights[0].device.type, enabled=False):
            try:
                calls = self._prepare(runs)
            except Exception as error:  # no error of tracing or compiling may end a run
                return line(error)
            self._fill()
            for call in calls:
                call()
            self._give(runs)
        return None

    def _prepare(self, runs: Sequence[GraphStepper]) -> list[Call]:
        """Copy the runs into the rows, allocated if needed, and return the calls for the steps of an epoch."""
        rolls = any(run.wrapper.param_groups[0]["momentum"] for run in runs)  # a callback may have switched it on
        if not len(runs) <= len(self.rows) <= 2 * len(runs) or rolls != bool(self.state.momenta):
            self._allocate(runs, momentum=rolls)
        for reason in filter(None, (compiled.changed(run, self.attributes) for run in runs)):
            raise SettingError(reason)
        # Rows of finished runs repeat another run, since fewer rows would need another graph.
        self.rows = [*runs, *[runs[-1]] * (len(self.rows) - len(runs))]
        for number, run in enumerate(self.rows):
            for name, row in self.state.momenta.items():
                momentum = run.momentum(name)  # starting from 0, the first update sets it to the gradient, as in SGD
                row[number].copy_(torch.zeros_like(row[number]) if momentum is None else momentum)
            _copy(self.state.weights, number, run.named)
            _copy(self.state.buffers, number, dict(run.net.named_buffers()))
            _copy(self.state.masks, number, run.masks)
            for name, value in trace.numbers_of(run).items():  # a callback may have changed them
                self.state.numbers[name][number].fill_(value)
        measures, draws = runs[0].sam is not None, runs[0].epoch.draws
        return [self._call(draw.size, measures and step == 0) for step, draw in enumerate(draws)]

    def _allocate(self, runs: Sequence[GraphStepper], *, momentum: bool) -> None:
        first, count = runs[0], len(runs)
        images, device, dtype = first.epoch.images, first.weights[0].device, first.weights[0].dtype
        zeros = partial(torch.zeros, device=device)

        def rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: zeros(count, *t.shape, dtype=t.dtype) for name, t in tensors.items()}

        weights, numbers = rows(first.named), dict.fromkeys(trace.numbers_of(first), first.weights[0].new_zeros(()))
        buffers, momenta = rows(dict(first.net.named_buffers())), rows(first.named) if momentum else {}
        self.state = State(weights, momenta, buffers, rows(first.masks), rows(numbers))
        table = len(first.epoch.draws), count, first.layout.batch_size
        drawn = {"positions": zeros(table, dtype=torch.int64)}
        drawn |= {"offsets": zeros((*table, 2), dtype=torch.int64)} if images.data.crop else {}
        drawn |= {"flips": zeros(table, dtype=torch.bool)} if images.data.flip else {}
        self.feed = Feed(
            images.images, images.labels, images.data.normalize.moments(device), drawn, zeros(table[:2], dtype=dtype),
            zeros(1, dtype=torch.int64), zeros(count, dtype=torch.float64), zeros(count, dtype=torch.int64),
            zeros(len(AscentMetrics._fields), count, dtype=dtype),
        )  # fmt: skip
        self.calls, self.rows, self.compiles = {}, [*runs], first.compiles
        self.attributes = trace.attributes(first.net)

    def _call(self, size: int, measures: bool) -> Call:
        """Return a function that takes a step of all rows."""
        if (size, measures) not in self.calls:
            graph = self._graph(size, measures)
            flat = pytree.tree_leaves((self.feed, self.state))
            full = size == self.rows[0].layout.batch_size and not measures
            call = partial(self._inductor(graph, flat) if self.compiles and full else graph, *flat)
            changed = [*self.feed.counters, *chain(*(rows.values() for rows in self.state[:3]))]
            capture = CAPTURES.get(flat[0].device.type)
            self.calls[size, measures] = capture(call, changed) if capture else call
        return self.calls[size, measures]

    def _graph(self, size: int, measures: bool) -> GraphModule:
        """Return the graph that gathers the batches, takes the step of each row, and adds up losses and accuracies."""
        from torch.fx.experimental.proxy_tensor import make_fx

        single, data = self._single(size, measures), self.rows[0].epoch.images.data
        flat, spec = pytree.tree_flatten((self.feed, self.state))

        def step(*flat: Tensor) -> None:
            feed, state = pytree.tree_unflatten(flat, spec)
            tables = {name: table.index_select(0, feed.at)[0, :, :size] for name, table in feed.drawn.items()}
            drawn = {name: table.flatten(0, 1) for name, table in tables.items()}
            images, labels = gathered(data, feed.images, feed.labels, **drawn)
            batch = data.normalize.standardize(images, *feed.moments), labels
            numbers = state.numbers | {"lr": feed.rates.index_select(0, feed.at)[0]}
            inputs = [part.view(-1, size, *part.shape[1:]) for part in batch]
            inputs += pytree.tree_leaves(state._replace(numbers=numbers))
            results = vmap(single)(*inputs) if self.together else [t[None] for t in single(*(t[0] for t in inputs))]
            loss, correct, *measured = results
            feed.losses.add_(loss.double() * size)
            feed.correct.add_(correct)
            for row, value in zip(feed.measured, measured, strict=False):
                row.copy_(value)
            feed.at.add_(1)

        return make_fx(step, tracing_mode="fake")(*flat)

    def _single(self, size: int, measures: bool) -> GraphModule:
        """Return the graph of a step of a single run on a batch of `size` examples."""
        run = self.rows[0]
        net, ascent = copy.deepcopy(run.net).to("meta"), type(run.sam) if run.sam else None
        parts = Parts(net, run.loss, None, ascent, run.clip_norm is not None, measures=measures, half=run.half)
        state = State(*({name: rows[0] for name, rows in part.items()} for part in self.state))
        images = self.feed.images.new_zeros(size, *run.epoch.images.data.shape, dtype=torch.float32)
        labels = self.feed.labels[:1].repeat(size, *[1] * (self.feed.labels.dim() - 1))
        # With cuDNN, batch norm would be another operator on GPUs than on the CPU.
        with torch.backends.cudnn.flags(enabled=False):
            graph = trace.traced(parts, images, labels, state, REPLACEMENTS)
        nodes = graph.graph.find_nodes(op="placeholder")[2 + len(state.weights) :]
        # The step does not use the momentum of a weight without gradient.
        self.used_momenta = [name for name, node in zip(state.momenta, nodes, strict=False) if node.users]
        return graph

    def _inductor(self, graph: GraphModule, flat: list[Tensor]) -> Callable[..., object]:
        from torch import _inductor

        compile_: Any = _inductor.compile
        # Elsewhere Inductor may choose channels-last convolutions, which it does where they are faster.
        options = compiled.OPTIONS if flat[0].device.type == "cpu" else {}
        try:
            return compile_(graph, flat, options=options)
        except Exception as error:
            self.compiles = False
            warnings.warn(f"The graph of the step is not compiled and runs slower: {line(error)}", stacklevel=2)
            return graph

    def _fill(self) -> None:
        """Write order, augmentation and learning rates of an epoch to the feed."""
        rates = {run: run.rates() for run in dict.fromkeys(self.rows)}
        self.feed.rates.copy_(torch.tensor([rates[run] for run in self.rows], dtype=torch.float64).T)
        for name, table in self.feed.drawn.items():
            for number, run in enumerate(self.rows):
                parts = [getattr(draw, name) for draw in run.epoch.draws]
                missing = table.shape[2] - len(parts[-1])  # only the last batch can be smaller
                parts[-1] = np.pad(parts[-1], [(0, missing), *[(0, 0)] * (parts[-1].ndim - 1)])
                table[:, number].copy_(torch.from_numpy(np.stack(parts)))
        for tensor in self.feed.counters:
            tensor.zero_()

    def _give(self, runs: Sequence[GraphStepper]) -> None:
        """Copy the rows back to the runs, with the results of the epoch."""
        sums = list(zip(self.feed.losses.tolist(), self.feed.correct.tolist(), strict=True))
        measured, name = self.feed.measured.T.cpu(), f"{self.name}{', compiled' * self.compiles}"
        for number, run in enumerate(runs):
            _copy(run.named, None, self.state.weights, number)
            _copy(dict(run.net.named_buffers()), None, self.state.buffers, number)
            for key in self.used_momenta:
                state = run.wrapper.base.state[run.named[key]]
                state.setdefault("momentum_buffer", torch.empty_like(run.named[key]))
                state["momentum_buffer"].copy_(self.state.momenta[key][number])
            run.receive(sums[number], measured[number], name)


def _copy(to: dict[str, Any], number: int | None, tensors: dict[str, Tensor], row: int | None = None) -> None:
    """Copy tensors by name, from row `row` of `tensors` (None: from all) to row `number` of `to` (None: to all)."""
    for name, target in to.items():
        (target if number is None else target[number]).copy_(tensors[name] if row is None else tensors[name][row])


def _each(operator: Any) -> Callable[..., list[Tensor]]:
    """Return a `_foreach` operator as a loop over tensors, since vmap does not support `_foreach` operators."""

    def apply(tensors: list[Tensor], others: Any) -> list[Tensor]:
        pairs = zip(tensors, others if isinstance(others, list) else [others] * len(tensors), strict=True)
        return [operator(tensor, other) for tensor, other in pairs]

    return apply


def _each_in_place(operator: Any) -> Callable[..., None]:
    apply = _each(operator)
    return lambda *operands: (apply(*operands), None)[1]


_aten: Any = torch.ops.aten
REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    _aten._foreach_mul.Tensor: _each(torch.mul),
    _aten._foreach_mul.List: _each(torch.mul),
    _aten._foreach_mul.Scalar: _each(torch.mul),
    _aten._foreach_sub.List: _each(torch.sub),
    _aten._foreach_sub_.List: _each_in_place(Tensor.sub_),
}

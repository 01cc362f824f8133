"""A traced step of one run, or of several at once, replayed for whole epochs.

Runs that share every shape and differ in numbers (seed, rho, learning rate, weight decay, mask, order of the data) can
be stacked: each tensor of the step gets a leading axis of R runs, by `torch.func.vmap` of the graph that
`trace.traced` makes. Batches are gathered inside the step, which reads nothing back to the host, and all tensors
keep their addresses: so CUDA can capture it.

S steps in an epoch, R rows, B examples in a batch, N images of the training part.
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
from samgap.errors import line
from samgap.optim.sam import AscentMetrics
from samgap.training import compiled, cuda, trace
from samgap.training.graphs import GraphStepper
from samgap.training.trace import Parts, State

Call = Callable[[], object]
# How a step is made one that is replayed, by type of device; on others it is called again. See `cuda.captured`.
CAPTURES: dict[str, Callable[[Call, list[Tensor]], Call]] = {"cuda": cuda.captured}


class Feed(NamedTuple):
    """What the graph reads and writes beside the state of the runs."""

    images: Tensor  # (N, c, H, W), as stored and padded
    labels: Tensor  # (N, ...)
    moments: tuple[Tensor, Tensor]  # of the normalization
    drawn: dict[str, Tensor]  # (S, R, B, ...) each: positions, and offsets and flips if images are augmented
    rates: Tensor  # (S, R), learning rates
    at: Tensor  # (1,), the number of the step
    losses: Tensor  # (R,), float64, summed over the examples of the epoch
    correct: Tensor  # (R,), int64
    measured: Tensor  # (5, R), `AscentMetrics`

    @property
    def counters(self) -> tuple[Tensor, ...]:
        """What a step changes; each starts an epoch at 0."""
        return self.at, self.losses, self.correct, self.measured


class Program:
    """Takes epochs of runs that share every shape."""

    def __init__(self, name: str, *, together: bool) -> None:
        """
        Args:
            name: of the stepper, for the records.
            together: several runs, by vmap; else one.
        """
        self.name, self.together, self.compiles = name, together, False
        self.rows: list[GraphStepper] = []
        self.calls: dict[tuple[int, bool], Call] = {}  # by size of the batch, and whether it measures the ascent

    def take(self, *runs: GraphStepper) -> str | None:
        """Take an epoch of each run; return why it could not, in which case nothing has changed."""
        with torch.no_grad(), torch.autocast(runs[0].weights[0].device.type, enabled=False):
            try:
                calls = self._prepare(runs)
            except Exception as error:  # no error here must end a run
                return line(error)
            self._fill()
            for call in calls:
                call()
            self._give(runs)
        return None

    def _prepare(self, runs: Sequence[GraphStepper]) -> list[Call]:
        """Make room, copy the runs into the rows, and return the calls of an epoch."""
        before = self.rows
        if not len(runs) <= len(before) <= 2 * len(runs):
            self._allocate(runs)
        # The rows of runs that are over repeat another: with fewer rows it would be another graph.
        self.rows = [*runs, *[runs[-1]] * (len(self.rows) - len(runs))]
        for number, run in enumerate(self.rows):
            for name, row in self.state.momenta.items():
                # None before the first step; from 0, SGD's first one is the gradient.
                momentum = run.wrapper.base.state[run.named[name]].get("momentum_buffer")
                row[number].copy_(torch.zeros_like(row[number]) if momentum is None else momentum)
            _copy(self.state.weights, number, run.named)
            _copy(self.state.buffers, number, dict(run.net.named_buffers()))
            if self.rows != before:
                _copy(self.state.masks, number, run.masks)
                for name, value in trace.numbers_of(run).items():
                    self.state.numbers[name][number].fill_(value)
        sizes = [draw.size for draw in runs[0].epoch.draws]
        measures = runs[0].sam is not None
        return [self._call(size, measures and step == 0) for step, size in enumerate(sizes)]

    def _allocate(self, runs: Sequence[GraphStepper]) -> None:
        first, count = runs[0], len(runs)
        images, device, dtype = first.epoch.images, first.weights[0].device, first.weights[0].dtype
        zeros = partial(torch.zeros, device=device)

        def rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: zeros(count, *t.shape, dtype=t.dtype) for name, t in tensors.items()}

        weights, numbers = rows(first.named), dict.fromkeys(trace.numbers_of(first), first.weights[0].new_zeros(()))
        momenta = rows(first.named) if first.wrapper.param_groups[0]["momentum"] else {}
        self.state = State(weights, momenta, rows(dict(first.net.named_buffers())), rows(first.masks), rows(numbers))
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
        """Return the graph of a step: gathering, the step of each row, and sums."""
        from torch.fx.experimental.proxy_tensor import make_fx

        one, data = self._one(size, measures), self.rows[0].epoch.images.data
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
            found = vmap(one)(*inputs) if self.together else [t[None] for t in one(*(t[0] for t in inputs))]
            loss, right, *measured = found
            feed.losses.add_(loss.double() * size)
            feed.correct.add_(right)
            for row, value in zip(feed.measured, measured, strict=False):
                row.copy_(value)
            feed.at.add_(1)

        return make_fx(step, tracing_mode="fake")(*flat)

    def _one(self, size: int, measures: bool) -> GraphModule:
        """Return the graph of a step of one run on a batch of `size` examples."""
        run = self.rows[0]
        net, ascent = copy.deepcopy(run.net).to("meta").train(), type(run.sam) if run.sam else None
        parts = Parts(net, run.loss, None, ascent, run.clip_norm is not None, measures=measures, half=run.half)
        state = State(*({name: rows[0] for name, rows in part.items()} for part in self.state))
        images = self.feed.images.new_zeros(size, *run.epoch.images.data.shape, dtype=torch.float32)
        labels = self.feed.labels[:1].repeat(size, *[1] * (self.feed.labels.dim() - 1))
        # Without cuDNN batch norm is the same operator on every device.
        with torch.backends.cudnn.flags(enabled=False):
            graph = trace.traced(parts, images, labels, state, INSTEAD)
        nodes = graph.graph.find_nodes(op="placeholder")[2 + len(state.weights) :]
        # A weight without gradient has no momentum.
        self.moving = [name for name, node in zip(state.momenta, nodes, strict=False) if node.users]
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
        """Write order, augmentation and learning rates of an epoch."""
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
        """Copy the rows back to the runs, with what was found."""
        sums = list(zip(self.feed.losses.tolist(), self.feed.correct.tolist(), strict=True))
        measured, name = self.feed.measured.T.cpu(), f"{self.name}{', compiled' * self.compiles}"
        for number, run in enumerate(runs):
            _copy(run.named, None, self.state.weights, number)
            _copy(dict(run.net.named_buffers()), None, self.state.buffers, number)
            for key in self.moving:
                state = run.wrapper.base.state[run.named[key]]
                state.setdefault("momentum_buffer", torch.empty_like(run.named[key]))
                state["momentum_buffer"].copy_(self.state.momenta[key][number])
            run.receive(sums[number], measured[number], name)


def _copy(to: dict[str, Any], number: int | None, tensors: dict[str, Tensor], row: int | None = None) -> None:
    """Copy tensors by name, into or out of a row."""
    for name, target in to.items():
        (target if number is None else target[number]).copy_(tensors[name] if row is None else tensors[name][row])


def _each(operator: Any) -> Callable[..., list[Tensor]]:
    """Return what a `_foreach` operator does, tensor by tensor: vmap does not know those."""

    def apply(tensors: list[Tensor], others: Any) -> list[Tensor]:
        pairs = zip(tensors, others if isinstance(others, list) else [others] * len(tensors), strict=True)
        return [operator(one, other) for one, other in pairs]

    return apply


_aten: Any = torch.ops.aten
INSTEAD: dict[Any, Callable[..., Any]] = {
    _aten._foreach_mul.Tensor: _each(torch.mul),
    _aten._foreach_mul.List: _each(torch.mul),
    _aten._foreach_mul.Scalar: _each(torch.mul),
    _aten._foreach_sub.List: _each(torch.sub),
    _aten._foreach_sub_.List: lambda *operands: (_each(Tensor.sub_)(*operands), None)[1],
}

"""Powers of the Hessians of single examples times a vector, for nets with linear layers alone.

In a layer z = W a + b, the gradient for example i is the outer product d_i a_i^T, where d_i is the derivative of the
loss with respect to z. Let d_i' and a_i' be the changes of d_i and a_i along v. Then H_i v is d_i' a_i^T + d_i a_i'^T
in W. So H_i v has as many numbers as the net, but four short vectors per layer define it; the same is true of
H_i H_i v. H_i^k v of all examples thus costs about k products with H. Other nets need a copy of the weights for each
example.

B is the number of examples in a block; a layer has h inputs and o outputs; t is the position along v.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from samgap.curvature.examples import Loss

Shift = Callable[[Tensor], Tensor]  # a layer's input (B, h) to the change of its output (B, o)


def applies(net: nn.Module, one: Tensor) -> bool:
    """Whether all weights of `net` are in linear layers that run once per pass, with one row per example.

    Args:
        net: each parameter must be used by its layer's forward pass alone.
        one: an input, (1, ...).
    """
    if not _of_linear_layers(net):
        return False
    rows: dict[nn.Linear, list[int]] = {layer: [] for layer in _layers(net).values()}
    handles = [layer.register_forward_hook(lambda layer, _, output: rows[layer].append(output.ndim)) for layer in rows]
    try:
        with torch.no_grad():
            net(one)
    finally:
        for handle in handles:
            handle.remove()
    return all(dimensions == [2] for dimensions in rows.values())


@dataclass(frozen=True, eq=False)
class _Moved:
    """H_i v in the weight and the bias of one layer, for B examples."""

    entering: Tensor  # a, (B, h)
    entering_moved: Tensor  # a'
    leaving: Tensor  # d, (B, o)
    leaving_moved: Tensor  # d', which is also H_i v in the bias

    def shift(self, entering: Tensor) -> Tensor:
        """(H_i v) applied to the input a, (B, h) to (B, o), including the bias."""
        along = (self.entering * entering).sum(1, keepdim=True)
        moved = (self.entering_moved * entering).sum(1, keepdim=True)
        return self.leaving_moved * (along + 1) + self.leaving * moved

    def total(self) -> Tensor:
        """The sum over B examples in the weight, (o, h)."""
        return self.leaving_moved.T @ self.entering + self.leaving.T @ self.entering_moved


def powers(
    net: nn.Module, loss: Loss, inputs: Tensor, labels: Tensor, along: dict[str, Tensor], order: int
) -> dict[str, Tensor]:
    """The sum over B examples of H_i^order v, by parameter name.

    Args:
        net: in evaluation mode; `applies` must be true of it.
        loss: mean over a batch.
        inputs, labels: (B, ...) and (B, ...).
        along: v, by parameter name.
        order: from 1.
    """
    layers = _layers(net)
    shifts: dict[str, Shift] = {name: _dense(name, along) for name in layers}
    moved: dict[str, _Moved] = {}
    for _ in range(order):
        moved = _product(net, layers, loss, inputs, labels, shifts)
        shifts = {name: _of(layer, moved[name]) for name, layer in layers.items()}
    parts = {}
    for name, layer in layers.items():
        parts[_named(name, "weight")] = moved[name].total()
        if layer.bias is not None:
            parts[_named(name, "bias")] = moved[name].leaving_moved.sum(0)
    return parts


def _product(
    net: nn.Module, layers: dict[str, nn.Linear], loss: Loss, inputs: Tensor, labels: Tensor, shifts: dict[str, Shift]
) -> dict[str, _Moved]:
    # Forward over reverse mode: d is the gradient with respect to a term added to z; d and a have tangents in t.
    names = {layer: name for name, layer in layers.items()}
    extra = {name: inputs.new_zeros(len(inputs), layer.out_features) for name, layer in layers.items()}
    entering: dict[str, Tensor] = {}

    with forward_ad.dual_level(), torch.enable_grad():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's first dual number calls deprecated code of its own
            t: Tensor = forward_ad.make_dual(inputs.new_zeros(()), inputs.new_ones(()))  # type: ignore[no-untyped-call]

        def move(layer: nn.Linear, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            name = names[layer]
            entering[name] = arguments[0].clone()  # an in-place activation may overwrite it
            return output + t * shifts[name](arguments[0]) + extra[name].requires_grad_()

        handles = [layer.register_forward_hook(move) for layer in names]
        try:
            total = loss(net(inputs), labels) * len(labels)
        finally:
            for handle in handles:
                handle.remove()
        leaving = dict(zip(layers, torch.autograd.grad(total, [extra[name] for name in layers]), strict=True))
        return {name: _Moved(*_parted(entering[name]), *_parted(leaving[name])) for name in layers}


def _parted(dual: Tensor) -> tuple[Tensor, Tensor]:
    # Value and tangent; constants have no tangent.
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value.detach(), torch.zeros_like(value) if tangent is None else tangent.detach()


def _dense(name: str, along: dict[str, Tensor]) -> Shift:
    weight, bias = along[_named(name, "weight")], along.get(_named(name, "bias"))
    return lambda entering: nn.functional.linear(entering, weight, bias)


def _of(layer: nn.Linear, moved: _Moved) -> Shift:
    if layer.bias is not None:
        return moved.shift
    return lambda entering: moved.shift(entering) - moved.leaving_moved


def _of_linear_layers(net: nn.Module) -> bool:
    """Whether every parameter is trained and belongs to exactly one linear layer."""
    owners = [module for module in net.modules() if any(True for _ in module.parameters(recurse=False))]
    return (
        all(type(module) is nn.Linear for module in owners)
        and all(weight.requires_grad for weight in net.parameters())
        and len(list(net.parameters())) == len(list(net.named_parameters(remove_duplicate=False)))
    )


def _layers(net: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}


def _named(layer: str, part: str) -> str:
    return f"{layer}.{part}" if layer else part

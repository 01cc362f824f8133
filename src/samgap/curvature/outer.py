"""Powers of the Hessians of single examples times a vector, for nets whose only weights are in linear layers.

In a layer z = W a + b, the gradient for example i is the outer product d_i a_i^T, where d_i is the derivative of the
loss with respect to z. Let d_i' and a_i' be the changes of d_i and a_i along v. Then H_i v is d_i' a_i^T + d_i a_i'^T
in W. So H_i v has as many entries as the net has weights, but is defined by four short vectors per layer; the same is
true of H_i H_i v. So H_i^k v of all examples costs about k products with H. Other nets need a copy of the weights for
each example.

Shapes: B examples in a block, h inputs and o outputs of a layer; t is the position along v.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from samgap.curvature.examples import Loss

Shift = Callable[[Tensor], Tensor]  # from a layer's input (B, h) to the change of its output (B, o) along a vector


def applies(net: nn.Module) -> bool:
    """Return whether every parameter of `net` is trained and belongs to exactly one linear layer.

    This is not enough for `powers`: each layer must also run once per pass, with one row per example, and its weights
    must be used nowhere else. `moments.Excess` checks that by a comparison.
    """
    owners = [module for module in net.modules() if any(True for _ in module.parameters(recurse=False))]
    return (
        all(type(module) is nn.Linear for module in owners)
        and all(weight.requires_grad for weight in net.parameters())
        and len(list(net.parameters())) == len(list(net.named_parameters(remove_duplicate=False)))
    )


@dataclass(frozen=True, eq=False)
class _LayerProduct:
    """H_i v in the weight and the bias of one layer, for B examples."""

    inputs: Tensor  # a, (B, h)
    input_changes: Tensor  # a'
    gradients: Tensor  # d, (B, o)
    gradient_changes: Tensor  # d', which is also H_i v in the bias

    def shift(self, inputs: Tensor) -> Tensor:
        """Apply H_i v, as weight and bias, to inputs (B, h); return (B, o)."""
        overlap = (self.inputs * inputs).sum(1, keepdim=True)
        change = (self.input_changes * inputs).sum(1, keepdim=True)
        return self.gradient_changes * (overlap + 1) + self.gradients * change

    def total(self) -> Tensor:
        """Return the sum over B examples in the weight, (o, h)."""
        return self.gradient_changes.T @ self.inputs + self.gradients.T @ self.input_changes


def powers(
    net: nn.Module, loss: Loss, inputs: Tensor, labels: Tensor, along: dict[str, Tensor], order: int
) -> dict[str, Tensor]:
    """Return the sum over B examples of H_i^order v, by parameter name.

    Args:
        net: in evaluation mode, see `applies`.
        loss: mean over a batch.
        inputs, labels: (B, ...) and (B, ...).
        along: v, by parameter name.
        order: from 1.
    """
    layers = _layers(net)
    shifts: dict[str, Shift] = {name: _dense(name, layer, along) for name, layer in layers.items()}
    products: dict[str, _LayerProduct] = {}
    for _ in range(order):
        products = _product(net, layers, loss, inputs, labels, shifts)
        shifts = {name: _shift(layer, products[name]) for name, layer in layers.items()}
    parts = {}
    for name, layer in layers.items():
        parts[_weight(name)] = products[name].total()
        if layer.bias is not None:
            parts[_bias(name)] = products[name].gradient_changes.sum(0)
    return parts


def _product(
    net: nn.Module, layers: dict[str, nn.Linear], loss: Loss, inputs: Tensor, labels: Tensor, shifts: dict[str, Shift]
) -> dict[str, _LayerProduct]:
    # Forward over reverse mode: d is the gradient with respect to a term added to z; a' and d' are tangents in t.
    names = {layer: name for name, layer in layers.items()}
    extra = {name: inputs.new_zeros(len(inputs), layer.out_features) for name, layer in layers.items()}
    layer_inputs: dict[str, Tensor] = {}

    with forward_ad.dual_level(), torch.enable_grad():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's first dual number uses deprecated code of torch
            t: Tensor = forward_ad.make_dual(inputs.new_zeros(()), inputs.new_ones(()))  # type: ignore[no-untyped-call]

        def move(layer: nn.Linear, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            name = names[layer]
            layer_inputs[name] = arguments[0].clone()  # an in-place activation may overwrite it
            return output + t * shifts[name](arguments[0]) + extra[name].requires_grad_()

        handles = [layer.register_forward_hook(move) for layer in names]
        try:
            total = loss(net(inputs), labels) * len(labels)
        finally:
            for handle in handles:
                handle.remove()
        gradients = dict(zip(layers, torch.autograd.grad(total, [extra[name] for name in layers]), strict=True))
        return {name: _LayerProduct(*_unpacked(layer_inputs[name]), *_unpacked(gradients[name])) for name in layers}


def _unpacked(dual: Tensor) -> tuple[Tensor, Tensor]:
    # Value and tangent; constants have no tangent, which is 0.
    value, tangent = forward_ad.unpack_dual(dual)  # type: ignore[no-untyped-call]
    return value.detach(), torch.zeros_like(value) if tangent is None else tangent.detach()


def _dense(name: str, layer: nn.Linear, along: dict[str, Tensor]) -> Shift:
    weight, bias = along[_weight(name)], along[_bias(name)] if layer.bias is not None else None
    return lambda inputs: nn.functional.linear(inputs, weight, bias)


def _shift(layer: nn.Linear, product: _LayerProduct) -> Shift:
    if layer.bias is not None:
        return product.shift
    return lambda inputs: product.shift(inputs) - product.gradient_changes


def _layers(net: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}


def _weight(name: str) -> str:
    return f"{name}.weight" if name else "weight"


def _bias(name: str) -> str:
    return f"{name}.bias" if name else "bias"

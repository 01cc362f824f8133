"""The Gram matrix of output gradients of a net whose weights all lie in linear layers, without those gradients.

With z = W a + b the derivative of output c of example i in W is the outer product of d_ic = df_c/dz and a_i, so

    K_(ic)(jd) = sum over layers of (a_i . a_j + 1 for the bias) (d_ic . d_jd).

n examples, B a chunk of them, C outputs, h inputs and o outputs of a layer.
"""

import numpy as np
import torch
from torch import Tensor, nn

from samgap.curvature.examples import held
from samgap.curvature.vectors import Array
from samgap.errors import SettingError

# Of one layer: (its inputs (B, h), its output (B, o))
Seen = dict[nn.Linear, tuple[Tensor, Tensor]]


def of_linear_layers(net: nn.Module) -> bool:
    """Whether every parameter is a trained one of a linear layer and of no other."""
    owners = [module for module in net.modules() if any(True for _ in module.parameters(recurse=False))]
    return (
        all(type(module) is nn.Linear for module in owners)
        and all(weight.requires_grad for weight in net.parameters())
        and len(list(net.parameters())) == len(list(net.named_parameters(remove_duplicate=False)))
    )


def by_layers(net: nn.Module, inputs: Tensor, chunk: int) -> Array:
    """K, (n C, n C), in float64.

    Args:
        net: a parameter is used by its layer's own forward pass and nowhere else.
        inputs: (n, ...).
        chunk: B; bounds memory, moves no number beyond rounding.

    Raises:
        SettingError: the net has other parameters, or passes a layer twice or with more than one row an example.
    """
    if not of_linear_layers(net):
        raise SettingError("Layer by layer a Gram matrix is made of trained linear layers alone: take by_jacobians.")
    like = next(net.parameters())
    found: dict[nn.Linear, list[tuple[Tensor, Tensor]]] = {}
    with held(net):
        for part in torch.split(inputs, chunk):
            for layer, pair in _derivatives(net, part.to(like)).items():
                found.setdefault(layer, []).append(pair)
    total: Tensor | None = None
    for layer, pairs in found.items():
        entering, leaving = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        n, outputs, _ = leaving.shape
        if total is None:
            total = torch.zeros(n, outputs, n, outputs, dtype=torch.float64, device=like.device)
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            near = entering[rows] @ entering.T + (layer.bias is not None)  # (B, n)
            total[rows] += torch.einsum("ico,jdo->icjd", leaving[rows], leaving) * near[:, None, :, None]
    if total is None:
        raise SettingError("The net passes none of its layers.")
    return np.asarray(total.flatten(0, 1).flatten(1).cpu().numpy())


def _derivatives(net: nn.Module, inputs: Tensor) -> dict[nn.Linear, tuple[Tensor, Tensor]]:
    # For each layer its inputs (B, h) and the derivatives of all outputs in what leaves it, (B, C, o), in float64.
    seen: Seen = {}

    def keep(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not isinstance(layer, nn.Linear) or layer in seen or output.ndim != 2:
            raise SettingError("The net passes a layer twice or with several rows an example: take by_jacobians.")
        seen[layer] = (arguments[0].detach().clone(), output)
        return output.clone()  # an activation in place would else overwrite what is differentiated in

    handles = [layer.register_forward_hook(keep) for layer in net.modules() if isinstance(layer, nn.Linear)]
    try:
        with torch.enable_grad():
            outputs = net(inputs)
            leaving = [output for _, output in seen.values()]
            by_output = [
                torch.autograd.grad(column.sum(), leaving, retain_graph=True, materialize_grads=True)
                for column in outputs.unbind(1)
            ]
    finally:
        for handle in handles:
            handle.remove()
    derivatives = [torch.stack(of_layer, dim=1).double() for of_layer in zip(*by_output, strict=True)]
    pairs = zip(seen.items(), derivatives, strict=True)
    return {layer: (entering.double(), derivative) for (layer, (entering, _)), derivative in pairs}

"""Peer: the paper's training step in JAX and Flax as one jitted function, like the official code.

It has two gradients with an ascent of length rho in between, and SGD with momentum from optax. B is the batch size, c
the channels, C the classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp

conv = partial(nn.Conv, use_bias=False, padding="SAME")


class MLP(nn.Module):
    """input - 300 p - 100 p - C."""

    width: float
    dtype: Any = None  # of the layers, None is float32; weights are float32
    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """(B, h, w, c) to logits (B, C)."""
        x = images.reshape(len(images), -1)
        for neurons in (300, 100):
            x = nn.relu(nn.Dense(int(neurons * self.width + 1e-9), dtype=self.dtype)(x))
        return nn.Dense(self.classes, dtype=self.dtype)(x)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    channels: int
    stride: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, h, w, c) to (B, h / stride, w / stride, channels)."""
        norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        layer = partial(conv, dtype=self.dtype)
        y = nn.relu(norm()(layer(self.channels, (3, 3), strides=self.stride)(x)))
        y = norm()(layer(self.channels, (3, 3))(y))
        if self.stride > 1:
            x = norm()(layer(self.channels, (1, 1), strides=self.stride)(x))
        return nn.relu(x + y)


class ResNet18(nn.Module):
    """A stem of f filters, four stages of two blocks, a mean over pixels, and a linear layer."""

    width: int
    dtype: Any = None
    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """(B, h, w, c) to logits (B, C)."""
        x = conv(self.width, (3, 3), dtype=self.dtype)(images)
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, dtype=self.dtype)(x)
        x = nn.relu(x)
        for stage in range(4):
            for block in range(2):
                x = Block(self.width * 2**stage, 2 if stage and not block else 1, self.dtype)(x)
        return nn.Dense(self.classes, dtype=self.dtype)(x.mean(axis=(1, 2)))


def stepper(
    model: str,
    width: float,
    images: Any,
    labels: Any,
    *,
    rho: float,
    lr: float,
    momentum: float,
    weight_decay: float,
    dtype: Any = None,
) -> tuple[Callable[[], Any], Any]:
    """A function that starts one step on a fixed batch, without waiting for its end.

    Args:
        model: mlp or resnet18.
        width: p or f.
        images, labels: numpy arrays (B, c, h, w) and (B,).
        rho: radius of the ascent; 0 is SGD with one pass.
        lr, momentum, weight_decay: of SGD.
        dtype: of the layers; None is float32.

    Returns:
        The function, which returns the loss () before the step, and the initial variables.
    """
    net = MLP(width, dtype) if model == "mlp" else ResNet18(int(width), dtype)
    x, y = jnp.asarray(images).transpose(0, 2, 3, 1), jnp.asarray(labels)
    variables = net.init(jax.random.PRNGKey(0), x)
    # Weight decay acts on the final gradient and not on the ascent, as in ours.
    descent = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(lr, momentum=momentum))

    def loss(params: Any, statistics: Any) -> Any:
        logits, changed = net.apply({"params": params, **statistics}, x, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), changed

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params: Any, statistics: Any, state: Any) -> Any:
        (value, changed), gradient = jax.value_and_grad(loss, has_aux=True)(params, statistics)
        if rho:
            scale = rho / optax.tree.norm(gradient)
            perturbed = jax.tree.map(lambda w, g: w + scale * g, params, gradient)
            gradient = jax.grad(lambda p, s: loss(p, s)[0])(perturbed, statistics)
        updates, state = descent.update(gradient, state, params)
        return optax.apply_updates(params, updates), changed, state, value

    params = variables["params"]
    statistics = {key: value for key, value in variables.items() if key != "params"}
    # Copies, since the step donates its arguments and the caller keeps the variables.
    now = [*jax.tree.map(jnp.array, (params, statistics)), descent.init(params)]

    def once() -> Any:
        *now[:], value = step(*now)
        return value

    return once, variables

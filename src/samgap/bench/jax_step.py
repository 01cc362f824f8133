"""For comparison: the paper's training step in JAX and Flax as one jitted function, like the official code.

It computes two gradients with an ascent of length rho in between, and takes a step of optax's SGD with momentum.
Shapes: B images in a batch, c channels, C classes.
"""

from collections.abc import Callable, Mapping
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
    dtype: Any = None  # of the computation, None is float32; weights are float32
    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images (B, h, w, c) to logits (B, C)."""
        x = images.reshape(len(images), -1)
        for neurons in (300, 100):
            x = nn.relu(nn.Dense(int(neurons * self.width + 1e-9), dtype=self.dtype)(x))
        return nn.Dense(self.classes, dtype=self.dtype)(x)


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of three, and a shortcut."""

    channels: int
    stride: int
    bottleneck: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (B, h, w, c) to (B, h / stride, w / stride, channels), four times as many channels in a bottleneck."""
        norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        layer = partial(conv, dtype=self.dtype)
        if self.bottleneck:
            outputs = 4 * self.channels
            y = nn.relu(norm()(layer(self.channels, (1, 1))(x)))
            y = nn.relu(norm()(layer(self.channels, (3, 3), strides=self.stride)(y)))
            y = norm(scale_init=nn.initializers.zeros)(layer(outputs, (1, 1))(y))
        else:
            outputs = self.channels
            y = nn.relu(norm()(layer(self.channels, (3, 3), strides=self.stride)(x)))
            y = norm()(layer(self.channels, (3, 3))(y))
        if x.shape[-1] != outputs:
            x = norm()(layer(outputs, (1, 1), strides=self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A stem of f filters, four stages of blocks, a mean over pixels, and a linear layer.

    ResNet-18 has two plain blocks in each stage and a 3x3 stem. ResNet-50 (`fifty`) has 3, 4, 6, 3 bottlenecks and a
    7x7 stem with pooling, which divides height and width by four.
    """

    width: int
    fifty: bool
    dtype: Any = None
    classes: int = 10

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Map images (B, h, w, c) to logits (B, C)."""
        kernel, stride = ((7, 7), 2) if self.fifty else ((3, 3), 1)
        x = conv(self.width, kernel, strides=stride, dtype=self.dtype)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9, dtype=self.dtype)(x))
        if self.fifty:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))  # type: ignore[no-untyped-call]
        for stage, blocks in enumerate((3, 4, 6, 3) if self.fifty else (2, 2, 2, 2)):
            for block in range(blocks):
                x = Block(self.width * 2**stage, 2 if stage and not block else 1, self.fifty, self.dtype)(x)
        return nn.Dense(self.classes, dtype=self.dtype)(x.mean(axis=(1, 2)))


def stepper(
    model: str, width: float, images: Any, labels: Any, *, rho: float, sgd: Mapping[str, float], dtype: Any = None,
    classes: int = 10,
) -> tuple[Callable[[], Any], Any]:  # fmt: skip
    """Return a function that starts one step on a fixed batch, without waiting for its end.

    Args:
        model: mlp, resnet18 or resnet50.
        width: p of the MLP, or f of a ResNet.
        images, labels: numpy arrays (B, c, h, w) and (B,).
        rho: radius of the ascent; 0 is SGD with one pass.
        sgd: lr, momentum and weight_decay.
        dtype: of the layers' computation; None is float32.
        classes: C.

    Returns:
        The function, which returns the loss before the step, a scalar; and the initial variables.
    """
    net = MLP(width, dtype, classes) if model == "mlp" else ResNet(int(width), model == "resnet50", dtype, classes)
    x, y = jnp.asarray(images).transpose(0, 2, 3, 1), jnp.asarray(labels)
    variables = net.init(jax.random.PRNGKey(0), x)
    # Weight decay acts on the final gradient and not on the ascent, as in samgap.
    descent = optax.chain(
        optax.add_decayed_weights(sgd["weight_decay"]), optax.sgd(sgd["lr"], momentum=sgd["momentum"])
    )
    params = variables["params"]
    statistics = {key: value for key, value in variables.items() if key != "params"}
    # The step donates its arguments, so it gets copies of the variables that are returned.
    now = [*jax.tree.map(jnp.array, (params, statistics)), descent.init(params)]
    step = _step(net, x, y, rho, descent)

    def once() -> Any:
        *now[:], value = step(*now)
        return value

    return once, variables


def _step(net: nn.Module, x: jax.Array, y: jax.Array, rho: float, descent: Any) -> Callable[..., Any]:
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

    return step

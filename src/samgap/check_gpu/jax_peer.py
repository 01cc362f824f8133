"""For comparison, a jitted step in JAX: one function on one batch, without data loading, loop or logging."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from samgap.check_gpu.bed import Bed, LeftOut, Net, optional, step_speed
from samgap.check_gpu.isolation import isolated
from samgap.check_gpu.rows import Row, Speed
from samgap.check_gpu.stopwatch import timed

# Precision -> JAX's name of it for products. With bf16-mixed, layers compute in bfloat16 and weights are float32.
PRODUCTS = {"tf32": "tensorfloat32", "32-true": "float32", "bf16-mixed": "float32"}
RHOS = (0.1, 0.0)
NETS = (  # model, width, pixels; the most informative first
    ("mlp", 1, 28), ("resnet18", 16, 32), ("resnet18", 64, 32), ("mlp", 0.1, 28), ("mlp", 10, 28), ("resnet18", 4, 32),
    ("resnet18", 128, 32), ("resnet50", 64, 224),
)  # fmt: skip


def jax(bed: Bed) -> Iterator[Row]:
    """Time the steps of as many nets as fit in the time, since compiling one takes from seconds to a minute."""
    if missing := [name for name in ("jax", "flax", "optax") if importlib.util.find_spec(name) is None]:
        raise LeftOut(f"no {missing[0]} is installed here")
    with optional("JAX"):
        yield from isolated(_steps, bed, cut=True)


def _steps(bed: Bed) -> Iterator[Speed]:
    import jax
    import jax.numpy as jnp

    from samgap.bench import jax_step

    if not bed.rehearsal and jax.default_backend() != "gpu":
        raise LeftOut(f"JAX {jax.__version__} finds no GPU here")
    nets = [Net("mlp", 0.1, 28, 8)] if bed.rehearsal else [Net(model, width, size) for model, width, size in NETS]
    precisions = [precision for precision in PRODUCTS if precision in bed.precisions]
    for (rho, precision, net), seconds in bed.each([*product(RHOS[: 1 if bed.rehearsal else None], precisions, nets)]):
        x = torch.randn(net.batch_size, *net.shape, generator=torch.Generator().manual_seed(0)).numpy()
        y = (torch.arange(net.batch_size) % 10).numpy()
        dtype: Any = jnp.bfloat16 if precision == "bf16-mixed" else None
        with jax.default_matmul_precision(PRODUCTS[precision]):
            sgd = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
            once, _ = jax_step.stepper(net.model, net.width, x, y, rho=rho, sgd=sgd, dtype=dtype, classes=net.classes)
            last: list[Any] = [None]

            def call(once: Any = once, last: list[Any] = last) -> None:
                last[0] = once()

            taken = timed(call, lambda last=last: last[0].block_until_ready(), seconds)  # type: ignore[misc]
        row = replace(step_speed(bed, net, rho, precision, taken, what=" in JAX"), case={})
        ours = bed.steps.get((net.model, net.width, rho, precision))
        yield replace(row, against="ours" if ours else "", ratio=row.seconds / ours.seconds if ours else None)

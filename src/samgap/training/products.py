"""Matrix products of the compiled step with MKL (torch's default) or oneDNN, whichever is faster for each shape.

Either library can be up to twice as fast, depending on processor and shape. MKL can be faster with swapped operands:
(b' a')' is the same product. All ways are timed once per shape. The choice is saved next to Inductor's cache, so that
all runs on a machine use the same way and are bitwise reproducible.
For small products the call of a library takes longer than the product, so Inductor compiles them as loops.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule, Node

from samgap import files, provenance

MKL, SWAPPED, ONEDNN, LOOPS = "mkl", "mkl swapped", "onednn", "loops"
SMALL = 40_000  # products with at most so many multiplications are loops
# A way is used instead of MKL's if it takes less than this share of the time. The margin is for timing noise, and with
# SWAPPED also for the operations that read the result, which is column-major.
GAINS = {ONEDNN: 0.9, SWAPPED: 0.75}
Chosen = dict[str, str]  # name of a product -> its way: a library, or loops


class Product(NamedTuple):
    """A matrix product: a (m, k) times b (k, n), float32."""

    m: int
    k: int
    n: int
    transposed: tuple[bool, bool]  # whether a and b are column-major in memory

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n} {''.join('nt'[transposed] for transposed in self.transposed)}"

    def operands(self) -> list[Tensor]:
        """Return a and b for timing; all ones, since their values do not affect the time."""
        shapes = (self.m, self.k), (self.k, self.n)
        return [
            torch.ones(shape[::-1]).t() if transposed else torch.ones(shape)
            for shape, transposed in zip(shapes, self.transposed, strict=True)
        ]


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


def _swapped(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(b.t(), a.t()).t()


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {MKL: torch.mm, SWAPPED: _swapped, ONEDNN: _by_onednn}
# Inductor caches compiled graphs by operator names, so a change of the lowering needs another name here.
_library: Any = torch.library.Library("samgap", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("product(Tensor a, Tensor b, str library) -> Tensor")
_library.impl("product", lambda a, b, library: WAYS.get(library, torch.mm)(a, b), "CPU")
_library.impl("product", lambda a, b, library: a.new_empty(a.shape[0], b.shape[1]), "Meta")


def unfused_addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Compute `addmm` as a product and a sum: Inductor fuses the sum, which is faster than addmm's copy of the bias."""
    product = a @ b if alpha == 1 else alpha * (a @ b)
    if beta == 0:  # then addmm ignores the bias, even NaN
        return product
    return product + (bias if beta == 1 else beta * bias)


def place(graph: GraphModule, choice: str, known: Chosen) -> Chosen:
    """Assign each float32 product of a traced step to a way of computing it.

    Args:
        graph: traced with fake tensors and with `unfused_addmm` in place of addmm; changed in place.
        choice: a way for all products, or auto, which makes small products loops, and times all ways for the others.
        known: way of each product before the run was stopped; auto keeps it.

    Returns:
        The way of each product; empty if oneDNN cannot be used.
    """
    nodes = {node: product for node in graph.graph.nodes if (product := _product(node))}
    names = {str(product): product for product in nodes.values()}
    if lacking():
        return {}
    if choice == "auto":
        small = {name: LOOPS for name, (m, k, n, _) in names.items() if m * k * n <= SMALL}
        chosen = {name: library for name, library in (small | known).items() if name in names}
        chosen |= _fastest({name: product for name, product in names.items() if name not in chosen})
    else:
        chosen = dict.fromkeys(names, choice)
    for node, product in nodes.items():
        node.target = torch.ops.samgap.product.default
        node.args = (*node.args, chosen[str(product)])
    graph.recompile()
    return chosen


def lacking() -> str | None:
    """Return the reason that oneDNN cannot be used, or None if it can."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this torch has no oneDNN"
    try:
        _lower()
    except (ImportError, AttributeError) as error:
        return f"torch {torch.__version__} does not take oneDNN's products into a graph ({error})"
    return None


def seconds(product: Product) -> dict[str, float]:
    """Return the seconds of a product in each way: the minimum of a few alternating samples."""
    calls = {name: functools.partial(way, *product.operands()) for name, way in WAYS.items()}
    least = {}
    for name, call in calls.items():
        for _ in range(2):  # the first call creates the kernel
            least[name] = _measure(call, 1)
    started, samples = time.perf_counter(), 0
    while samples < 3 or (samples < 10 and time.perf_counter() - started < 0.02):
        for name, call in calls.items():
            least[name] = min(least[name], _measure(call, max(1, int(1e-4 / max(least[name], 1e-7)))))
        samples += 1
    return least


@contextlib.contextmanager
def locked(name: str) -> Iterator[Path | None]:
    """Hold a machine-wide lock and yield a folder next to Inductor's cache.

    If the folder is not writable, yield None without a lock: processes then share nothing.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        folder = Path(cache_dir()) / "samgap"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except (OSError, NotImplementedError):  # NotImplementedError: the file system has no locks
        yield None
        return
    try:
        yield folder
    finally:
        lock.release()


def _product(node: Node) -> Product | None:
    """Return the product that a graph node computes, or None if there is no choice."""
    if node.target is not torch.ops.aten.mm.default:
        return None
    operands: Any = node.args
    a, b = (operand.meta["val"] for operand in operands)
    (m, k), n = a.shape, b.shape[1]
    dense = all(t.stride() in ((t.shape[1], 1), (1, t.shape[0])) for t in (a, b))
    if a.dtype != torch.float32 or a.device.type != "cpu" or min(m, k, n) < 2 or not dense:
        return None
    return Product(m, k, n, (a.stride(0) == 1, b.stride(0) == 1))


@functools.cache
def _lower() -> None:
    """Register the lowering of samgap::product with Inductor.

    Inductor's own lowering to oneDNN requires constant weights, and copies column-major operands.
    """
    from torch._inductor import ir, lowering, mkldnn_ir

    unary: Any = mkldnn_ir.LinearUnary
    output: Any = mkldnn_ir._create_output_node
    aten, known = torch.ops.aten, lowering.lowerings
    by_mkl, times, total = known[aten.mm.default], known[aten.mul.Tensor], known[aten.sum.dim_IntList]
    unsqueeze = known[aten.unsqueeze.default]

    def product(a: Any, b: Any, library: str) -> Any:
        if library == MKL:
            return by_mkl(a, b)
        if library == SWAPPED:
            return lowering.permute(by_mkl(*(lowering.permute(t, [1, 0]) for t in (b, a))), [1, 0])
        if library == LOOPS:
            # Vectors of the sum run along rows of b, so these must be contiguous.
            rows = ir.ExternKernel.require_contiguous(lowering.clone(b))
            return total(times(unsqueeze(a, 2), unsqueeze(rows, 0)), [1])
        size = [a.get_size()[0], b.get_size()[1]]
        layout = ir.FixedLayout(device=a.get_device(), dtype=a.get_dtype(), size=size)
        operands = [ir.ExternKernel.realize_input(operand) for operand in (a, lowering.permute(b, [1, 0]))]
        node = unary(layout=layout, inputs=operands, constant_args=[None, "none", [-1], ""])
        return ir.TensorBox.create(output(node))

    lowering.register_lowering(torch.ops.samgap.product.default, type_promotion_kind=None)(product)


def _measure(call: Callable[[], Tensor], times: int) -> float:
    started = time.thread_time()  # excludes other work on this core
    for _ in range(times):
        call()
    return (time.thread_time() - started) / times


_choices: dict[str, Chosen] = {}  # machine -> ways; used by this process alone if they cannot be saved


def _fastest(products: dict[str, Product]) -> Chosen:
    machine = f"{provenance.processor()}, torch {torch.__version__}, threads {torch.get_num_threads()}"
    with locked("products") as folder:
        path = folder / "products.json" if folder else None
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # no file yet, or not a valid one
            saved = json.loads(path.read_text()) if path else {}
            _choices.update({key: {n: by for n, by in part.items() if by in WAYS} for key, part in saved.items()})
        chosen = _choices.setdefault(machine, {})
        new = [name for name in products if name not in chosen]
        for name in new:
            taken = seconds(products[name])
            faster = [way for way, gain in GAINS.items() if taken[way] < gain * taken[MKL]]
            chosen[name] = min(faster, key=taken.__getitem__, default=MKL)
        if path and new:
            with contextlib.suppress(OSError):  # a full disk
                files.replace_text(path, json.dumps(_choices, indent=1) + "\n")
    return {name: chosen[name] for name in products}

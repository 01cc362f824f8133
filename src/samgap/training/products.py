"""Matrix products of the compiled step by MKL (torch's default) or oneDNN, whichever is faster for each shape.

Either library can be up to twice as fast, depending on processor and shape. Both are timed once per shape. The choice
is kept beside Inductor's cache, so that all runs on a machine use the same library and repeat bit for bit.
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

MKL, ONEDNN = "mkl", "onednn"
GAIN = 0.9  # oneDNN is chosen below this share of MKL's time; if both are about equal, noise does not change the choice
Chosen = dict[str, str]  # name of a product to its library


class Product(NamedTuple):
    """A matrix product: a (m, k) times b (k, n), float32."""

    m: int
    k: int
    n: int
    turned: tuple[bool, bool]  # whether a and b are column-major in memory

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n} {''.join('nt'[turned] for turned in self.turned)}"

    def operands(self) -> list[Tensor]:
        """Return a and b for timing; all ones, since values do not matter."""
        shapes = (self.m, self.k), (self.k, self.n)
        return [
            torch.ones(shape[::-1]).t() if turned else torch.ones(shape)
            for shape, turned in zip(shapes, self.turned, strict=True)
        ]


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {MKL: torch.mm, ONEDNN: _by_onednn}
# Inductor caches compiled graphs by the names in them: change this name with the lowering.
_ours: Any = torch.library.Library("samgap", "FRAGMENT")  # type: ignore[no-untyped-call]
_ours.define("product(Tensor a, Tensor b, str library) -> Tensor")
_ours.impl("product", lambda a, b, library: WAYS[library](a, b), "CPU")
_ours.impl("product", lambda a, b, library: a.new_empty(a.shape[0], b.shape[1]), "Meta")


def unfused_addmm(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Replace `addmm` in a trace by product and sum: Inductor fuses the sum, which is faster than addmm's copy."""
    return a @ b + bias


def place(graph: GraphModule, choice: str, known: Chosen) -> Chosen:
    """Assign each float32 product of a traced step to a library.

    Args:
        graph: traced with fake tensors and with `unfused_addmm` in place of addmm; changed in place.
        choice: mkl, onednn, or auto, which times both and takes the faster.
        known: the choice in an earlier part of the run, which auto keeps.

    Returns:
        The library of each product; empty without oneDNN.
    """
    found = {node: product for node in graph.graph.nodes if (product := _product(node))}
    names = {str(product): product for product in found.values()}
    if lacking():
        return {}
    if choice == "auto":
        chosen = {name: known[name] for name in names if name in known}
        chosen |= _fastest({name: product for name, product in names.items() if name not in known})
    else:
        chosen = dict.fromkeys(names, choice)
    for node, product in found.items():
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
    """Return the time of a product in each library, in seconds: the minimum of a few alternating tries."""
    both = {name: functools.partial(way, *product.operands()) for name, way in WAYS.items()}
    least = {}
    for name, way in both.items():
        for _ in range(2):  # the first call creates the kernel
            least[name] = _measure(way, 1)
    started, tries = time.perf_counter(), 0
    while tries < 3 or (tries < 10 and time.perf_counter() - started < 0.02):
        for name, way in both.items():
            least[name] = min(least[name], _measure(way, max(1, int(1e-4 / least[name]))))
        tries += 1
    return least


@contextlib.contextmanager
def alone(name: str) -> Iterator[Path | None]:
    """Hold the lock `name` of this machine and yield a folder beside Inductor's cache.

    Without a writable folder, yield None and hold no lock: then processes share nothing.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        folder = Path(cache_dir()) / "samgap"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except (OSError, NotImplementedError):  # NotImplementedError: the disk has no locks
        yield None
        return
    try:
        yield folder
    finally:
        lock.release()


def _product(node: Node) -> Product | None:
    """Return the product of a graph node, or None if the node has no choice of library."""
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
    """Register our product with Inductor.

    Inductor's own lowering for oneDNN requires constant weights, and copies column-major operands.
    """
    from torch._inductor import ir, lowering, mkldnn_ir

    unary: Any = mkldnn_ir.LinearUnary
    output: Any = mkldnn_ir._create_output_node
    by_mkl = lowering.lowerings[torch.ops.aten.mm.default]

    def product(a: Any, b: Any, library: str) -> Any:
        if library == MKL:
            return by_mkl(a, b)
        size = [a.get_size()[0], b.get_size()[1]]
        layout = ir.FixedLayout(device=a.get_device(), dtype=a.get_dtype(), size=size)
        operands = [ir.ExternKernel.realize_input(operand) for operand in (a, lowering.permute(b, [1, 0]))]
        made = unary(layout=layout, inputs=operands, constant_args=[None, "none", [-1], ""])
        return ir.TensorBox.create(output(made))

    lowering.register_lowering(torch.ops.samgap.product.default, type_promotion_kind=None)(product)


def _measure(way: Callable[[], Tensor], times: int) -> float:
    started = time.thread_time()  # what else runs on this core does not count
    for _ in range(times):
        way()
    return (time.thread_time() - started) / times


_choices: dict[str, Chosen] = {}  # machine -> choice; for this process, if the disk cannot keep it


def _fastest(products: dict[str, Product]) -> Chosen:
    machine = f"{provenance.processor()}, torch {torch.__version__}, threads {torch.get_num_threads()}"
    with alone("products") as folder:
        path = folder / "products.json" if folder else None
        with contextlib.suppress(OSError, ValueError):  # no file yet, or not a valid one
            _choices.update(json.loads(path.read_text()) if path else {})
        here = _choices.setdefault(machine, {})
        new = [name for name in products if name not in here]
        for name in new:
            taken = seconds(products[name])
            here[name] = ONEDNN if taken[ONEDNN] < GAIN * taken[MKL] else MKL
        if path and new:
            with contextlib.suppress(OSError):  # a full disk
                files.replace_text(path, json.dumps(_choices, indent=1) + "\n")
    return {name: here[name] for name in products}

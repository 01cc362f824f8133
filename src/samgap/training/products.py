"""Matrix products of the compiled step, by MKL (torch's own) or by oneDNN: the faster here, shape by shape.

Which it is depends on the processor and on the shape, by up to a factor of two both ways. Both are timed once, and what
was found is kept beside Inductor's cache, so that every run of a machine takes the same and stays bit for bit the same.
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
GAIN = 0.9  # share of MKL's time from which oneDNN is taken: two that are alike stay MKL's, whatever the noise
Chosen = dict[str, str]  # name of a product to its library


class Product(NamedTuple):
    """a (m, k) times b (k, n), float32."""

    m: int
    k: int
    n: int
    turned: tuple[bool, bool]  # a, b: whether it lies in memory by columns

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n} {''.join('nt'[turned] for turned in self.turned)}"

    def operands(self) -> list[Tensor]:
        """a and b: ones, since the values do not matter."""
        shapes = (self.m, self.k), (self.k, self.n)
        return [
            torch.ones(shape[::-1]).t() if turned else torch.ones(shape)
            for shape, turned in zip(shapes, self.turned, strict=True)
        ]


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return found


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {MKL: torch.mm, ONEDNN: _by_onednn}
# Inductor keeps what it compiled by the names in a graph: another lowering wants another name.
_ours: Any = torch.library.Library("samgap", "FRAGMENT")  # type: ignore[no-untyped-call]
_ours.define("product(Tensor a, Tensor b, str library) -> Tensor")
_ours.impl("product", lambda a, b, library: WAYS[library](a, b), "CPU")
_ours.impl("product", lambda a, b, library: a.new_empty(a.shape[0], b.shape[1]), "Meta")


def apart(bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`addmm` in two parts, for a trace: Inductor joins the sum to what follows, which is less than addmm's copy."""
    return a @ b + bias


def place(graph: GraphModule, choice: str, known: Chosen) -> Chosen:
    """Give each float32 product of a traced step to the library that is the faster.

    Args:
        graph: of fake tensors, its addmm taken `apart`; changed in place.
        choice: auto times both; mkl and onednn are what they say.
        known: what an earlier part of the run took, and what auto keeps to.

    Returns:
        The library of each product.
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
    """Why there are no products by oneDNN, or None."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this torch has no oneDNN"
    try:
        _lower()
    except (ImportError, AttributeError) as error:
        return f"torch {torch.__version__} does not take oneDNN's products into a graph ({error})"
    return None


def seconds(product: Product) -> dict[str, float]:
    """What it takes either library, the least of a few tries in turn."""
    both = {name: functools.partial(way, *product.operands()) for name, way in WAYS.items()}
    least = {}
    for name, way in both.items():
        for _ in range(2):  # the first makes the kernel
            least[name] = _clock(way, 1)
    started, tries = time.perf_counter(), 0
    while tries < 3 or (tries < 10 and time.perf_counter() - started < 0.02):
        for name, way in both.items():
            least[name] = min(least[name], _clock(way, max(1, int(1e-4 / least[name]))))
        tries += 1
    return least


@contextlib.contextmanager
def alone(name: str) -> Iterator[Path | None]:
    """A folder beside Inductor's cache, in which one process of a machine at a time does what the name says.

    None where nothing can be written: then there is nothing to share, and no turn to wait for.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        folder = Path(cache_dir()) / "samgap"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except (OSError, NotImplementedError):  # the last of a disk without locks
        yield None
        return
    try:
        yield folder
    finally:
        lock.release()


def _product(node: Node) -> Product | None:
    """What a node of a traced graph multiplies, where there is a choice."""
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
    """Teach Inductor our product.

    Its own lowering of oneDNN's wants constant weights, and copies operands that lie by columns.
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


def _clock(way: Callable[[], Tensor], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        way()
    return (time.perf_counter() - started) / times


_found: dict[str, Chosen] = {}  # by machine; for this process, where nothing can be kept


def _fastest(products: dict[str, Product]) -> Chosen:
    machine = f"{provenance.processor()}, torch {torch.__version__}, threads {torch.get_num_threads()}"
    with alone("products") as folder:
        path = folder / "products.json" if folder else None
        with contextlib.suppress(OSError, ValueError):  # not there yet, or not ours
            _found.update(json.loads(path.read_text()) if path else {})
        here = _found.setdefault(machine, {})
        new = [name for name in products if name not in here]
        for name in new:
            taken = seconds(products[name])
            here[name] = ONEDNN if taken[ONEDNN] < GAIN * taken[MKL] else MKL
        if path and new:
            with contextlib.suppress(OSError):  # a full disk
                files.replace_text(path, json.dumps(_found, indent=1) + "\n")
    return {name: here[name] for name in products}

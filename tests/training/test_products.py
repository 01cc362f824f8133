"""Products are computed in the fastest way, which is measured once on a machine; all ways are right."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch._inductor.utils import fresh_cache
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from samgap import provenance
from samgap.training import products
from samgap.training.products import Product


def traced(dtype: torch.dtype = torch.float32) -> tuple[GraphModule, list[torch.Tensor]]:
    """Trace x w' + b and the gradient of w, as in a step; and a product that cannot use oneDNN."""
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, generator=draw, dtype=dtype) for shape in ((64, 60), (50, 60), (50,), (64, 50))]

    def step(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, g: torch.Tensor) -> list[torch.Tensor]:
        return [torch.addmm(b, x, w.t()), g.t() @ x, x[:, ::2] @ w[:, ::2].t()]

    return make_fx(step, {torch.ops.aten.addmm.default: products.unfused_addmm}, tracing_mode="fake")(*inputs), inputs


NAMES = ["64x60x50 nt", "50x64x60 tn"]


def test_products_of_all_ways_are_the_same() -> None:
    graph, inputs = traced()
    right = graph(*inputs)
    assert products.place(graph, "mkl", {}) == dict.fromkeys(NAMES, "mkl")
    assert graph.code.count("torch.ops.samgap.product") == 2
    for one, other in zip(graph(*inputs), right, strict=True):
        assert torch.equal(one, other)
    for way in ("mkl swapped", "onednn"):
        graph, _ = traced()
        assert products.place(graph, way, {}) == dict.fromkeys(NAMES, way)
        for one, other in zip(graph(*inputs), right, strict=True):
            torch.testing.assert_close(one, other)
    assert products.place(traced(torch.float64)[0], "onednn", {}) == {}


def test_small_products_are_loops_and_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_fastest", lambda large: dict.fromkeys(large, "mkl"))
    monkeypatch.setattr(products, "SMALL", 64 * 60 * 50)
    graph, inputs = traced()
    right = graph(*inputs)
    assert products.place(graph, "auto", {}) == dict.fromkeys(NAMES, "loops")
    for one, other in zip(graph(*inputs), right, strict=True):
        assert torch.equal(one, other)
    assert products.place(traced()[0], "mkl", {}) == dict.fromkeys(NAMES, "mkl")
    # A run that began with a library keeps it.
    assert products.place(traced()[0], "auto", {NAMES[0]: "mkl"}) == dict(zip(NAMES, ("mkl", "loops"), strict=True))
    monkeypatch.setattr(products, "SMALL", 64 * 60 * 50 - 1)
    assert products.place(traced()[0], "auto", {}) == dict.fromkeys(NAMES, "mkl")


def test_each_product_is_timed_once_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []

    def seconds(product: Product) -> dict[str, float]:
        timed.append(str(product))
        if product.m == 64:  # gains that are too small
            return {"mkl": 1.0, "mkl swapped": 0.8, "onednn": 0.95}
        return {"mkl": 1.0, "mkl swapped": 0.5, "onednn": 0.6}

    monkeypatch.setattr(products, "seconds", seconds)
    expected = dict(zip(NAMES, ("mkl", "mkl swapped"), strict=True))
    with fresh_cache():
        for _ in range(2):
            monkeypatch.setattr(products, "_choices", {})  # as in another process
            assert products.place(traced()[0], "auto", {}) == expected
        assert timed == NAMES
        monkeypatch.setattr(torch, "get_num_threads", lambda: 64)  # another machine
        known = {NAMES[0]: "onednn"}
        assert products.place(traced()[0], "auto", known) == expected | known
        assert timed == [*NAMES, NAMES[1]]


def test_where_nothing_can_be_kept_a_process_times_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    first, second = traced()[0], traced()[0]
    assert products.lacking() is None  # import what depends on the folder first
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(products, "_choices", {})
    chosen = products.place(first, "auto", {})
    monkeypatch.setattr(products, "seconds", lambda product: 1 / 0)
    assert products.place(second, "auto", {}) == chosen
    assert set(chosen) == set(NAMES)


@pytest.mark.parametrize("text", ["{", "null", "[1]", '{"machine": null}', '{"machine": {"64x60x50 nt": []}}'])
def test_a_damaged_file_of_choices_is_made_anew(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = f"{provenance.processor()}, torch {torch.__version__}, threads {torch.get_num_threads()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(products, "_choices", {})
    path = tmp_path / "samgap" / "products.json"
    path.parent.mkdir()
    path.write_text(text.replace("machine", machine))
    monkeypatch.setattr(products, "seconds", lambda product: {"mkl": 1.0, "mkl swapped": 1.0, "onednn": 0.5})
    chosen = products.place(traced()[0], "auto", {})
    (kept,) = json.loads(path.read_text()).values()
    assert kept == chosen == dict.fromkeys(NAMES, "onednn")


def test_a_product_too_fast_for_the_clock_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_measure", lambda call, times: 0.0)
    assert products.seconds(Product(2, 2, 2, (False, False))) == dict.fromkeys(products.WAYS, 0.0)


@pytest.mark.parametrize(("beta", "alpha"), [(0.5, 1), (1, 2), (0, 1)])
def test_a_sum_and_a_product_are_scaled_like_addmm(beta: float, alpha: float) -> None:
    _, (x, w, b, _) = traced()
    b[0] = torch.nan
    plain = partial(torch.addmm, beta=beta, alpha=alpha)
    graph = make_fx(plain, {torch.ops.aten.addmm.default: products.unfused_addmm}, tracing_mode="fake")(b, x, w.t())
    assert "addmm" not in graph.code
    torch.testing.assert_close(graph(b, x, w.t()), plain(b, x, w.t()), equal_nan=True)


def test_without_onednn_products_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert products.lacking() == "this torch has no oneDNN"
    graph, _ = traced()
    assert products.place(graph, "onednn", {}) == {}
    assert "samgap" not in graph.code

"""The compiled step equals the eager step up to rounding, and a warning says why it is not used."""

import copy
import dataclasses
import fcntl
import itertools
import logging
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import (
    Callback,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
    TQDMProgressBar,
)
from torch import Tensor, _inductor, nn
from torch._dynamo.utils import counters
from torch._inductor import codecache, config
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch._inductor.utils import fresh_cache
from torch.func import functional_call
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim import SGD

from samgap import losses
from samgap.data.batches import Batch
from samgap.data.sets import Normalize
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.optim.asam import ASAM
from samgap.optim.gsam import GSAM
from samgap.optim.sam import SAM
from samgap.optim.sam_unnormalized import SAMUnnormalized
from samgap.optim.wrapper import Wrapper
from samgap.pruning import mask
from samgap.pruning.random import prune
from samgap.training import build, compiled, hooks, process, products, trace
from samgap.training.layout import Layout
from samgap.training.run import run
from samgap.training.steppers import EagerStepper
from samgap.training.task import GapTask
from tests.pruning.nets import EXAMPLES
from tests.training.nets import Conv, Wide
from tests.training.test_run import Stop, curve, lasting

pytestmark = pytest.mark.needs("g++")
Tiny = Callable[..., dict[str, Any]]
SHAPE, BATCH, STEPS = (1, 8, 8), 16, 50


ARMS: dict[str, Callable[[SGD, nn.Module], Wrapper]] = {
    "sgd": lambda base, net: Wrapper(base),
    "sam": lambda base, net: SAM(base, 0.1, net),
    "unnormalized": lambda base, net: SAMUnnormalized(base, 0.05, net),
    "asam": lambda base, net: ASAM(base, 0.5, net),
    "gsam": lambda base, net: GSAM(base, 0.1, net),
    "asam, eta": lambda base, net: ASAM(base, 0.5, net, eta=0.3),
    "gsam, alpha": lambda base, net: GSAM(base, 0.1, net, alpha=2.0),
    "sam, interval": lambda base, net: SAM(base, 0.1, net, interval=3),
    "asam, interval": lambda base, net: ASAM(base, 0.5, net, interval=3),
}


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: MLP(SHAPE, 10, 0.1),
    "conv": lambda: Conv(SHAPE, 10),
    "wide": lambda: Wide(SHAPE, 10),
}


@dataclasses.dataclass
class Trained:
    """The state after 50 steps."""

    net: nn.Module
    optimizer: Wrapper
    losses: list[float]
    correct: list[int]
    stepper: str


class Cover:
    """The part of Lightning's optimizer wrapper that the steppers use."""

    def __init__(self, optimizer: Wrapper) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups
        self.step, self.zero_grad = optimizer.step, optimizer.zero_grad
        self._on_before_step = self._on_after_step = lambda: None


def eager_stepper(net: nn.Module, optimizer: Wrapper, clip_norm: float | None = None) -> EagerStepper:
    scale, layout = Normalize(16, (0.3,), (0.4,)), Layout(BATCH, BATCH, 1, BATCH)
    return EagerStepper(net, losses.cross_entropy, Cover(optimizer), Tensor.backward, scale, layout, clip_norm)


def train(
    kind: str, net: nn.Module, arm: str, momentum: float, sparsity: float, clip_norm: float | None = None
) -> Trained:
    """Take 50 steps on a copy of `net`, with weight decay, a schedule, smaller last batches and measured ascents."""
    net = copy.deepcopy(net)
    masks = prune(net, EXAMPLES, sparsity=sparsity, seed=0) if sparsity else {}
    mask.apply(net, masks)
    optimizer = ARMS[arm](SGD(net.parameters(), lr=0.05, momentum=momentum, weight_decay=1e-2), net)
    schedule = build.Schedule(optimizer, lambda step: 1 / (1 + step / 10))
    stepper = eager_stepper(net, optimizer, clip_norm)
    if kind == "compiled":
        stepper = compiled.CompiledStepper(stepper, masks, "auto")
    draw = torch.Generator().manual_seed(1)
    results = []
    for step in range(STEPS):
        if step == 20 and isinstance(optimizer, SAM):
            optimizer.measuring = True
        size = 5 if step % 10 == 9 else BATCH
        images = torch.randint(0, 17, (size, *SHAPE), generator=draw).float()
        results.append(stepper.step(Batch(images, torch.randint(0, 10, (size,), generator=draw), size)))
        schedule.step()
    losses_, correct = [float(r.loss) for r in results], [int(r.correct) for r in results]
    return Trained(net, optimizer, losses_, correct, stepper.name)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the step as it is traced, without compiling it."""
    monkeypatch.setattr(compiled, "_kept", {})
    monkeypatch.setattr(_inductor, "compile", lambda graph, *_, **__: graph)


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile the smaller half of the 32-bit products as loops, and the others in both other ways, without timing."""
    ways = itertools.cycle(("onednn", "mkl swapped"))
    monkeypatch.setattr(products, "SMALL", 5_000)
    monkeypatch.setattr(products, "_fastest", lambda large: dict(zip(large, ways, strict=False)))


def hold(arm: str, model: str, momentum: float, sparsity: float, dtype: torch.dtype, clip_norm: float | None) -> None:
    """Assert that 50 compiled steps equal 50 eager ones."""
    torch.manual_seed(0)
    net = NETS[model]().to(dtype)
    plain, fast = (train(kind, net, arm, momentum, sparsity, clip_norm) for kind in ("eager", "compiled"))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3
    assert fast.losses == pytest.approx(plain.losses, rel=tolerance, abs=tolerance)
    assert plain.losses[0] != plain.losses[-1]
    for name, value in plain.net.state_dict().items():
        assert torch.allclose(fast.net.state_dict()[name], value, rtol=tolerance, atol=tolerance), name
        if sparsity:  # pruned weights stay 0
            assert torch.equal(fast.net.state_dict()[name] == 0, value == 0), name
    assert (plain.stepper, fast.stepper) == ("eager", "compiled" if dtype == torch.float64 else "compiled, oneDNN")
    if dtype == torch.float64:
        assert fast.correct == plain.correct
    if isinstance(plain.optimizer, SAM) and isinstance(fast.optimizer, SAM):
        assert fast.optimizer.ascents == plain.optimizer.ascents == (17 if "interval" in arm else 50)
        assert fast.optimizer.measured is not None
        assert plain.optimizer.measured is not None
        assert float(fast.optimizer.measured.cosine) == pytest.approx(float(plain.optimizer.measured.cosine), rel=1e-2)
    saved = [trained.optimizer.state_dict() for trained in (plain, fast)]
    assert [list(state) for state in saved[0]["state"].values()] == [
        list(state) for state in saved[1]["state"].values()
    ]
    assert saved[0]["param_groups"] == saved[1]["param_groups"]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("avx2", "dtype"), [(True, torch.float32), (False, torch.uint8)])
def test_masks_that_change_between_blocks_are_followed_and_bytes_are_read_in_the_fast_way(
    avx2: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "AVX2", avx2)
    images = torch.randint(0, 17, (2 * BATCH, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batches = [Batch(part, torch.arange(BATCH) % 10, BATCH) for part in images.split(BATCH)]
    nets = []
    for kind in ("eager", "compiled"):
        torch.manual_seed(0)
        net = MLP(SHAPE, 10, 0.1)
        masks = prune(net, EXAMPLES, sparsity=0.5, seed=0)
        mask.apply(net, masks)
        stepper = eager_stepper(net, ARMS["sam"](SGD(net.parameters(), lr=0.05), net))
        if kind == "compiled":
            stepper = compiled.CompiledStepper(stepper, masks, "auto")
        for _ in range(2):
            stepper.block(batches, lambda: None)
            next(iter(masks.values()))[:2] = False
        if isinstance(stepper, compiled.CompiledStepper):
            assert {live.dtype for live in stepper.state.masks.values()} == {dtype}
        nets.append(net.state_dict())
    for name, value in nets[0].items():
        assert torch.allclose(nets[1][name], value, atol=1e-6), name


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(
    ("arm", "model", "momentum", "sparsity", "dtype", "clip_norm"),
    [  # each takes four seconds to compile
        ("sgd", "mlp", 0.9, 0, torch.float32, None),
        ("sam", "mlp", 0.9, 0.7, torch.float64, None),
        ("sam", "conv", 0.9, 0.5, torch.float64, None),
        ("sam", "wide", 0.9, 0.5, torch.float32, None),
        ("gsam", "mlp", 0.9, 0.7, torch.float32, 0.3),
    ],
)
def test_fifty_steps_equal_the_eager_ones(
    arm: str, model: str, momentum: float, sparsity: float, dtype: torch.dtype, clip_norm: float | None
) -> None:
    hold(arm, model, momentum, sparsity, dtype, clip_norm)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Wide((3, 8, 8), 10), True),
        (ResNet18((3, 8, 8), 10, 16), True),
        (ResNet18((3, 8, 8), 10, 8), False),  # a strided 1x1 convolution has 8 channels
        (nn.Conv2d(3, 16, 1), False),
        (Wide((3, 8, 8), 10).double(), False),
        (nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=32)), False),
        (nn.Sequential(nn.Conv2d(3, 32, 3), nn.ConvTranspose2d(32, 32, 3)), False),
        (nn.Flatten(), False),
    ],
)
def test_convolutions_are_channels_last_only_where_onednn_stays_inside_its_memory(
    net: nn.Module, expected: bool
) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=next(net.parameters(), torch.zeros(())).dtype)
    graph = make_fx(lambda state, x: functional_call(net, state, (x,)), tracing_mode="fake")(net.state_dict(), images)
    assert compiled.channels_last(graph) == expected


@pytest.mark.parametrize(("model", "expected"), [("mlp", False), ("conv", True)])
def test_strides_are_checked_where_a_library_may_return_others(
    model: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []

    def compile_(graph: GraphModule, *_: Any, options: dict[str, bool]) -> GraphModule:
        checked.append(options["size_asserts"])
        return graph

    monkeypatch.setattr(compiled, "_kept", {})
    monkeypatch.setattr(_inductor, "compile", compile_)
    train("compiled", NETS[model](), "sgd", 0.9, 0)
    assert checked == [expected]


def test_compiling_sets_memory_for_good_and_the_rest_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, calls = logging.getLogger("torch.utils.cpp_extension"), []
    key: Any = codecache.triton_key
    key.clear()

    def compile_(graph: GraphModule, *_: Any, options: dict[str, bool]) -> GraphModule:
        calls.append(("compile", options["memory_planning"], logger.level, key(), config.compile_threads))
        return graph

    libc = SimpleNamespace(mallopt=lambda *setting: calls.append(setting))
    monkeypatch.setattr(process, "ctypes", SimpleNamespace(CDLL=lambda name: libc))
    monkeypatch.setattr(compiled, "_kept", {})
    monkeypatch.setattr(_inductor, "compile", compile_)
    before = logger.level
    train("compiled", NETS["mlp"](), "sgd", 0.9, 0)
    assert calls == [(-4, 0), (-1, 2**31 - 1), (1, 0), ("compile", True, logging.ERROR, None, 1)]
    assert logger.level == before != logging.ERROR
    key.set("unknown")  # raises an error if it is known
    key.clear()


def test_a_function_is_for_a_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(compiled, "_kept", {})
    monkeypatch.setattr(_inductor, "compile", lambda graph, *_, **__: (made.append(1), graph)[1])
    for threads in (1, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        train("compiled", NETS["mlp"]().double(), "sgd", 0.9, 0)
    assert len(made) == 2


@pytest.mark.usefixtures("mixed")
def test_a_compiled_function_is_loaded_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    train("compiled", NETS["mlp"](), "sgd", 0.9, 0)  # as in the first test, which compiles it
    monkeypatch.setattr(compiled, "_kept", {})  # as in another process
    before = counters["inductor"].copy()
    assert train("compiled", NETS["mlp"](), "sgd", 0.9, 0).stepper == "compiled, oneDNN"
    found = counters["inductor"] - before
    assert (found["fxgraph_cache_hit"], found["fxgraph_cache_miss"]) == (1, 0)


def test_equal_views_are_one() -> None:
    graph = make_fx(lambda x: x.view(4) + x.view(4))(torch.ones(2, 2))
    trace._view_once(graph)
    assert "add.Tensor(view, view)" in graph.code


@pytest.mark.usefixtures("traced", "mixed")
@pytest.mark.parametrize(
    ("arm", "model", "dtype", "clip_norm"),
    [
        ("unnormalized", "mlp", torch.float64, None),
        ("asam", "conv", torch.float64, None),
        ("gsam", "conv", torch.float64, None),
        ("sam, interval", "conv", torch.float64, None),
        ("sam", "mlp", torch.float64, 0.3),
        ("asam, interval", "conv", torch.float64, 0.5),
        ("asam, interval", "mlp", torch.float32, 0.3),
    ],
)
def test_the_graph_of_every_variant_is_the_eager_step(
    arm: str, model: str, dtype: torch.dtype, clip_norm: float | None
) -> None:
    hold(arm, model, 0 if arm == "unnormalized" else 0.9, 0.5, dtype, clip_norm)


@pytest.mark.usefixtures("traced")
def test_numbers_of_a_variant_are_no_constants_of_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    hold("asam", "mlp", 0.9, 0, torch.float64, 0.5)
    hold("gsam", "mlp", 0.9, 0, torch.float64, 0.5)
    monkeypatch.setattr(_inductor, "compile", lambda *args, **keys: 1 / 0)
    hold("asam, eta", "mlp", 0.9, 0, torch.float64, 0.3)
    hold("gsam, alpha", "mlp", 0.9, 0, torch.float64, 0.3)


# Four batches of 24 per epoch, of which SAM measures the first.
SHORT = ("batch_size=24", "epochs=6", "precision=64-true", "trainer.checkpoint_seconds=0")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("first", "second"), [("compiled", "eager"), ("eager", "compiled"), ("compiled", "auto")])
@pytest.mark.parametrize("ascent", ["ascent.rho=0", "ascent=asam ascent.interval=5 clip_norm=0.5"])
def test_one_goes_on_where_the_other_stopped(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str, ascent: str
) -> None:
    overrides = (*SHORT, *ascent.split(), "pruner.sparsity=0.5", "schedule=cosine")
    whole = run(tiny(*overrides, f"trainer.stepper={first}"), tmp_path / "whole")
    original = GapTask.training_step

    def stop(self: GapTask, block: Any, index: int) -> None:
        if self.current_epoch == 3:
            raise Stop
        original(self, block, index)

    monkeypatch.setattr(GapTask, "training_step", stop)
    with pytest.raises(Stop):
        run(tiny(*overrides, f"trainer.stepper={first}"), tmp_path / "stopped")
    monkeypatch.setattr(GapTask, "training_step", original)
    again = run(tiny(*overrides, f"trainer.stepper={second}"), tmp_path / "stopped")
    assert (whole.stepper, again.stepper) == (first, first if second == "auto" else second)
    assert again.steps == whole.steps == 24
    if second == "auto":  # resumes with the same stepper, bit for bit
        assert lasting(again) == lasting(whole)
        assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert again.train_loss_final == pytest.approx(whole.train_loss_final, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("ascent.m=8", "it takes a batch whole"),
        ("trainer.micro_batch=8", "it takes a batch whole"),
        ("precision=bf16-mixed", "it is not for precision=bf16-mixed"),
        ("ascent.code=tests.training.nets.OwnSAM", "it does not know OwnSAM"),
        ("optimizer.nesterov=true", "it does not know SGD's nesterov"),
        ("model.code=tests.training.nets.Hooked model.width=2", "it does not call hooks of the net"),
    ],
)
def test_what_is_not_covered_runs_eagerly_and_says_so(tiny: Tiny, tmp_path: Path, settings: str, reason: str) -> None:
    overrides = settings.replace("optimizer.nesterov", "+optimizer.nesterov").split()
    eager = run(tiny(*overrides, "trainer.stepper=eager"), tmp_path / "eager")
    with pytest.warns(UserWarning, match=f"The step is not compiled and runs slower: {reason}"):
        record = run(tiny(*overrides, "trainer.stepper=compiled"), tmp_path / "compiled")
    assert lasting(record) == lasting(eager)


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (lambda net, sam: None, None),
        (lambda net, sam: mask.apply(net, {"layers.1.weight": net.layers[1].weight > 0}), None),
        (lambda net, sam: net.layers[1].register_full_backward_hook(print), "hooks of the net"),
        (lambda net, sam: net.layers[1].weight.register_hook(print), "hooks of the net"),
        (lambda net, sam: sam.register_step_pre_hook(print), "hooks of an optimizer"),
        (lambda net, sam: sam.base.register_step_post_hook(print), "hooks of an optimizer"),
    ],
)
def test_a_step_with_hooks_is_not_covered(add: Callable[[Any, Any], object], reason: str | None) -> None:
    net = MLP(SHAPE, 10, 0.1)
    eager = eager_stepper(net, SAM(SGD(net.parameters()), 0.1, net))
    add(net, eager.wrapper)
    found = compiled.uncovered(eager)
    assert found == (reason and f"it does not call {reason}")


class Watching(Callback):
    """Counts backward passes."""

    count = 0

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.count += 1


class Hooking(Callback):
    """Hooks a function to the net when training starts, after the choice of a stepper."""

    count = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.net.register_forward_hook(self.observe)

    def observe(self, net: nn.Module, *_: Any) -> None:
        self.count += net.training


@pytest.mark.parametrize(
    ("kind", "reason"), [(Watching, "on_before_backward or on_after_backward"), (Hooking, "hooks of the net")]
)
def test_a_callback_with_hooks_in_a_step_sees_every_pass(
    kind: type[Watching | Hooking], reason: str, tiny: Tiny, tmp_path: Path
) -> None:
    callback = kind()
    with pytest.warns(UserWarning, match=f"compiled and runs slower: it does not call .*{reason}"):
        record = run(tiny("trainer.stepper=compiled", "ascent.rho=0.1"), tmp_path, callbacks=[callback])
    assert (record.stepper, callback.count) == ("eager", 2 * record.steps)


def test_only_hooks_in_a_step_of_a_callback_count() -> None:
    ordinary = [TQDMProgressBar(), ModelCheckpoint(), LearningRateMonitor(), Timer(), LambdaCallback(setup=print)]
    assert not hooks.any_of_callbacks(ordinary)
    assert hooks.any_of_callbacks([LambdaCallback(on_before_backward=print)])


class Changing(Callback):
    """Changes settings of the optimizer at the start of an epoch."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        optimizer, epoch = trainer.optimizers[0], trainer.current_epoch
        optimizer.rho, optimizer.eta, optimizer.alpha = 0.1 * (epoch + 1), 0.1 * epoch, 0.2 * epoch
        (group,) = optimizer.param_groups
        group["weight_decay"], group["momentum"] = 0.1 * epoch, (0.9, 0.5, 0, 0.9)[epoch]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("ascent", ["asam", "gsam"])
def test_settings_of_the_optimizer_may_change(ascent: str, tiny: Tiny, tmp_path: Path) -> None:
    overrides = ("batch_size=24", "epochs=4", "precision=64-true", f"ascent={ascent}")
    eager, fast = (
        run(tiny(*overrides, f"trainer.stepper={kind}"), tmp_path / kind, callbacks=[Changing()])
        for kind in ("eager", "compiled")
    )
    assert fast.stepper == "compiled"
    assert fast.train_loss_final == pytest.approx(eager.train_loss_final, rel=1e-9)


class Disturbing(Callback):
    """Changes the net after the first epoch, when the step is compiled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1 and self.how == "hook":
            pl_module.net.register_forward_hook(lambda net, images, logits: 0.5 * logits)
        if trainer.current_epoch == 1 and self.how == "attribute":
            pl_module.net.layers[1].eps = 0.5


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("how", "reason"), [("hook", "it does not call hooks of the net"), ("attribute", "an attribute of the net has")]
)
def test_a_net_that_changes_after_compiling_is_eager_from_then_on(
    how: str, reason: str, tiny: Tiny, tmp_path: Path
) -> None:
    overrides = ("model.code=tests.training.nets.Conv", "model.width=2", "batch_size=24", "epochs=3")
    eager = run(tiny(*overrides, "trainer.stepper=eager"), tmp_path / "eager", callbacks=[Disturbing(how)])
    with pytest.warns(UserWarning, match=f"The step is not compiled any more and runs slower: {reason}"):
        fast = run(tiny(*overrides, "trainer.stepper=compiled"), tmp_path / "fast", callbacks=[Disturbing(how)])
    assert fast.stepper == "eager"
    assert fast.train_loss_final == pytest.approx(eager.train_loss_final, rel=1e-3)


@pytest.mark.usefixtures("traced")
def test_a_reloaded_class_has_a_step_of_its_own(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from tests.training.nets import Conv\n"
        "class Mine(Conv):\n"
        "    def forward(self, images): return {} * super().forward(images)"
    )
    losses_ = []
    for factor in (1, 0):
        module = ModuleType("mine_to_reload")
        exec(source.format(factor), vars(module))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        overrides = ("model.code=mine_to_reload.Mine", "model.width=2", "trainer.stepper=compiled")
        losses_.append(run(tiny(*overrides), tmp_path / str(factor)).train_loss_final)
    assert losses_[0] != pytest.approx(math.log(10), abs=1e-3)
    assert losses_[1] == pytest.approx(math.log(10), abs=1e-6)


@pytest.mark.parametrize("net", ["Dropping", "DroppingByPython", "DroppingByNumPy", "Counting", "Deciding"])
def test_what_cannot_be_compiled_runs_eagerly_and_says_so(tiny: Tiny, tmp_path: Path, net: str) -> None:
    # Random draws and data-dependent control flow of a net are only detected when the step is traced.
    overrides = (f"model.code=tests.training.nets.{net}", "model.width=2")
    eager = run(tiny(*overrides, "trainer.stepper=eager"), tmp_path / "eager")
    reasons = {"Deciding": "the net's control flow depends on data", "Counting": "a forward pass changes an attribute"}
    reason = reasons.get(net, "the net draws random numbers")
    with pytest.warns(UserWarning, match=f"The step could not be compiled and runs slower: {reason}"):
        record = run(tiny(*overrides, "trainer.stepper=compiled"), tmp_path / "compiled")
    assert lasting(record) == lasting(eager)


def test_without_a_compiler_a_run_is_eager(tiny: Tiny, tmp_path: Path) -> None:
    with (
        config.patch({"cpp.cxx": ("/nowhere/g++",)}),
        pytest.warns(UserWarning, match=r"there is no C\+\+ compiler"),
    ):
        assert run(tiny("trainer.stepper=compiled"), tmp_path).stepper == "eager"


def test_with_a_torch_that_has_moved_its_compiler_a_run_is_eager(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch._inductor.cpp_builder", None)
    with pytest.warns(UserWarning, match=f"torch {re.escape(torch.__version__)} does not compile a traced step"):
        assert run(tiny("trainer.stepper=compiled"), tmp_path).stepper == "eager"


def test_a_compiler_that_fails_leaves_a_run_eager(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "g++"
    script = '[ "$1" = --version ] && exec g++ "$@"; echo "Python.h: not found" >&2; exit 1'
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(compiled, "_kept", {})
    eager = run(tiny("trainer.stepper=eager"), tmp_path / "eager")
    pick_vec_isa()  # torch runs the compiler once to find the processor's instruction sets, and caches a failure
    with (
        fresh_cache(),
        config.patch({"cpp.cxx": (str(compiler),)}),
        pytest.warns(UserWarning, match=r"could not be compiled and runs slower: Python\.h: not found"),
    ):
        record = run(tiny("trainer.stepper=compiled"), tmp_path / "compiled")
    assert lasting(record) == lasting(eager)


def test_auto_compiles_long_runs_alone(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tiny("batch_size=24"), tmp_path / "short").stepper == "eager"
    monkeypatch.setattr(compiled, "COMPILED_FROM", 8)  # 4 steps per epoch, 2 epochs
    assert run(tiny("batch_size=24"), tmp_path / "long").stepper == "compiled"
    assert run(tiny("batch_size=24", "trainer.stepper=eager"), tmp_path / "asked").stepper == "eager"


@pytest.mark.usefixtures("traced")
def test_a_resumed_run_keeps_the_library_of_its_products(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("batch_size=24", "epochs=3", "trainer.checkpoint_seconds=0", "trainer.stepper=compiled")
    by_onednn = lambda product: {"mkl": 2.0, "mkl swapped": 2.0, "onednn": 1.0}  # noqa: E731
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(products, "_choices", {})
    monkeypatch.setattr(products, "seconds", by_onednn)
    original, ends = GapTask.training_step, [1]

    def stop(self: GapTask, block: Any, index: int) -> None:
        if self.current_epoch == ends[-1]:
            raise Stop
        original(self, block, index)

    with fresh_cache():
        whole = run(tiny(*overrides), tmp_path / "whole")
        monkeypatch.setattr(GapTask, "training_step", stop)
        for folder in ("stopped", "detour"):
            with pytest.raises(Stop):
                run(tiny(*overrides), tmp_path / folder)
        ends.append(2)
        with pytest.raises(Stop):
            run(tiny(*overrides[:-1], "trainer.stepper=eager"), tmp_path / "detour")
    monkeypatch.setattr(GapTask, "training_step", original)
    # Without the checkpoint's choice, MKL would be used.
    monkeypatch.setattr(products, "_choices", {})
    monkeypatch.setattr(products, "seconds", lambda product: {"mkl": 1.0, "mkl swapped": 1.0, "onednn": 2.0})
    monkeypatch.setattr(compiled, "_kept", {})
    with fresh_cache():
        again = run(tiny(*overrides), tmp_path / "stopped")
        other = run(tiny(*overrides), tmp_path / "other")
        forced = run(tiny(*overrides, "trainer.products=onednn"), tmp_path / "asked")
        detour = run(tiny(*overrides), tmp_path / "detour")
    assert lasting(again) == lasting(whole) == lasting(forced)
    assert other.stepper == "compiled"
    assert {record.stepper for record in (whole, again, forced, detour)} == {"compiled, oneDNN"}


def test_one_process_at_a_time_compiles_a_function(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stems = []

    def compile_(graph: GraphModule, *_: Any, **__: Any) -> GraphModule:
        for path in (tmp_path / "cache" / "samgap").glob("*.lock"):
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    stems.append(path.stem)
        return graph

    monkeypatch.setattr(compiled, "_kept", {})
    monkeypatch.setattr(_inductor, "compile", compile_)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    overrides = ("trainer.stepper=compiled", "trainer.products=mkl")
    for width in ("0.1", "0.2", "0.1"):
        monkeypatch.setattr(compiled, "_kept", {})  # as in another process
        run(tiny(*overrides, f"model.width={width}"), tmp_path / f"{len(stems)}")
    assert stems[0] == stems[2] != stems[1]


def test_runs_of_one_shape_share_a_function(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = _inductor.compile
    monkeypatch.setattr(_inductor, "compile", lambda *args, **keys: (made.append(1), original(*args, **keys))[1])
    monkeypatch.setattr(compiled, "_kept", {})
    overrides = ("batch_size=24", "trainer.stepper=compiled")
    for number, more in enumerate(
        ("seed=0", "seed=1 ascent.rho=0.3", "seed=2 optimizer.lr=0.01 optimizer.weight_decay=0")
    ):
        run(tiny(*overrides, *more.split()), tmp_path / str(number))
    assert len(made) == 1
    # A function traced for one run is right for another: rho, learning rate and decay are inputs.
    eager = run(tiny("batch_size=24", "trainer.stepper=eager", "seed=1", "ascent.rho=0.3"), tmp_path / "eager")
    shared = run(tiny(*overrides, "seed=1", "ascent.rho=0.3"), tmp_path / "shared")
    assert shared.train_loss_final == pytest.approx(eager.train_loss_final, rel=1e-4)
    assert len(made) == 1
    # Another shape needs another function, which is not compiled here.
    monkeypatch.setattr(_inductor, "compile", lambda *args, **keys: 1 / 0)
    with pytest.warns(UserWarning, match="could not be compiled and runs slower: division by zero"):
        run(tiny(*overrides, "model.width=0.2"), tmp_path / "wide")

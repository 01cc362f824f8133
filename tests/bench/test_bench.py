"""The bench runs from end to end, and the other implementations take the same steps as samgap."""

import contextlib
import io
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from samgap.bench import __main__ as bench
from samgap.bench import commands, curvature, jax_step, scheduling, steps, sweeps, torch_steps
from samgap.bench.rows import Row, bounded
from samgap.check_gpu import bed, jax_peer
from samgap.check_gpu.rows import Speed
from samgap.models.mlp import MLP
from samgap.models.resnet18 import ResNet18
from samgap.models.resnet50 import ResNet50
from samgap.optim.sam import SAM
from tests.processes import LIMIT

TOP = Path(__file__).parents[2]
REFERENCE = TOP / "src/samgap/reference/results/bench"
Command = Callable[..., tuple[int, str, str]]
STEP = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}


@pytest.fixture
def without_starts(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Call the bench's commands in this process, which only leaves out the start of thirty Python processes.

    One command whose memory is measured and one sweep with workers stay processes of their own, which shows that the
    calls are right.
    """
    shown: list[str] = []

    def seconds(name: str | None, *arguments: str) -> tuple[float, str]:
        if "hydra.launcher.n_jobs=2" in arguments and not shown:
            shown.extend(arguments)
            return commands.seconds(name, *arguments)
        if sweeps.COMPILED in arguments:  # a compiler and four processes
            return 1.0 + ("trainer.stepper=compiled" in arguments), ""
        if sweeps.MULTIPLY in arguments:
            return commands.seconds(name, *arguments)
        started = time.perf_counter()
        if name is None:
            exec(arguments[0], {})
            return time.perf_counter() - started, ""
        # joblib's launcher would reload Hydra's plugins in this process, which would affect later tests.
        alone = [word.replace("=cores", "=basic") for word in arguments if "hydra.launcher.n_jobs=" not in word]
        code, _, err = command(name, *alone)
        assert code == 0, err
        return time.perf_counter() - started, err

    def peak(name: str, *arguments: str) -> float:
        seconds(name, *(word.replace("stepper=compiled", "stepper=eager") for word in arguments))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    monkeypatch.setattr(sweeps, "peak", peak)
    for part in (curvature, sweeps):
        monkeypatch.setattr(part, "seconds", seconds)


@pytest.mark.needs("g++")  # the compiled step is measured
@pytest.mark.usefixtures("without_starts")
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns of every fork, although Ray starts programs
def test_every_row_is_measured(tmp_path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert bench.main(["--smoke", "--root", str(tmp_path)]) == 0
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["smoke.json"]  # not that of a measurement
    parts = json.loads((tmp_path / "bench" / "smoke.json").read_text())
    assert list(parts) == ["mlp", "sweeps", "scheduling", "curvature"]
    assert all(part["smoke"] and part["versions"]["torch"] in torch.__version__ for part in parts.values())
    rows = [row for part in parts.values() for row in part["rows"]]
    assert [(row["what"], row["against"]) for row in rows] == [
        ("SAM step, MLP p = 0.1", "the JAX step"),
        ("SAM step, MLP p = 0.1", "a bare two-step loop"),
        ("SAM step, MLP p = 0.1", "pytorch_optimizer's SAM"),
        ("SAM step, MLP p = 0.1", "its products alone"),
        ("SGD step, MLP p = 0.1", "the JAX step"),
        ("SAM step, MLP p = 0.1", "a Lightning loop with a DataLoader"),
        ("SAM step, MLP p = 0.1", "our SGD step"),
        ("one tiny run, as a command", "bound"),
        ("a further run in a sweep, basic launcher", "bound"),
        ("compiling the step of an MLP, p = 0.1, in a run", "bound"),
        ("loading that step from disk, in a run", "bound"),
        ("a finished sweep of 25 runs, started again", "bound"),
        ("status over 25 records, as a command", "bound"),
        ("draw over 25 records, as a command", "bound"),
        ("status over 125 records, after imports", "bound"),
        ("draw over 125 records, after imports", "bound"),
        ("runs on 2 cores", "1 core"),
        ("peak memory, figure 7 at paper scale, p = 10", "bound"),
        ("idle share of 2 declared GPUs, 6 runs of mixed length", "bound"),
        ("lambda_max, MLP p = 10, 100 examples", "power iteration"),
        ("s_2, MLP p = 10, 20 examples, two threads", "bound"),
        ("s_2, MLP p = 10, 20 examples, peak memory", "bound"),
    ]
    assert parts["mlp"]["processor"]
    limit, cores = (row["note"] for row in rows if row["note"])
    assert re.fullmatch(r"limit \d+ GFLOP/s; of one library mkl \d+, mkl swapped \d+, onednn \d+", limit)
    assert re.fullmatch(r"bare products: \d\.\d\d", cores)
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"]) or row["unit"] == "ms"
        assert row["holds"] == (None if row["goal"] is None else row["ratio"] <= row["goal"])
    assert " ".join(out.getvalue().split()).count(" of its bound ") == sum(row["against"] == "bound" for row in rows)


def test_a_missed_row_has_the_profile_of_the_run_that_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def arm(config: dict[str, Any]) -> tuple[float, float]:
        return config["ascent"]["rho"], config["pruner"]["sparsity"]

    def timed(config: dict[str, Any], peers: dict[str, Any]) -> dict[str, list[float]]:
        rho, sparsity = arm(config)
        return {"ours": [10.0 ** ((rho > 0) + (sparsity > 0))], **{name: [0.1] for name in peers}}

    monkeypatch.setattr(steps.jax_step, "stepper", lambda *_, **__: (lambda: 0.0, None))
    monkeypatch.setattr(steps.torch_steps, "lightning_seconds", lambda *_, **__: 0.1)
    monkeypatch.setattr(steps, "timed", timed)
    monkeypatch.setattr(steps, "profile", lambda config: str(arm(config)))
    case = steps.Case("mlp", 0.1, epochs=1, images=512, goal=1.0, limited=False, sparse=True, loops=True)
    found = {(row.what, row.against): row.profile for row in steps.rows(bench._compose, (case,)) if row.goal}
    assert found == {
        ("SAM step, MLP p = 0.1", "the JAX step"): "(0.1, 0)",
        ("SGD step, MLP p = 0.1", "the JAX step"): "(0, 0)",
        ("SAM step, MLP p = 0.1", "a Lightning loop with a DataLoader"): "(0.1, 0)",
        ("SAM step, MLP p = 0.1", "our SGD step"): "(0.1, 0)",
        ("SAM step, MLP p = 0.1, 75 % sparse", "the dense net's"): "(0.1, 0.75)",
    }


def test_rows_before_an_error_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(part: str, smoke: bool) -> Iterator[Row]:
        yield bounded("first", 1.0, 2.0, "s")
        raise RuntimeError

    monkeypatch.setattr(bench, "_rows", rows)
    with pytest.raises(RuntimeError):
        bench.main(["sweeps", "--root", str(tmp_path)])
    (row,) = json.loads((tmp_path / "bench" / "bench.json").read_text())["sweeps"]["rows"]
    assert row["what"] == "first"


def test_it_is_a_command() -> None:
    start = [sys.executable, "-m", "samgap.bench", "mpl"]
    done = subprocess.run(start, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 2
    assert "a part is one of mlp, resnet18, sweeps, scheduling, curvature, got mpl" in done.stderr


def test_the_idle_share_by_hand() -> None:
    runs = [(1, 0, 4), (2, 2, 6), (1, 4, 6), (1, 6, 10), (2, 7, 10)]
    naps = [scheduling.Nap("", "done", worker=worker, began=began, ended=ended) for worker, began, ended in runs]
    # Both workers run from 2 to 10, and one waits 1 of these 16 seconds; a third GPU is always idle.
    assert scheduling.idle(naps, 2) == pytest.approx(1 / 16)
    assert scheduling.idle(naps, 3) == pytest.approx(9 / 24)


def problem() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(32, 1, 8, 8, generator=draw), torch.randint(0, 10, (32,), generator=draw)


def ours(net: nn.Module, rho: float, steps: int) -> list[float]:
    x, y = problem()
    optimizer = SAM(SGD(net.parameters(), **STEP), rho, net)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_the_jax_step_takes_our_steps(rho: float) -> None:
    # The two implementations share no code, so agreement shows that both implement the algorithm.
    x, y = problem()
    step, variables = jax_step.stepper("mlp", 0.1, x.numpy(), y.numpy(), rho=rho, sgd=STEP)
    net = MLP((1, 8, 8), 10, 0.1)
    linear = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    for layer, values in zip(linear, variables["params"].values(), strict=True):
        layer.weight.data = torch.tensor(np.array(values["kernel"]).T.copy())
        layer.bias.data = torch.tensor(np.array(values["bias"]))
    expected = [float(step()) for _ in range(20)]
    assert expected[-1] < 0.9 * expected[0]
    assert ours(net, rho, 20) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("model", "ours"), [("resnet18", ResNet18), ("resnet50", ResNet50)])
def test_the_jax_net_has_our_size(model: str, ours: type[ResNet18] | type[ResNet50]) -> None:
    # Compare shapes only: compiling the initialization takes half a minute.
    x = np.zeros((2, 3, 32, 32), np.float32)
    variables = jax_step.jax.eval_shape(
        lambda x: jax_step.stepper(model, 4, x, np.zeros(2, np.int64), rho=0.1, sgd=STEP)[1], x
    )
    sizes = sorted(leaf.size for leaf in jax_step.jax.tree.leaves(variables["params"]))
    assert sizes == sorted(w.numel() for w in ours((3, 32, 32), 10, 4).parameters())


def test_the_jax_step_is_timed_beside_ours_in_each_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_peer, "isolated", lambda work, bed, cut: work(bed))  # in this process
    here = bed.Bed(torch.device("cpu"), tmp_path, until=time.monotonic() + 60)
    here.steps["mlp", 0.1, 0.1, "32-true"] = Speed("ours", "32-true", 0.5, 3, 0.0)
    rows = [row for row in jax_peer.jax(here) if isinstance(row, Speed)]
    assert [(row.what[:3], row.precision) for row in rows] == [("SAM", "32-true"), ("SAM", "bf16-mixed")]
    assert (rows[0].against, rows[0].ratio) == ("ours", rows[0].seconds / 0.5)
    assert rows[1].ratio is None


@pytest.mark.parametrize("peer", [torch_steps.two_step, torch_steps.pytorch_optimizer])
def test_the_torch_steps_are_ours(peer: object) -> None:
    x, y = problem()
    torch.manual_seed(0)
    net, other = MLP((1, 8, 8), 10, 0.1), MLP((1, 8, 8), 10, 0.1)
    other.load_state_dict(net.state_dict())
    step = peer(other, x, y, 0.2, **STEP)  # type: ignore[operator]
    assert ours(net, 0.2, 20) == pytest.approx([step() for _ in range(20)], rel=1e-4)


def test_the_page_about_speed_shows_the_reference() -> None:
    lines = [line.split("|") for line in (TOP / "docs" / "speed.md").read_text().splitlines()]
    shown = {tuple(cell.strip() for cell in line[1:-1]) for line in lines}
    for column, file in ((2, "bench.json"), (3, "zen5.json"), (4, "zen3.json")):
        for part in json.loads((REFERENCE / file).read_text()).values():
            for row in part["rows"]:
                against = "its goal" if row["against"] == "bound" else row["against"]
                goal = "" if row["goal"] is None else f"{row['goal']:g}"
                found = [cells for cells in shown if cells[:2] == (row["what"], against)]
                assert [(cells[column], cells[5]) for cells in found] == [(f"{row['ratio']:.2f}", goal)], row["what"]

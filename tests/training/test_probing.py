"""Probes and the stopping loss, in real runs."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from samgap.errors import SettingError
from samgap.losses import squared
from samgap.models.mlp import MLP
from samgap.runs import measurements, records
from samgap.runs.identity import identity
from samgap.training import build, devices, probing, ranks
from samgap.training.plan import RunPlan
from samgap.training.run import run
from samgap.training.settings import resolve
from samgap.training.task import GapTask

Tiny = Callable[..., dict[str, Any]]
Command = Callable[..., tuple[int, str, str]]
SMALL = (
    "probe=[hessian,moments,landscape]",
    "probe.moments.examples=6",
    "probe.landscape.points=3",
    "precision=64-true",
)


def found(folder: Path, name: str) -> Any:
    return json.loads((folder / "probes" / f"{name}.json").read_text())["found"]


def explicit(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the Hessian of the mean squared loss over all parameters, by autograd."""
    names = [name for name, _ in net.named_parameters()]
    shapes = [weight.shape for weight in net.parameters()]
    flat = torch.cat([weight.detach().flatten() for weight in net.parameters()])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = torch.split(vector, [shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return squared(torch.func.functional_call(net, weights, (inputs,)), labels)

    found: torch.Tensor = torch.autograd.functional.hessian(loss, flat)
    return found


def test_probes_are_of_the_net_that_the_run_ends_with(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(*SMALL, "loss=squared", "model.width=0.03", "optimizer.lr=0.01", "trainer.keep_weights=true")
    record = run(config, tmp_path)
    assert {path.name for path in (tmp_path / "probes").iterdir()} == {"hessian.json", "moments.json", "landscape.json"}
    data = build.data(RunPlan.of(config))
    net = MLP(data.shape, 10, 0.03).double()
    net.load_state_dict(torch.load(tmp_path / "weights.pt"))
    inputs, labels = data.normalize(data.train.images).double(), data.train.labels
    matrix = explicit(net, inputs, labels)
    assert found(tmp_path, "hessian")["eigenvalues"][0] == pytest.approx(
        float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-3
    )
    assert found(tmp_path, "hessian")["n"] == 96
    each = torch.stack([explicit(net, x[None], y[None]) for x, y in zip(inputs[:6], labels[:6], strict=True)])
    excess = (each @ each).mean(0) - each.mean(0) @ each.mean(0)
    s_2 = float(torch.linalg.eigvalsh(excess)[-1]) ** 0.5
    assert s_2 > 0.1
    assert found(tmp_path, "moments")["s"]["2"]["value"] == pytest.approx(s_2, rel=1e-3)
    assert found(tmp_path, "landscape")["surfaces"]["filter"]["losses"][1][1] == pytest.approx(
        record.train_loss_final, rel=1e-6
    )
    kept = json.loads((tmp_path / "probes" / "hessian.json").read_text())
    assert (kept["identity"], kept["loss"]) == (record.identity, "squared")
    assert kept["train_loss_final"] == record.train_loss_final


def test_probes_change_neither_identity_nor_result(tiny: Tiny, tmp_path: Path) -> None:
    with_, without = run(tiny(*SMALL), tmp_path / "a"), run(tiny("precision=64-true"), tmp_path / "b")
    assert with_.identity == without.identity
    assert with_.test_loss_final == without.test_loss_final


def test_a_run_that_is_done_is_probed_from_its_weights(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(*SMALL, "trainer.keep_weights=true")
    record = run(config, tmp_path)
    first = found(tmp_path, "hessian")
    written = (tmp_path / "probes" / "moments.json").stat().st_mtime_ns
    (tmp_path / "probes" / "hessian.json").unlink()
    assert run(config, tmp_path) == record
    assert found(tmp_path, "hessian") == first
    assert (tmp_path / "probes" / "moments.json").stat().st_mtime_ns == written
    # Other settings are another measurement.
    run(tiny(*SMALL, "trainer.keep_weights=true", "probe.hessian.eigenvalues=2"), tmp_path)
    assert len(found(tmp_path, "hessian")["eigenvalues"]) == 2
    assert found(tmp_path, "hessian")["eigenvalues"][0] == pytest.approx(first["eigenvalues"][0], rel=1e-3)


@pytest.mark.parametrize(
    ("probes", "images"),
    [("probe=[moments] probe.moments.examples=6", 6), ("probe=[hessian]", 96),
     ("probe=[hessian,moments] probe.moments.examples=6 probe.hessian.examples=7", 7), ("", 96)],
)  # fmt: skip
def test_only_the_images_that_probes_need_are_read(probes: str, images: int, tiny: Tiny) -> None:
    plan = RunPlan.of(tiny(*probes.split()))
    data = build.data(plan)
    net, masks = build.net(plan, data)
    assert len(probing.subject(plan, net, data, masks, torch.device("cpu")).examples) == images


def test_a_probe_of_a_run_on_several_devices_has_one_process(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, chosen = RunPlan.of(tiny("trainer=gpu", "trainer.devices=2")), list[int]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[-1] if chosen else 0)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert devices.chosen(plan) == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.chosen(plan) == torch.device("cuda", 1)


def test_a_probe_that_fails_loses_no_training(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise SettingError("too hard")

    with monkeypatch.context() as patch:
        patch.setattr(probing, "call", fail)
        with pytest.raises(SettingError, match="too hard"):
            run(tiny("probe=[hessian]"), tmp_path)
    record = records.read(tmp_path)
    assert record is not None
    assert not (tmp_path / "probes").exists()
    assert (tmp_path / "error.txt").exists()
    monkeypatch.setattr(GapTask, "training_step", fail)
    assert run(tiny("probe=[hessian]"), tmp_path) == record
    assert found(tmp_path, "hessian")["n"] == 96
    assert not (tmp_path / "error.txt").exists()


def test_only_the_first_process_probes_a_run_that_is_done(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run(tiny("trainer.keep_weights=true"), tmp_path)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    monkeypatch.setattr(ranks, "require", lambda devices: None)
    assert run(tiny("probe=[hessian]"), tmp_path) == record
    assert not (tmp_path / "probes").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("probe.hessian.samples=1", "probe.hessian.samples must be 0 or a whole number from 2, got 1."),
        ("probe.hessian.eigenvalues=1.5", "probe.hessian.eigenvalues must be a whole number from 1, got 1.5."),
        ("probe.hessian.tol=abc", 'probe.hessian.tol must be a number above 0, got "abc".'),
        ("probe.hessian.maxiter=null", "probe.hessian.maxiter must be a whole number from 1, got null."),
        ("probe.landscape.points=4", "probe.landscape.points must be an odd number from 3, got 4."),
        ("probe.landscape.directions=raw", 'must be a list of some of eigen, raw, filter, each once, got "raw".'),
        ("probe.moments.orders=[3,5]", "must be a list of some of 2, 3, 4, each once, got [3, 5]."),
        ("probe.landscape.reach=0", "probe.landscape.reach must be a number above 0, got 0."),
        ("probe.moments.orders=[2.0]", "must be a list of some of 2, 3, 4, each once, got [2.0]."),
        ("probe.moments.orders=[2,2]", "must be a list of some of 2, 3, 4, each once, got [2, 2]."),
        ("probe.moments.examples=1", "probe.moments.examples must be a whole number from 2, or null for all, got 1."),
        ("probe.moments.examples=97", "must be at most the 96 training images, or null for all, got 97."),
    ],
)
def test_settings_of_probes_are_checked_before_training(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, sentence: str
) -> None:
    monkeypatch.setattr(GapTask, "training_step", lambda *_: pytest.fail("trained"))
    with pytest.raises(SettingError, match=re.escape(sentence)):
        run(tiny("probe=[hessian,moments,landscape]", "probe.moments.examples=6", words), tmp_path / "run")


def test_a_key_that_a_probe_does_not_take_is_one_sentence(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"The keys of probe\.moments must be those of a file"):
        run(tiny(*SMALL, "+probe.moments.foo=1"), tmp_path)


def test_a_run_without_weights_cannot_be_probed_later(tiny: Tiny, tmp_path: Path) -> None:
    run(tiny(), tmp_path)
    with pytest.raises(SettingError, match="kept no weights to look at"):
        run(tiny("probe=hessian"), tmp_path)
    (tmp_path / "weights.pt").write_text("foo")
    with pytest.raises(SettingError, match="does not hold this net"):
        run(tiny("probe=hessian"), tmp_path)


def test_weights_of_another_run_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    one, other = (tiny("epochs=1", f"seed={seed}", "trainer.keep_weights=true") for seed in (0, 1))
    run(one, tmp_path / "one")
    owner = run(other, tmp_path / "other").identity
    (tmp_path / "other" / "weights.pt").replace(tmp_path / "one" / "weights.pt")
    with pytest.raises(SettingError, match=rf"one/weights\.pt is of another run \({owner}\)"):
        run(tiny("epochs=1", "probe=hessian"), tmp_path / "one")
    # Older files do not contain the identity of their run.
    torch.save(dict(torch.load(tmp_path / "one" / "weights.pt")), tmp_path / "one" / "weights.pt")
    run(tiny("epochs=1", "probe=hessian"), tmp_path / "one")


def test_a_run_is_probed_on_the_data_that_it_was_trained_on(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("epochs=1", "trainer.keep_weights=true"), tmp_path)
    records.write(dataclasses.replace(record, data_sha256="0"), tmp_path)
    with pytest.raises(SettingError, match=f"was trained on other data than {tmp_path}/data holds now"):
        run(tiny("epochs=1", "probe=hessian"), tmp_path)


def test_a_sparse_net_is_probed_in_its_live_weights(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(*SMALL, "pruner.sparsity=0.8", "trainer.keep_weights=true")
    record = run(config, tmp_path)
    before = found(tmp_path, "hessian")
    (tmp_path / "probes" / "hessian.json").unlink()
    run(config, tmp_path)  # the mask is computed again
    assert found(tmp_path, "hessian") == before
    assert record.params_live < record.params_total


def test_a_run_stops_at_its_loss_and_resumes_there_too(tiny: Tiny, tmp_path: Path) -> None:
    settings = ("epochs=30", "eval_every=30", "trainer.checkpoint_seconds=0", "ascent.rho=0.1")
    whole = run(tiny(*settings), tmp_path / "whole")
    losses = pd.read_csv(tmp_path / "whole" / "metrics.csv")["train_loss"]
    assert whole.epochs == 30
    at = float(losses[11])
    stopped = run(tiny(*settings, f"stop_loss={at}"), tmp_path / "stopped")
    first = int((losses <= at).idxmax()) + 1
    curve = pd.read_csv(tmp_path / "stopped" / "metrics.csv")
    assert stopped.epochs == len(curve) == first
    assert curve["train_loss"].tolist() == losses[:first].tolist()
    assert stopped.test_acc_final is not None
    assert stopped.status == "done"
    assert stopped.identity != whole.identity
    assert not (tmp_path / "stopped" / "last.ckpt").exists()

    class Killed(Exception):
        pass

    from pytorch_lightning.callbacks import Callback

    class Kill(Callback):
        def on_train_end(self, *_: Any) -> None:  # after training, before any file is written
            raise Killed

    again = tmp_path / "again"
    with pytest.raises(Killed):
        run(tiny(*settings, f"stop_loss={at}"), again, callbacks=[Kill()])
    assert (again / "last.ckpt").exists()
    resumed = run(tiny(*settings, f"stop_loss={at}"), again)
    assert (resumed.epochs, resumed.test_loss_final) == (stopped.epochs, stopped.test_loss_final)


def test_a_loss_that_is_missed_is_a_result(tiny: Tiny, tmp_path: Path) -> None:
    record = run(tiny("stop_loss=1e-9"), tmp_path)
    assert (record.status, record.epochs) == ("done", 2)


def test_no_stopping_loss_is_the_run_of_before() -> None:
    from tests.conftest import config

    settings = resolve(config())
    assert settings["stop_loss"] is None
    assert identity(settings) == identity({key: value for key, value in settings.items() if key != "stop_loss"})


def test_a_sweep_makes_up_for_probes(command: Command, tmp_path: Path) -> None:
    grid = [
        "-m",
        "name=p",
        "ascent.rho=0,0.1",
        "epochs=1",
        "data.train_size=64",
        "model.width=0.02",
        f"root={tmp_path}",
    ]
    probes = ["probe=[hessian]", "trainer.keep_weights=true"]
    assert command("train", *grid, *probes[1:])[0] == 0
    code, _, err = command("train", *grid, *probes)
    assert (code, "0/2 done, 2 unfinished" in err or "2 unfinished" in err) == (0, True)
    folders = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert all(measurements.read(folder, "hessian") for folder in folders)
    code, _, err = command("train", *grid, *probes)
    assert (code, "2/2 done" in err) == (0, True)


def test_the_probe_command(command: Command, tmp_path: Path) -> None:
    run_ = ("epochs=1", "data.train_size=64", "model.width=0.02", "trainer.keep_weights=true", f"root={tmp_path}")
    assert command("train", *run_)[0] == 0
    code, out, err = command("probe", "run=w0.02", "probe=hessian", f"root={tmp_path}")
    assert (code, err) == (0, "")
    folder = Path(out.strip()).parents[1]
    assert found(folder, "hessian")["converged"]
    assert records.read(folder) is not None
    for arguments, message in (
        (("probe=hessian",), "run must be a folder of a run, or a part of its name"),
        (("run=foo", "probe=hessian"), "and 0 fit: none."),
        (("run=w0.02",), "probe must name what to measure"),
        ((f"run={tmp_path}", "probe=hessian"), "is no run that is done"),
    ):
        code, _, err = command("probe", *arguments, f"root={tmp_path}")
        assert (code, message in err) == (1, True), err


def test_a_damaged_measurement_is_reported(tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes" / "hessian.json").write_text("{")
    with pytest.raises(SettingError, match="is damaged"):
        measurements.missing({"hessian": {}}, tmp_path)

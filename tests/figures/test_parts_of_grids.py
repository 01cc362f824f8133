"""Every kind of figure draws any part of its grid that was run, and says what it leaves out.

Sweeps, drawings and the page's charts are real; only the records are made up instead of trained.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import initialize_config_dir
from matplotlib.figure import Figure

from samgap import cli
from samgap.report import collected, vega
from samgap.runs import measurements, records
from samgap.runs.identity import identity
from samgap.runs.records import RunRecord
from samgap.training import run
from samgap.training.settings import resolve
from tests.figures.probed import STEPS, bowl
from tests.runs.test_records import record_of

Command = Callable[..., tuple[int, str, str]]
EPOCHS = 12
FEW = ("seed=0,1", f"epochs={EPOCHS}")


def made_up(config: dict[str, Any], folder: Path) -> RunRecord:
    """Replaces `run`: write a made-up record, curve and probe results that depend only on the settings."""
    settings = resolve(config)
    draw = np.random.default_rng(int(identity(settings), 16))
    width, rho = settings["model"]["width"], settings["ascent"].get("rho") or 0
    regression = settings["data"]["name"] == "factorization"
    acc = None if regression else 0.8 + 0.1 * rho + 0.01 * draw.standard_normal()
    trained, params = None if regression else min(1.0, 0.9 + 0.1 * width), int(1000 * width)
    record = record_of(settings, acc=acc, holdout_acc_final=acc, train_acc_final=trained, params_total=params)
    folder.mkdir(parents=True, exist_ok=True)
    losses = np.exp(-0.1 * np.arange(EPOCHS) * width / (width + 1) + 0.05 * draw.standard_normal(EPOCHS))
    rows = [f"{epoch},{loss}" for epoch, loss in enumerate(losses, start=1)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,train_loss", *rows]))
    top = 16 - 40 * rho + draw.standard_normal()
    found: dict[str, dict[str, Any]] = {
        "hessian": {"n": 500, "eigenvalues": [top], "converged": True},
        "moments": {"n": 50, "s": {str(k): {"value": top + k, "converged": True} for k in (2, 3, 4)}},
        "landscape": {"n": 500, "steps": STEPS, "surfaces": {"raw": {"losses": bowl(1)}}},
    }
    for name, requested in measurements.requested(config).items():
        kept = {"probe": name, "settings": requested, "found": found[name], "identity": record.identity}
        measurements.write(folder, name, kept)
    records.write(record, folder)
    return record


@pytest.fixture
def drawn(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Sweep a part of a figure's grid and draw it: drawn("fig7", "ascent.rho=0,0.2") -> (exit code, out, err)."""
    monkeypatch.setattr(run, "run", made_up)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: None)  # takes longer than everything else

    def call(figure: str, *overrides: str) -> tuple[int, str, str]:
        named = (f"figure={figure}/smoke", f"root={tmp_path}")
        code, _, err = command("train", "-m", *named, *FEW, *overrides)
        assert code == 0, err
        return command("draw", *named)

    return call


@pytest.mark.parametrize(
    ("figure", "overrides", "said"),
    [
        (
            "fig7",
            "ascent.rho=0,0.2 model.width=1,2",
            "no gap at the fixed rho = 0.1 (draw.fixed_rho), which was not swept",
        ),
        ("fig7", "ascent.rho=0,0.1,0.3 model.width=1 seed=0", "no unbiased gap, no interval and no verdict"),
        ("noise", "data.label_noise=0.5 model.width=1 ascent.rho=0,0.1", "no published number is of such runs"),
        ("fig10", "model.width=1 ascent.rho=0,0.1", "drawn over params_total, since pruner.sparsity (draw.x) was not"),
        ("fig11", "pruner=snip model.width=1,2 ascent.rho=0,0.1", "a contrast needs two series, such as pruner=random"),
        ("rho", "model.width=1,2 hydra.sweeper.skip={model.width:[2],ascent.rho:[0.1]}", "Swept: model.width 1, 2;"),
        ("rho", "ascent.rho=0,0.2 model.width=1 seed=0", "Swept: ascent.rho 0, 0.2; seed 0."),
        ("fig1", "model.width=10 seed=0", "a test needs 2 seeds in every cell"),
        ("fig2", "ascent=sam ascent.rho=0.1 model.width=1", "SAM at rho=0.1"),
        ("fig6", "probe=hessian stop_loss=0.03 ascent.rho=0,0.3", "no results of probe moments, which measured no run"),
        ("fig6", "probe=moments ascent.rho=0 seed=0", "no results of probe hessian, which measured no run"),
        ("fig4", "probe=landscape ascent.rho=0,0.1,0.2 seed=1", "no results of probe hessian, which measured no run"),
        ("fig4", "ascent.rho=0.1 stop_loss=null,0.03", "Drawn: rho 0.1, "),
    ],
)
def test_a_part_of_a_grid_is_drawn(drawn: Command, tmp_path: Path, figure: str, overrides: str, said: str) -> None:
    code, out, err = drawn(figure, *overrides.split())
    assert (code, err) == (0, "")
    assert said in out
    assert "Swept: " in out
    assert "\n\nThe pipeline works here. " in out
    assert "pipeline works" not in (tmp_path / figure / "smoke" / f"{figure}.json").read_text()
    assert "nan" not in out.split("\n\n")[1]
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        shown = collected.evaluate(tmp_path, figure, "smoke")
    assert shown.charts
    assert shown.report
    texts = [*shown.report["remarks"], *(verdict["text"] for verdict in shown.report["verdicts"])]
    assert any(said in text for text in texts)
    assert all(vega.spec(chart) for chart in shown.charts)


@pytest.mark.parametrize(
    ("figure", "override", "said"),
    [
        ("fig7", "ascent.rho=0.1", "A gap needs both arms: sweep ascent.rho over 0 and at least one other value."),
        ("fig4", "probe=hessian", "carry out the sweep again with probe=[hessian,landscape]"),
    ],
)
def test_a_part_that_cannot_be_drawn_says_what_to_sweep(drawn: Command, figure: str, override: str, said: str) -> None:
    code, _, err = drawn(figure, override)
    assert (code, err.count("\n"), said in err) == (1, 1, True)

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from samgap import style
from samgap.figures import output
from samgap.figures.convergence import kinds
from samgap.figures.convergence.curves import fit, reference
from samgap.figures.convergence.study import study as study_of
from samgap.figures.output import Study
from samgap.runs.sweeps import RHO, SEED
from tests.figures.tables import table
from tests.runs.test_records import make

KEYS = ["rule", RHO, "model.width", "params_total"]
KIND = kinds.Convergence(title="Figure 1: convergence", published_data="another matrix")


def drawn() -> tuple[Figure, Study]:
    epochs = np.arange(1, 41)
    parts = []
    for rule, rho in (("sgd", 0.0), ("sam", 0.05)):
        for width, speed in ((4, 0.02), (10, 0.1)):
            for seed in range(3):
                context = {"rule": rule, RHO: rho, "model.width": width, "params_total": 16 * width, SEED: seed}
                curve = pd.DataFrame({"epoch": epochs, "loss": np.exp(seed - speed * epochs)})
                parts.append(curve.assign(width=width, **context))
    curves = pd.concat(parts, ignore_index=True)
    fits = fit(curves, KEYS, 6)
    runs = table(lambda width, rho, seed: 0.5)
    runs.records.append(make())
    study = study_of(runs, KEYS, curves, fits, reference("fig1"), [])
    with style.style():
        return KIND.draw(study.frame, output.report(study)), study


def test_a_panel_a_rule_with_the_loss_on_a_logarithmic_axis() -> None:
    figure, _ = drawn()
    assert [axes.get_title() for axes in figure.axes] == ["SGD", "SAM, ρ = 0.05"]
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    assert figure.get_supxlabel() == "digits, 3 seeds, own scale"


def test_curves_are_means_and_lines_have_their_rate() -> None:
    figure, study = drawn()
    narrow, line, wide, _ = figure.axes[0].get_lines()
    # The seeds' losses are exp(0), exp(1), exp(2): the mean of their logs is 1.
    assert narrow.get_ydata()[0] == pytest.approx(math.exp(1 - 0.02), rel=1e-5)
    assert (narrow.get_label(), wide.get_label()) == (
        "width=4 (64): -1.98% an epoch", "width=10 (160, fits all data): -9.52% an epoch",
    )  # fmt: skip
    x, y = (np.asarray(part, dtype=float) for part in line.get_data())
    assert x.tolist() == [11, 40]
    np.testing.assert_allclose(np.diff(np.log(y)), -0.02 * 29, rtol=1e-9)
    np.testing.assert_allclose(y, np.asarray(narrow.get_ydata())[[10, 39]], rtol=1e-5)
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == 2
    assert [cell["rate"] for cell in study.statistics["cells"]] == pytest.approx([0.02, 0.1, 0.02, 0.1])


def test_published_curves_stand_in_the_panel_of_sam_alone() -> None:
    figure, study = drawn()
    gray = [[line for line in axes.get_lines() if line.get_color() == style.PUBLISHED] for axes in figure.axes]
    assert [len(lines) for lines in gray] == [0, 2]
    assert gray[1][0].get_label() == "width=4, published (another matrix)"
    assert gray[1][1].get_ydata()[-1] == pytest.approx(0.0073)
    assert [math.isnan(cell["published_rate"]) for cell in study.statistics["cells"]] == [True, True, False, False]
    text = output.as_text(study)
    assert "0.0264" in text
    assert set(study.frame["who"]) == {"ours", "published"}

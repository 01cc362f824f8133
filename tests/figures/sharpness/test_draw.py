"""The figures of curvature: the poster's figure 6, and figures 4 and 5."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from samgap import style
from samgap.figures import output
from samgap.figures.output import Study
from samgap.figures.sharpness import draw_surfaces as surface
from samgap.figures.sharpness.kinds import Sharpness, Surfaces
from tests.figures.probed import write

SETTINGS: dict[str, Any] = {
    "title": "Figure 6", "published": ["fig6", "fig4_fig5"], "published_data": "other images",
}  # fmt: skip


def flat(root: Path, **changes: Any) -> Figure:
    write(root, lambda rho, seed: 16 - 40 * rho + seed, **changes)
    kind = Sharpness(**SETTINGS)
    study = kind.evaluate(root, "mine", "own", "paper")
    with style.style():
        return kind.draw(study.frame, output.report(study))


def around(root: Path, **changes: Any) -> tuple[Figure, Study]:
    write(root, lambda rho, seed: 16 - 40 * rho + seed, **changes)
    study = Surfaces(**SETTINGS).evaluate(root, "mine", "own", "paper")
    with style.style():
        figure = surface.draw(study.frame, output.report(study), SETTINGS, titled=True)
        figure.canvas.draw()
    return figure, study


def labels(axes: Any) -> list[str]:
    return list(axes.get_legend_handles_labels()[1])


def test_two_panels_over_evenly_spaced_rhos(tmp_path: Path) -> None:
    figure = flat(tmp_path, rhos=(0, 0.02, 0.2), stops=(None, 0.01))
    left, right = figure.axes
    for axes in (left, right):
        assert axes.get_xticks().tolist() == [0, 1, 2]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["SGD", "0.02", "0.2"]
        assert axes.get_ylim()[0] == 0
    assert figure.get_supxlabel() == "digits (500 images), 3 seeds, own scale"
    equal = "equal training loss (stop_loss=0.01)"
    assert {"equal epochs: ours", f"{equal}: ours", "published, other images: SGD"} <= {*labels(left)}
    assert {f"{equal}: s₂", "bound on s₂ (batch 1, un-normalized SAM)"} <= {*labels(right)}
    assert "s₂ solid, s₃ dashed, s₄ dotted" in right.get_title()
    assert all(axes.get_legend() for axes in (left, right))


def test_means_standard_errors_and_what_is_allowed(tmp_path: Path) -> None:
    left, right = flat(tmp_path, rhos=(0, 0.02, 0.2)).axes
    ours = next(line for line in left.get_lines() if line.get_label() == "ours")
    np.testing.assert_allclose(np.asarray(ours.get_ydata(), dtype=float), [17, 16.2, 9])
    segments = left.collections[0].get_segments()  # type: ignore[attr-defined]
    np.testing.assert_allclose([np.ptp(one[:, 1]) / 2 for one in segments], 3**-0.5)
    allowed = next(line for line in left.get_lines() if "linear stability allows" in str(line.get_label()))
    np.testing.assert_allclose(allowed.get_ydata(), [20, 15.3113, 7.8078], rtol=1e-5)
    assert str(allowed.get_label()).endswith("at learning rate 0.1\n(un-normalized SAM)")
    bounds = [line for line in right.get_lines() if "bound on" in str(line.get_label())]
    assert [str(line.get_label()).lstrip("_") for line in bounds] == [
        f"bound on {name} (batch 1, un-normalized SAM)" for name in ("s₂", "s₃", "s₄")
    ]
    # rho = 0.2 is above half of the learning rate, and at 0 only s_2 has a bound.
    assert [np.isnan(line.get_ydata()).tolist() for line in bounds] == [[False, False, True]] + [
        [True, False, True]
    ] * 2
    theirs = next(line for line in right.get_lines() if str(line.get_label()).startswith("published"))
    assert np.asarray(theirs.get_ydata()).tolist() == [28.98, 23.51, 11.97]


def test_a_number_that_was_never_found_has_no_line(tmp_path: Path) -> None:
    _, right = flat(tmp_path, s_2=lambda rho, seed: None).axes
    assert [text for text in labels(right) if "published" not in text] == []


def test_surfaces_share_scale_levels_and_directions(tmp_path: Path) -> None:
    figure, study = around(tmp_path, rhos=(0, 0.05, 0.2))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == [
        "SGD: $λ_{max}$ = 16, loss 0.01\npublished, other images: 16.05",
        "SAM, ρ = 0.2: $λ_{max}$ = 8, loss 0.01\npublished, other images: 3.71",
    ]  # fmt: skip
    assert figure.get_supxlabel() == "digits (500 images), 3 seeds, own scale, drawn: seed 0"
    meshes = [axes.collections[0] for axes in figure.axes if axes.get_title().startswith("random directions")]
    assert [axes.get_title() for axes in figure.axes if axes.get_title().startswith("random directions")] == [
        *["random directions of length 1"] * 2, *["random directions of the filters' lengths"] * 2,
    ]  # fmt: skip
    # SAM's surface is flatter; the color scale of both runs from its lowest loss to SGD's highest.
    assert all(mesh.get_clim() == pytest.approx((0.01, 0.28)) for mesh in meshes)
    raised = [axes for axes in figure.axes if axes.name == "3d"]
    assert len({axes.get_zlim() for axes in raised}) == 1
    # Rows of the picture are y; SGD's loss is 0.01 + 9 (x^2 + 2 y^2).
    picture = meshes[0].get_array()
    np.testing.assert_allclose(picture[0, 1], 0.19)
    np.testing.assert_allclose(picture[1, 0], 0.1)
    losses = study.frame.set_index(["ascent.rho", "directions", "x", "y"])["loss"]
    assert losses[0, "raw", -0.1, 0] == pytest.approx(0.1)


def test_the_poster_s_levels_are_drawn_where_they_are_crossed(tmp_path: Path) -> None:
    figure, _ = around(tmp_path, rhos=(0, 0.2))
    sgd, sam = (axes for axes in figure.axes if axes.get_title() == "random directions of length 1")
    assert sgd.collections[1].levels.tolist() == [0.05, 0.1]
    # SAM's loss only goes up to 0.04.
    assert len(sam.collections) == 1


def test_losses_that_are_not_finite_stay_white(tmp_path: Path) -> None:
    figure, study = around(tmp_path, rhos=(0, 0.2), hole=True)
    _, sam = (axes.collections[0] for axes in figure.axes if axes.get_title() == "random directions of length 1")
    assert np.ma.getmaskarray(sam.get_array()).sum() == 1
    assert "2 point(s) the loss is not finite" in "\n".join(study.remarks)


def test_scales_of_flat_and_of_empty_surfaces() -> None:
    low, high = surface.limits([np.full((3, 3), 0.2)])
    assert low == 0.2 < high
    assert surface.limits([np.full((3, 3), np.nan)]) == (0.1, 1.0)
    assert surface.limits([np.array([[0.0, 0.5], [0.1, np.nan]])]) == (0.1, 0.5)

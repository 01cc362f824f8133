"""What figures cost at paper scale: counted right, and docs/scaling.md shows what the command prints."""

from pathlib import Path

import pytest

from samgap.bench import costs
from samgap.training.cost import flops

TOP = Path(__file__).parents[2]


def test_the_page_shows_what_the_command_prints() -> None:
    page = (TOP / "docs" / "scaling.md").read_text()
    table = costs.table()
    assert table in page, "the table of docs/scaling.md must be:\n" + table
    assert f"{costs.RATE / 1e12:g} TFLOP/s" in page
    assert f"{1e3 * costs.PASS_SECONDS:g} ms" in page


def test_figure_9_by_hand() -> None:
    found = costs.cost("fig9/paper")
    # Five nets, rho 0 and five more, a seventh for the two smallest; 2,503 batches an epoch.
    assert (found.runs, found.steps) == (3 * (5 * 6 + 2), 90 * 2503)
    # 12.7 billion operations an image at 80 filters: three times that for a pass, and a step of SAM takes two.
    operations = flops("samgap.models.resnet50.ResNet50", 80, (3, 224, 224), 1000)
    assert operations == pytest.approx(12.7e9, rel=0.01)
    assert found.longest == pytest.approx(2 * 3 * operations * 512 * 90 * 2503 / costs.RATE / 3600)


def test_runs_that_points_of_a_grid_share_count_once() -> None:
    # Figure 11's dense nets and its SGD runs: 4 nets of two pruners and 10 radii, 3 seeds, less the dense net's second.
    assert costs.cost("fig11/paper").runs == 3 * (7 * 10)

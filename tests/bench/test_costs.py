"""The cost of figures at paper scale is computed right, and docs/scaling.md shows what the command prints."""

import json
from pathlib import Path

import pytest

from samgap.bench import costs
from samgap.errors import SettingError
from samgap.reference import card
from samgap.training.cost import flops
from tests.check_gpu import made

TOP = Path(__file__).parents[2]


def test_the_page_shows_what_the_command_prints() -> None:
    page = (TOP / "docs" / "scaling.md").read_text()
    table = costs.table()
    assert table in page, "the table of docs/scaling.md must be:\n" + table
    assert costs.basis(costs.known()) in " ".join(page.split())


def test_figure_9_by_hand() -> None:
    found = costs.cost("fig9/paper")
    # Five nets with six values of rho, a seventh for the two smallest; 2,503 batches per epoch.
    assert (found.runs, found.steps) == (3 * (5 * 6 + 2), 90 * 2503)
    # 12.7 billion operations per image at 80 filters; a pass with gradient takes three times that, SAM two passes.
    operations = flops("samgap.models.resnet50.ResNet50", 80, (3, 224, 224), 1000)
    assert operations == pytest.approx(12.7e9, rel=0.01)
    assert found.longest == pytest.approx(2 * 3 * operations * 512 * 90 * 2503 / costs.RATE / 3600)


def test_runs_that_points_of_a_grid_share_count_once() -> None:
    # Figure 11: 4 nets x 2 pruners x 10 radii x 3 seeds, but the dense net is the same for both pruners.
    assert costs.cost("fig11/paper").runs == 3 * (7 * 10)


def test_costs_come_from_the_newest_result_of_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "SHIPPED", tmp_path)
    assert costs.known() is costs.GUESSED
    assert costs.basis(costs.known()).startswith("Guesses, not measured: 15 TFLOP/s")
    older = made.result("2025-12-31T00:00:00+00:00", card="Older")
    for name, found in (("check-gpu-a.json", made.result()), ("check-gpu-b.json", older)):
        (tmp_path / name).write_text(json.dumps(found))
    checks = made.result("2027-01-01T00:00:00+00:00", parts={})  # newer, but without times of steps
    (tmp_path / "check-gpu-c.json").write_text(json.dumps(checks))
    at = costs.known()
    # SAM's 2 ms and 12 ms are two passes each. The ResNet-50 fills the GPU and sets the rate; TF32 does not count.
    assert (at.card, at.rate, at.passes) == ("Made-up Card", 4e13, {"mlp": 0.001, "resnet18": 0.006})
    assert costs.basis(at) == (
        "Measured on Made-up Card (2026-01-02, commit 0123456): 40 TFLOP/s in float32, and no pass below 1 ms (mlp), "
        "6 ms (resnet18)."
    )
    assert at.seconds("resnet50", 1e9) == at.seconds("resnet18", 1e9) == 0.006
    assert at.seconds("resnet50", 4e12) == 0.1
    # Figure 7's nets do not fill a GPU: 3 seeds, 5 widths, one pass for SGD and two for each of 5 radii.
    hours = costs.cost("fig7/paper", at).hours
    assert hours == pytest.approx(3 * 5 * (1 + 5 * 2) * 46_900 * 0.001 / 3600)


def test_a_result_that_says_nothing_of_steps_leaves_the_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "SHIPPED", tmp_path)
    (tmp_path / "check-gpu.json").write_text(json.dumps(made.result(parts={})))
    assert costs.known() is costs.GUESSED


@pytest.mark.parametrize(
    ("text", "said"),
    [(json.dumps(made.result(rehearsal=True)), "is of a rehearsal and no measurement"), ("{", "no result of check-gpu"),
     ("[]", "no result of check-gpu"), ('{"rehearsal": false}', "no result of check-gpu")],
)  # fmt: skip
def test_a_rehearsal_is_no_measurement(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "SHIPPED", tmp_path)
    (tmp_path / "check-gpu.json").write_text(text)
    with pytest.raises(SettingError, match=said):
        costs.known()

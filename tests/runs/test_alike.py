"""Data and machine of the runs of a study are compared by their records."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from samgap.errors import SettingError
from samgap.figures import output
from samgap.figures.output import Study
from samgap.figures.sharpness.kinds import Sharpness
from samgap.runs import alike, records, sweeps
from samgap.runs.records import RunRecord
from tests.figures.probed import write
from tests.runs.test_records import make


def change(root: Path, rho: float, seed: int, **values: Any) -> RunRecord:
    """Rewrite the record of one run; return the previous record."""
    for path in root.glob("runs/*/record.json"):
        record = records.read(path.parent)
        assert record is not None
        if (record.rho, record.settings["seed"]) == (rho, seed):
            records.write(dataclasses.replace(record, **values), path.parent)
            return record
    raise LookupError


def study(root: Path) -> Study:
    return Sharpness(title="").evaluate(root, "mine", "own", "paper")


def test_runs_of_other_data_under_the_same_settings_are_refused(tmp_path: Path) -> None:
    write(tmp_path, lambda rho, seed: 1.0, rhos=(0, 0.1), seeds=(0, 1))
    other = change(tmp_path, 0.1, 1, data_sha256="1")
    with pytest.raises(SettingError) as caught:
        study(tmp_path)
    assert f"{sweeps.runs(tmp_path)}/digits-mlp-w0.3-sgd-seed0-" in str(caught.value)
    assert f"and {other.folder} saw different data under the same settings" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_settings_may_have_other_data_and_a_regression_s_may_be_rounded(tmp_path: Path) -> None:
    clean, noisy = make(), make("data.label_noise=0.5", data_sha256="1")
    alike.refuse_other_data([clean, noisy], tmp_path)
    with pytest.raises(SettingError):
        alike.refuse_other_data([clean, noisy, make("seed=1", data_sha256="1")], tmp_path)
    none = {"acc": None, "train_acc_final": None}
    alike.refuse_other_data([make(**none), make("seed=1", data_sha256="1", **none)], tmp_path)


def test_arms_that_were_not_carried_out_alike_are_reported(tmp_path: Path) -> None:
    write(tmp_path, lambda rho, seed: 1.0, rhos=(0, 0.1, 0.2), seeds=(0, 1))
    assert not any("pairs of an SGD" in text for text in output.remarks(study(tmp_path)))
    change(tmp_path, 0.1, 0, versions={"torch": "2.1"}, host="elsewhere", stepper="compiled")
    change(tmp_path, 0, 1, commit="def", dirty=True)
    assert output.remarks(study(tmp_path))[-1] == (
        "Note: of 4 pairs of an SGD and a SAM run, the two differ in stepper (eager and compiled) in 1, in torch "
        "(2 and 2.1) in 1, in commit (def with changes and abc) in 2."
    )

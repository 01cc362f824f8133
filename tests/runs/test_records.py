import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from samgap.errors import SettingError
from samgap.runs import records
from samgap.runs.identity import folder, identity
from samgap.runs.records import RunRecord
from samgap.training.settings import resolve
from tests.conftest import config


def make(*overrides: str, **values: Any) -> RunRecord:
    return record_of(resolve(config(*overrides)), **values)


def record_of(settings: dict[str, Any], **values: Any) -> RunRecord:
    acc = values.pop("acc", 0.9)
    fields: dict[str, Any] = {
        "identity": identity(settings), "folder": folder(settings), "settings": settings, "status": "done",
        "arm": "SAM" if settings["ascent"].get("rho") else "SGD", "test_acc_final": acc, "test_acc_best": acc,
        "test_loss_final": 0.1, "holdout_acc_final": None, "holdout_acc_best": None, "train_acc_final": 1.0,
        "train_loss_final": 0.01, "params_total": 1000, "params_live": 1000, "epochs": 30, "steps": 300,
        "data_sha256": "0", "seconds": 1.5, "device": "cpu", "host": "here", "started": "", "finished": "",
        "commit": "abc", "dirty": False, "versions": {"torch": "2"},
    }  # fmt: skip
    return RunRecord(**(fields | values))


def test_a_record_comes_back_as_written(tmp_path: Path) -> None:
    record = make("seed=3")
    records.write(record, tmp_path)
    assert records.read(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_regression_has_no_accuracy_and_a_classification_has_one(tmp_path: Path) -> None:
    none = {"acc": None, "train_acc_final": None}
    regression = make("loss=squared", **none)
    records.write(regression, tmp_path)
    assert records.read(tmp_path) == regression
    records.write(make(**none), tmp_path)
    with pytest.raises(SettingError, match="test_acc_final is null"):
        records.read(tmp_path)


def test_no_record_is_none(tmp_path: Path) -> None:
    assert records.read(tmp_path) is None
    assert records.read(tmp_path / "missing") is None


def broken(change: Any) -> str:
    values = dataclasses.asdict(make())
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"identity": "x"}', "\x00\x01",
        broken(lambda v: v.pop("seconds")),
        broken(lambda v: v.update(test_acc_final=None)),
        broken(lambda v: v.update(test_acc_final=93.0)),
        broken(lambda v: v.update(train_acc_final="high")),
        broken(lambda v: v.update(status="half")),
        broken(lambda v: v.update(format=2)),
        broken(lambda v: v.update(surprise=1)),
        broken(lambda v: v.update(seconds=None)),
        broken(lambda v: v.update(versions=[])),
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(
        SettingError, match=r"record\.json is damaged .*: move it away and start the run again\.$"
    ) as info:
        records.read(tmp_path)
    assert "\n" not in str(info.value)


def test_a_record_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "record.json").mkdir()
    with pytest.raises(
        SettingError, match=r"record\.json cannot be read \(Is a directory\): make it readable, or set root"
    ):
        records.read(tmp_path)


def test_a_record_cannot_hold_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        records.write(make(train_loss_final=float("nan")), tmp_path)
    assert not list(tmp_path.iterdir())

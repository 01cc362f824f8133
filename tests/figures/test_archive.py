"""Runs are archived as a few files next to a result, and restored."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import samgap
from samgap import draw
from samgap.errors import SettingError
from samgap.figures import archive, kind
from samgap.figures.table import collect
from samgap.runs import measurements, records, sweeps
from tests.figures import probed

Command = Callable[..., tuple[int, str, str]]
TOP = Path(__file__).parents[2]
FILES = ("metrics.csv", "probes")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return the result of a sweep with a missing and a diverged run."""
    root = probed.write(tmp_path / "first", lambda rho, seed: 10 - rho, missing=[(0.2, 2)], diverged=[(0.2, 1)])
    table = collect(sweeps.read(root, "mine", "own"), root)
    archive.write(table, root, tmp_path / "kept", FILES)
    return tmp_path / "kept"


def test_nothing_is_lost(kept: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    table = collect(sweeps.read(first, "mine", "own"), first)
    sweep, found = archive.read(kept)
    assert sweep == table.sweep
    assert found == table.records

    again = tmp_path / "again"
    assert archive.restore(kept, again) == (sweep, len(found))
    assert sweeps.read(again, "mine", "own") == sweep
    for record in found:
        here, there = (sweeps.runs(root) / record.folder for root in (first, again))
        assert records.read(there) == dataclasses.replace(record, restored=True)
        if record.status == "done":
            pd.testing.assert_frame_equal(pd.read_csv(there / "metrics.csv"), pd.read_csv(here / "metrics.csv"))
        names = sorted(path.name for path in (here / measurements.FOLDER).glob("*"))
        assert names == sorted(path.name for path in (there / measurements.FOLDER).glob("*"))
        for name in names:
            assert measurements.read(there, name[:-5]) == measurements.read(here, name[:-5])

    # An archive of the restored runs is identical.
    archive.write(collect(sweep, again), again, tmp_path / "twice", FILES)
    for path in (kept / "runs").iterdir():
        assert (tmp_path / "twice" / "runs" / path.name).read_text() == path.read_text()


def test_epochs_may_be_swept_and_not_be_finished(tmp_path: Path) -> None:
    root = probed.write(tmp_path / "first", lambda rho, seed: 10 - rho, diverged=[(0.2, 1)])
    sweep = sweeps.read(root, "mine", "own")
    members = [dataclasses.replace(each, axes=each.axes | {"epochs": 7}) for each in sweep.members]
    sweep = dataclasses.replace(sweep, axes=["epochs"], members=members)
    table = collect(sweep, root)
    assert {record.epochs for record in table.records} - {7}
    archive.write(table, root, tmp_path / "kept", FILES)
    assert archive.read(tmp_path / "kept") == (sweep, table.records)


def test_what_is_in_the_store_stays(kept: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert archive.restore(kept, first)[1] == 0
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("value", [None, 0, 0.1, 1e-7, True, "", "text", "1", "null", '"', "a,b\nc", [0.5, "x"], {}])
def test_a_cell_comes_back_as_it_was(value: object, tmp_path: Path) -> None:
    archive.write_rows(tmp_path / "rows.csv", [{"a": value, "b": 1}, {"b": 2}], archive.encode)
    first, second = archive.read_rows(tmp_path / "rows.csv", archive.decode)
    assert first == {"a": value, "b": 1}
    assert type(first["a"]) is type(value)
    assert second == {"b": 2}


def test_a_damaged_file_or_none_is_one_sentence(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="this result was kept without its runs"):
        archive.restore(tmp_path, tmp_path / "store")
    with pytest.raises(SettingError, match=r"There is no result .*none\."):
        archive.restore(tmp_path / "none", tmp_path / "store")
    table = kept / "runs" / "runs.csv"
    text = table.read_text()
    for broken in (
        re.sub("seed0-.", "seed0-x", text),
        text.replace("folder", "holder"),
        re.sub("0\\.05,", "0.06,", text),
    ):
        table.write_text(broken)
        with pytest.raises(SettingError, match=r"runs\.csv is damaged"):
            archive.restore(kept, tmp_path / "store")
    table.write_text(text)
    (kept / "runs" / "runs.json").write_text("{")
    with pytest.raises(SettingError, match=r"runs\.json is damaged"):
        archive.restore(kept, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_sweep_is_drawn_continued_and_loaded_from_what_was_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (
        "figure=fig7/smoke",
        "model.width=0.1,0.2",
        "ascent.rho=0,0.1",
        "epochs=2",
        "eval_every=1",
        "data.train_size=100",
    )
    first, again, drawn = (f"root={tmp_path}/{name}" for name in ("first", "again", "drawn"))
    assert command("train", "-m", *overrides, "seed=0,1", first)[0] == 0
    code, _, err = command("draw", overrides[0], first)
    assert code == 0, err
    monkeypatch.setattr(archive, "REFERENCE", tmp_path / "first")
    monkeypatch.setattr(draw, "REFERENCE", tmp_path / "first")

    code, out, _ = command("restore", overrides[0], again)
    assert (code, "8 of 8 runs were written" in out) == (0, True)
    code, _, err = command("train", "-m", *overrides, "seed=0,1", again)
    assert (code, "8/8 done" in err) == (0, True)
    assert "0 of 8 runs were written" in command("restore", overrides[0], again)[1]

    assert command("draw", overrides[0], "source=reference", drawn)[0] == 0
    for ending in ("csv", "png"):
        ours, theirs = (
            tmp_path / folder / "fig7" / "smoke" / f"fig7.{ending}" for folder in ("first", "drawn/reference")
        )
        assert ours.read_bytes() == theirs.read_bytes()

    loaded = samgap.load("fig7/smoke", root=f"{tmp_path}/first")
    report = json.loads((tmp_path / "first" / "fig7" / "smoke" / "fig7.json").read_text())
    assert loaded.verdicts["answer"].tolist() == [verdict["answer"] for verdict in report["verdicts"]]
    assert len(loaded.runs) == 8
    pd.testing.assert_frame_equal(
        loaded.gaps, samgap.load("fig7/smoke", source="reference", root=f"{tmp_path}/drawn").gaps
    )
    curves = {folder: pd.read_csv(tmp_path / "first/runs" / folder / "metrics.csv") for folder in loaded.runs["folder"]}
    for epoch in (None, 1):
        test_acc = [curve["test_acc"].iloc[(epoch or 0) - 1] for curve in curves.values()]
        runs = loaded.runs.assign(test_acc=test_acc)
        by_seed = runs.pivot(index=["seed", "model.width"], columns="ascent.rho", values="test_acc")
        for rho, cell in loaded.noise(epoch).groupby("ascent.rho"):
            gaps = 100 * (by_seed[rho] - by_seed[0]).unstack()
            assert cell["gap"].tolist() == pytest.approx(gaps.mean().tolist())
            assert cell["sd"].tolist() == pytest.approx(gaps.std().tolist())
    with pytest.raises(SettingError, match=r"two seeds' runs, scored after epoch 99\. Restored"):
        loaded.noise(epoch=99)
    with pytest.raises(SettingError, match=r"without the hits\.npz of two seeds' runs\. Restored and older"):
        samgap.load("fig7/smoke", root=f"{tmp_path}/again").noise()
    # This is shown in docs/analysis.md.
    (code,) = re.findall(r"```python\n(.*?)```", (TOP / "docs" / "analysis.md").read_text(), re.DOTALL)
    exec(code.replace("fig7/cpu", "fig7/smoke").replace("multirun", str(tmp_path / "first")), found := {})
    pd.testing.assert_frame_equal(found["fig7"].gaps, loaded.gaps)
    with pytest.raises(SettingError, match="There is no result"):
        samgap.load("fig8/cpu", source="reference", root=str(tmp_path))


def test_a_result_without_its_runs_is_judged_by_today_s_rules(command: Command, tmp_path: Path) -> None:
    kept = json.loads((archive.REFERENCE / "fig7" / "cpu" / "fig7.json").read_text())
    code, out, err = command("draw", "figure=fig7/cpu", "source=reference", f"root={tmp_path}")
    assert code == 0, err
    again = json.loads((tmp_path / "reference" / "fig7" / "cpu" / "fig7.json").read_text())
    assert [verdict["series"] for verdict in again["verdicts"]] == ["", "at equal rho (0.1)"]
    assert all(verdict["text"] in out for verdict in again["verdicts"])
    # Page's L and the seeds are those of the runs; at equal rho the smallest cell is left out, since a run collapsed.
    assert [(verdict["trend_l"], verdict["cells"]) for verdict in again["verdicts"]] == [(960, 7), (648, 6)]
    judged = {"verdicts", "provenance"}
    assert {key: value for key, value in again.items() if key not in judged} == {
        key: value for key, value in kept.items() if key not in judged
    }
    assert again["provenance"]["core_seconds"] == kept["provenance"]["core_seconds"]
    assert len(again["provenance"]["judged_by_commit"]) == 40
    code, _, err = command("draw", "figure=fig7/cpu", "source=reference", "latex=true", "draw.x=null", "style=paper")
    assert (code, "so only root and style can be set: leave out draw.x, latex." in err) == (1, True)


def test_kept_curves_are_judged_by_today_s_rules() -> None:
    folder = archive.REFERENCE / "fig1" / "cpu"
    report, frame = json.loads((folder / "fig1.json").read_text()), pd.read_csv(folder / "fig1.csv")
    verdicts = [dataclasses.asdict(new) for new in kind.from_settings(report["draw"]).judge_again(report, frame)]
    assert [verdict["answer"] for verdict in verdicts[::2]] == ["reproduced"] * 3
    assert [round(verdict["ratio"], 1) for verdict in verdicts[::2]] == [3.1, 4.2, 2.9]
    # SAM's rank 20 has stopped at the floor; without curves of single runs, linearity is not judged.
    assert ["without 320 parameters" in verdict["reason"] for verdict in verdicts[::2]] == [False, True, False]
    assert [verdict["answer"] for verdict in verdicts[1::2]] == ["inconclusive", "void", "inconclusive"]
    report["runs"]["diverged"] = ["a"]
    with pytest.raises(SettingError, match="too few for a verdict"):
        kind.from_settings(report["draw"]).judge_again(report, frame)


def test_a_verdict_that_cannot_be_given_again_stays(command: Command, tmp_path: Path) -> None:
    figure = "rho"
    code, out, err = command("draw", f"figure={figure}/cpu", "source=reference", f"root={tmp_path}")
    assert (code, "the one that it has is by the rules of its day" in out) == (0, True), err
    folder = archive.REFERENCE / figure / "cpu"
    # Everything except the picture is unchanged.
    for ending in ("json", "csv"):
        path = tmp_path / "reference" / figure / "cpu" / f"{figure}.{ending}"
        assert path.read_text() == (folder / f"{figure}.{ending}").read_text()
    assert path.with_suffix(".pdf").exists()

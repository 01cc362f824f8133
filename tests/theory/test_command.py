import json
import re
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from samgap.theory import __main__ as command
from samgap.theory import figure, on_counterexamples, on_lemmas, row, suite
from samgap.theory.row import Setup

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"


def test_the_command_writes_its_files_and_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_counterexamples, "LATE", 1000)
    assert command.main(["--draws", "120", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "0 unsettled" in printed.out
    written = json.loads((tmp_path / "theory.json").read_text())
    assert {each["name"]: each["verdict"] for each in written["rows"]} == suite.PUBLISHED
    assert {"commit", "seed", "draws", "versions", "command", "made"} <= set(written["provenance"])
    assert (tmp_path / "theory.png").stat().st_size > 10_000
    assert (tmp_path / "theory.pdf").read_bytes().startswith(b"%PDF")


def test_another_verdict_ends_the_command_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "STATEMENTS", {on_lemmas.fifth: suite.STATEMENTS[on_lemmas.fifth]})
    monkeypatch.setitem(suite.PUBLISHED, "lemma 5", "void")
    monkeypatch.setattr(figure, "draw", lambda setup: plt.figure())
    assert command.main(["--draws", "100", "--json", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.err == "lemma 5: holds, published is void\n"
    assert json.loads(printed.out)["rows"][0]["published"] == "void"


def test_a_check_that_could_not_fail_is_unsettled() -> None:
    assert row.judged(0.1, -0.1) == "holds"
    assert row.judged(0.1, 0.1) == "unsettled"
    assert row.judged(-0.1, 0.1) == "fails as stated"
    assert row.refuted(-0.1, False) == "unsettled"
    assert row.refuted(0.1, True) == "holds"


def test_a_folder_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        command.main(["--out", str(tmp_path / "file" / "theory")])
    assert "--out must be a folder that can be written" in capsys.readouterr().err


def test_an_argument_out_of_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--draws", "3"])
    assert "--draws must be 100 or more" in capsys.readouterr().err


def test_rows_do_not_depend_on_one_another() -> None:
    alone = on_lemmas.fifth(Setup(100))
    on_lemmas.fourth(Setup(100))
    assert on_lemmas.fifth(Setup(100)) == alone


def test_the_page_publishes_every_verdict_and_names_tests_that_exist() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \|.*\| (holds|fails as stated|void) \|", page, re.MULTILINE))
    assert rows == suite.PUBLISHED
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 10
    for file, test in named:
        assert f"def {test}(" in (PAGE.parents[1] / file).read_text(), test

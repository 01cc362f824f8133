"""The git history of a figure's file shows whether its study was registered, and where the sweep departs from it."""

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from samgap import provenance
from samgap.errors import SettingError
from samgap.figures import heading, output
from samgap.figures.gap.kinds import Gap
from samgap.figures.gap.series import Question
from samgap.runs import registered, sweeps
from samgap.runs.sweeps import Member, Sweep
from tests.figures import probed
from tests.processes import LIMIT

MEMBERS = [
    Member(f"{width}-{rho}-{seed}", "", {"model.width": width, "ascent.rho": rho, "seed": seed}, 1.0)
    for width in (0.1, 1) for rho in (0, 0.1) for seed in (7, 8, 9)
]  # fmt: skip
SWEEP = Sweep("mine", "own", ["model.width", "ascent.rho", "seed"], "", "", "", MEMBERS)
BLOCK: dict[str, Any] = {
    "question": "Does it?", "rule": "loso", "equal_rho": 0.1, "effect": 0.2, "cells": {"model.width": [0.1, 1]},
    "rhos": [0, 0.1], "seeds": [7, 8, 9], "exclusions": "None.", "pilot": "None.",
    "runs": registered.digest(member.identity for member in MEMBERS),
}  # fmt: skip


def git(folder: Path, *words: str, hour: int = 0) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@here", *words]
    dates = {"GIT_COMMITTER_DATE": f"2026-11-27T{hour:02}:00:00+01:00"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True, env=os.environ | dates)
    return done.stdout.strip()


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make commits with a figure: without the block, with it at 10:00 UTC, with another text, with another seed."""
    top, made = tmp_path / "checkout", []
    path = top / "conf/figure/mine/own.yaml"
    path.parent.mkdir(parents=True)
    (top / "src/samgap").mkdir(parents=True)
    git(top, "init", "--quiet")
    files = [{}, {"draw": {"registered": BLOCK}}, {"draw": {"registered": BLOCK}, "about": {"result": "Yes."}},
             {"draw": {"registered": BLOCK | {"seeds": [7, 8, 9, 10]}}}]  # fmt: skip
    for hour, values in enumerate(files, 10):
        path.write_text(yaml.safe_dump(values))
        git(top, "add", ".")
        git(top, "commit", "--quiet", "--message=a step", hour=hour)
        made.append(git(top, "rev-parse", "HEAD"))
    monkeypatch.setattr(provenance, "__file__", str(top / "src/samgap/provenance.py"))
    return made


def test_the_commit_is_the_one_that_fixed_the_block(commits: list[str], tmp_path: Path) -> None:
    git(tmp_path / "checkout", "checkout", "--quiet", commits[2])
    found = registered.registration(BLOCK, SWEEP, "2026-11-27T10:00:01+00:00")
    assert (found.commit, found.committed) == (commits[1], "2026-11-27T10:00:00+00:00")
    assert (found.beforehand, found.departs, found.short) == (True, "", "registered beforehand")
    assert f"Registered before the first run (commit {commits[1][:7]}, 2026-11-27 10:00, first" in str(found)
    late = registered.registration(BLOCK, SWEEP, "2026-11-27T10:00:00+00:00")
    assert (late.beforehand, late.short) == (False, "not registered beforehand")
    away = registered.registration(BLOCK, dataclasses.replace(SWEEP, members=MEMBERS[1:]), "2026-11-27T10:00:01+00:00")
    assert str(away).endswith("). Departs from what was registered.")
    assert away.details == f"{str(away)[:-1]}: {away.departs}."
    assert str(late).startswith("Not registered beforehand: registered after the first run (commit")


def test_a_block_that_a_merge_made_is_of_the_merge_and_one_that_it_brought_is_not(
    commits: list[str], tmp_path: Path
) -> None:
    top = tmp_path / "checkout"
    path = top / "conf/figure/mine/own.yaml"
    git(top, "checkout", "--quiet", "-b", "side", commits[1])
    git(top, "merge", "--quiet", "--no-commit", "--no-ff", "-s", "ours", commits[3])
    block = BLOCK | {"effect": 0.3}
    path.write_text(yaml.safe_dump({"draw": {"registered": block}}))
    git(top, "commit", "--quiet", "--all", "--message=a merge", hour=15)
    merge = git(top, "rev-parse", "HEAD")
    git(top, "checkout", "--quiet", "-b", "main2", commits[0])
    git(top, "merge", "--quiet", "--no-ff", "-m", "brought", "side", hour=18)
    git(top, "rm", "--quiet", str(path))
    git(top, "commit", "--quiet", "--message=gone", hour=19)
    git(top, "revert", "--quiet", "--no-edit", "HEAD", hour=20)
    found = registered.registration(block, SWEEP, "2026-11-27T23:00:00+00:00")
    assert found.commit == merge
    assert found.committed == "2026-11-27T14:00:00+00:00"


def test_a_block_that_no_commit_ends_with_was_not_registered(commits: list[str]) -> None:
    found = registered.registration(BLOCK, SWEEP, "2026-11-27T23:00:00+00:00")  # the last commit has one more seed
    assert (found.commit, found.beforehand) == (None, False)
    assert str(found) == "Not registered beforehand: no commit has this draw.registered."


def test_nothing_is_claimed_without_the_whole_history(
    commits: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/checkout", str(shallow))
    (shallow / "src/samgap").mkdir(parents=True)
    for place in (shallow / "src/samgap", tmp_path):
        monkeypatch.setattr(provenance, "__file__", str(place / "provenance.py"))
        found = registered.registration(BLOCK | {"seeds": [7, 8, 9, 10]}, SWEEP, "2026-11-27T23:00:00+00:00")
        assert (found.commit, found.beforehand) == (None, None)
        assert found.short.startswith("registered, unchecked")
    assert provenance.history("conf/figure/mine/own.yaml") is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"seeds": [8, 7, 9]}, ""),
        ({"seeds": [7, 8]}, "seed 7 to 9 and not 7, 8"),
        ({"rhos": [0, 0.1, 0.2]}, "ascent.rho 0, 0.1 and not 0, 0.1, 0.2"),
        ({"cells": {"model.width": [1]}, "seeds": [7]}, "model.width 0.1, 1 and not 1; seed 7 to 9 and not 7"),
        ({"cells": BLOCK["cells"] | {"model.name": ["mlp"]}}, "model.name null and not mlp"),
        ({"cells": BLOCK["cells"] | {"data.flip": [True, None, [1]]}}, "data.flip null and not true, null, [1]"),
        ({"runs": "abc"}, f"other runs (their digest is {BLOCK['runs']} and not abc)"),
    ],
)
def test_a_sweep_departs_from_what_was_registered(changed: dict[str, Any], said: str) -> None:
    assert registered.departures(BLOCK | changed, SWEEP) == said


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (3, "draw.registered must have the keys question, rule, .*, got 3"),
        ({"rule": "loso"}, "draw.registered must have the keys question, .*, got rule"),
        (BLOCK | {"rule": "paper"}, "draw.registered.rule must be one of holdout, loso.*, got \"paper\""),
        (BLOCK | {"seeds": "range(3)"}, "draw.registered.seeds must be a list of whole numbers from 0"),
        (BLOCK | {"cells": {"model.width": 1}}, "draw.registered.cells must be a list of values for each key"),
    ],
)  # fmt: skip
def test_a_block_is_checked_where_it_enters(block: Any, said: str) -> None:
    registered.check(None)
    registered.check(BLOCK)
    with pytest.raises(SettingError, match=said):
        registered.check(block)


def test_rule_and_registration_of_the_verdict_are_those_of_the_block(commits: list[str], tmp_path: Path) -> None:
    git(tmp_path / "checkout", "checkout", "--quiet", commits[1])
    root = probed.write(tmp_path / "root", lambda rho, seed: 1.0, rhos=(0, 0.1), seeds=(7, 8, 9))
    members = sweeps.read(root, "mine", "own").members
    block = BLOCK | {"cells": {}, "runs": registered.digest(member.identity for member in members)}
    seen: list[Question] = []

    class Watched(Gap):
        @staticmethod
        def verdicts(question: Question) -> Any:
            seen.append(question)
            return Gap.verdicts(question)

    study = Watched(title="Mine", registered=block).evaluate(root, "mine", "own", "paper")
    found = seen[0].gaps
    assert (found.unbiased, found.fixed_rho, found.effect) == ("loso", 0.1, 0.2)
    report = output.report(study)
    assert report["registered"]["departs"] == ""
    assert report["registered"]["text"] in report["remarks"]
    assert all(verdict["text"].endswith(f" {report['registered']['text']}") for verdict in report["verdicts"])
    assert ", not registered beforehand" in heading.footnote(report)
    again = output.judged_again(report, study.verdicts)
    assert [verdict["text"] for verdict in again["verdicts"]] == [verdict["text"] for verdict in report["verdicts"]]
    none = dataclasses.replace(study, table=dataclasses.replace(study.table, registered=None))
    assert "registered" not in output.report(none)

"""kill -9 at random times; `python -m tests.kills` repeats it any number of times."""

import subprocess

import pytest

from tests import processes
from tests.kills import kills


def test_a_sweep_that_is_killed_at_random_ends_like_an_undisturbed_one_and_leaves_nothing_behind() -> None:
    lines: list[str] = []
    assert kills(2, "cores", 1, lines.append) == 0, "\n".join(lines)


def test_a_process_that_hangs_is_killed_and_its_last_words_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LIMIT", 0.2)
    for wait in (processes.finished, lambda process: processes.wait_for(lambda: False, process)):
        process = subprocess.Popen(
            ["sh", "-c", "echo why >&2; sleep 60"], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        with pytest.raises(AssertionError, match=r"hangs: killed after 0\.2 s\. Its last lines:\nwhy"):
            wait(process)
        assert process.poll() is not None

import subprocess
from pathlib import Path

import pytest

from samgap import provenance
from tests.processes import LIMIT


def test_a_commit_that_could_not_be_looked_up_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@here", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True).stdout

    git("init", "--quiet")
    (tmp_path / "module.py").touch()
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "module.py"))
    provenance._checkout.cache_clear()
    try:
        with monkeypatch.context() as without_git:
            without_git.setenv("PATH", "/nowhere")
            assert provenance.commit() == ("unknown", True)
        assert provenance.commit() == (git("rev-parse", "HEAD").strip(), False)
        # The imported code is that of the first look-up.
        (tmp_path / "module.py").write_text("changed = True\n")
        assert provenance.commit()[1] is False
    finally:
        provenance._checkout.cache_clear()


def test_sources_may_come_without_git_and_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(provenance.COMMIT, "0123abc")
    assert provenance.commit() == ("0123abc", False)
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package"))
    provenance.versions.cache_clear()
    try:
        assert list(provenance.versions()) == ["python", "torch", "no-such-package"]
        assert provenance.versions()["no-such-package"] == "not installed"
    finally:
        provenance.versions.cache_clear()

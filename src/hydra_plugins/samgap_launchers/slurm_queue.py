"""The jobs of one sweep in Slurm's queue, for slurm.py; submitit writes what they do and what they tell."""

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra_plugins.samgap_launchers.jobs import Job, lost
from samgap import provenance
from samgap.errors import SettingError
from samgap.runs.records import RunOutcome


@dataclass
class Entry:
    """A job in the queue."""

    job: Job
    paths: Any  # submitit's, of what it writes
    gone: float | None = None  # when the queue was first seen without it


class Queue:
    """The jobs of one sweep in Slurm's queue."""

    def __init__(self, name: str, folder: Path, late_seconds: float) -> None:
        """
        Args:
            name: of all its jobs, and of no other sweep's.
            folder: where every start has its own for logs and pickles.
            late_seconds: that a result may take to be seen.
        """
        self.name, self.folder, self.late_seconds = name, folder, late_seconds
        self.start = folder / provenance.now().replace(":", "-")
        self.left: dict[str, Entry] = {}  # by Slurm's number

    def adopt(self, jobs: list[Job]) -> None:
        """Take over what an earlier driver left: jobs in the queue that have just these runs to do."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        wanted = {(str(job.folder), *sorted(job.overrides)): job for job in jobs}
        for number in [number for number, state in (self._listed() or {}).items() if state != "COMPLETING"]:
            for file in self.folder.glob(f"*/{number}_submitted.pkl"):
                paths = JobPaths(file.parent, job_id=number, task_id=0)
                task: Any = DelayedSubmission.load(file).function
                theirs = task.job
                job = wanted.pop((str(theirs.folder), *sorted(theirs.overrides)), None)
                if job is not None and not paths.result_pickle.exists():
                    self.left[number] = Entry(job, paths)

    def submit(self, jobs: list[Job], tasks: list[Any], timeouts: int, parameters: Mapping[str, Any]) -> None:
        """Queue an array.

        Args:
            jobs: the longest first.
            tasks: what each of them is to call.
            timeouts: times that a job is queued again for its time limit.
            parameters: sbatch's, as submitit spells them.

        Raises:
            SettingError: Slurm does not take it.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = SlurmExecutor(self.start, max_num_timeout=timeouts)
        executor.update_parameters(job_name=self.name, **parameters)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                queued = executor.submit_array(tasks)
        except (FailedJobError, FailedSubmissionError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise SettingError(
                f"Slurm does not take the jobs ({reason}): set partition, account, timeout_min and the other keys of "
                "hydra.launcher as this cluster wants them."
            ) from error
        self.left |= {one.job_id: Entry(job, one.task(0).paths) for job, one in zip(jobs, queued, strict=True)}

    def over(self) -> Iterator[tuple[Job, RunOutcome]]:
        """Forget the jobs that are over, and say what became of each."""
        listed = self._listed()
        for number, entry in list(self.left.items()):
            if (told := self._told(number, entry, listed)) is not None:
                del self.left[number]
                yield entry.job, told

    def cancel(self) -> None:
        """End all jobs of the sweep at once; runs go on from last.ckpt when they are queued again."""
        # Runs are deaf to the signal that Slurm sends first.
        for how in (["--state=RUNNING", "--signal=KILL"], []):
            subprocess.run(["scancel", "--me", f"--name={self.name}", *how], capture_output=True, check=False)
        print(f"{len(self.left)} jobs of Slurm canceled.", file=sys.stderr)

    def _told(self, number: str, entry: Entry, listed: Mapping[str, str] | None) -> RunOutcome | None:
        from submitit.core.utils import pickle_load

        if entry.paths.result_pickle.exists():
            outcome, told = pickle_load(entry.paths.result_pickle)
            return told if outcome == "success" else lost(entry.job, str(told).strip().splitlines()[-1])
        if listed is None or number in listed:
            entry.gone = None
            return None
        entry.gone = entry.gone or time.monotonic()
        if time.monotonic() - entry.gone < self.late_seconds:
            return None
        return lost(entry.job, f"Slurm's job {number} was ended{_last_words(entry.paths.stderr)}")

    def _listed(self) -> dict[str, str] | None:
        # Number and state; None when Slurm does not answer, which it may do for a while.
        command = ["squeue", "--me", "--noheader", "--array", f"--name={self.name}", "--format=%i %T"]
        try:
            lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        return {number: state for number, state in map(str.split, lines)}


def _last_words(log: Path) -> str:
    # Of a job that was killed the log ends with Slurm's reason.
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1]}; {log})" if lines else ""

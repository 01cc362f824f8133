"""The jobs of one sweep in Slurm's queue. submitit writes their pickled tasks, logs and results."""

import contextlib
import io
import math
import re
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

# Slurm's reasons for a job that will start by itself; other reasons need a person, such as a limit on single jobs.
ORDINARY = re.compile("None|Priority|Resources|Dependency|BeginTime|Cleaning|(?!Partition|.*PerJob).*Limit")
SILENCE_SECONDS = 300.0  # time for which squeue may fail before a warning


@dataclass
class Entry:
    """A job in the queue."""

    job: Job
    paths: Any  # submitit's JobPaths
    gone: float | None = None  # monotonic time when squeue first did not list it


class Queue:
    """The jobs of one sweep in Slurm's queue."""

    def __init__(self, name: str, folder: Path, late_seconds: float) -> None:
        """
        Args:
            name: name of all jobs of this sweep, and of no others.
            folder: has a folder with logs and pickles for each start of the sweep.
            late_seconds: longest delay of a result file after the end of its job.
        """
        self.name, self.folder, self.late_seconds = name, folder, late_seconds
        self.start = folder / provenance.now().replace(":", "-")
        self.active: dict[str, Entry] = {}  # Slurm's number of a job -> job
        self.blocked: dict[str, str] = {}  # number -> Slurm's reason, for jobs that need a person
        self.answered = time.monotonic()  # time of squeue's last answer; inf after the warning

    def adopt(self, jobs: list[Job]) -> None:
        """Take over the queued jobs of an earlier driver that carry out exactly these runs."""
        from submitit.core.utils import DelayedSubmission, JobPaths

        left = {(str(job.folder), *sorted(job.overrides)): job for job in jobs}
        for number in [number for number, (state, _) in (self._listed() or {}).items() if state != "COMPLETING"]:
            for file in self.folder.glob(f"*/{number}_submitted.pkl"):
                paths = JobPaths(file.parent, job_id=number, task_id=0)
                task: Any = DelayedSubmission.load(file).function
                queued = task.job
                job = left.pop((str(queued.folder), *sorted(queued.overrides)), None)
                if job is not None and not paths.result_pickle.exists():
                    self.active[number] = Entry(job, paths)

    def submit(self, jobs: list[Job], tasks: list[Any], timeouts: int, parameters: Mapping[str, Any]) -> None:
        """Queue an array.

        Args:
            jobs: the jobs, the longest first.
            tasks: the function that each job calls.
            timeouts: how many times a job is requeued at its time limit.
            parameters: parameters of sbatch, in submitit's spelling.

        Raises:
            SettingError: Slurm rejects the array.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = SlurmExecutor(self.start, max_num_timeout=timeouts)
        executor.update_parameters(job_name=self.name, **parameters)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints the errors that it raises
                queued = executor.submit_array(tasks)
        except (FailedJobError, FailedSubmissionError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise SettingError(
                f"Slurm rejects the jobs ({reason}): set partition, account, timeout_min and the other keys of "
                "hydra.launcher as this cluster requires."
            ) from error
        self.active |= {sent.job_id: Entry(job, sent.task(0).paths) for job, sent in zip(jobs, queued, strict=True)}

    def ended(self) -> Iterator[tuple[Job, RunOutcome]]:
        """Yield the ended jobs with their outcomes, and remove them from `active`."""
        listed = self._listed()
        self._warn(listed)
        for number, entry in list(self.active.items()):
            if (outcome := self._outcome(number, entry, listed)) is not None:
                del self.active[number]
                yield entry.job, outcome

    def cancel(self) -> None:
        """Cancel all jobs of the sweep; runs resume from last.ckpt when they are queued again."""
        # First SIGKILL to running jobs, since runs ignore the signal that scancel sends by default.
        for options in (["--state=RUNNING", "--signal=KILL"], []):
            subprocess.run(["scancel", "--me", f"--name={self.name}", *options], capture_output=True, check=False)
        print(f"{len(self.active)} jobs of Slurm canceled.", file=sys.stderr)

    def _warn(self, listed: Mapping[str, tuple[str, str]] | None) -> None:
        """Print the reasons why jobs wait that need a person, once and again when they change."""
        if listed is None:
            if time.monotonic() - self.answered > SILENCE_SECONDS:
                self.answered = math.inf
                print("squeue has not answered for minutes; this command waits until it does.", file=sys.stderr)
            return
        before, self.answered = self.blocked, time.monotonic()
        self.blocked = {
            number: reason
            for number, (state, reason) in listed.items()
            if number in self.active and state == "PENDING" and not ORDINARY.fullmatch(reason)
        }
        for reason in {reason: None for number, reason in self.blocked.items() if before.get(number) != reason}:
            numbers = [number for number, other in self.blocked.items() if other == reason]
            more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
            print(
                f"Slurm does not start {', '.join(numbers[:3])}{more} ({reason}): scontrol release jobname={self.name} "
                "frees held jobs (for JobHeldAdmin, an administrator must), scancel --state=PENDING "
                f"--name={self.name} gives up on all that wait, and until then this command waits.",
                file=sys.stderr,
            )

    def _outcome(self, number: str, entry: Entry, listed: Mapping[str, object] | None) -> RunOutcome | None:
        if entry.paths.result_pickle.exists():
            from submitit.core.utils import pickle_load

            status, result = pickle_load(entry.paths.result_pickle)
            return result if status == "success" else lost(entry.job, str(result).strip().splitlines()[-1])
        if listed is None or number in listed:
            entry.gone = None
            return None
        entry.gone = entry.gone or time.monotonic()
        if time.monotonic() - entry.gone < self.late_seconds:
            return None
        return lost(entry.job, f"Slurm's job {number} was ended{_last_line(entry.paths.stderr)}")

    def _listed(self) -> dict[str, tuple[str, str]] | None:
        # Number -> (state, reason); None if Slurm does not answer, which may be temporary.
        command = ["squeue", "--me", "--noheader", "--array", f"--name={self.name}", "--format=%i %T %r"]
        try:
            lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        return {number: (state, reason) for number, state, reason in (line.split(maxsplit=2) for line in lines)}


def _last_line(log: Path) -> str:
    # If Slurm kills a job, the last line of its log has the reason.
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1]}; {log})" if lines else ""

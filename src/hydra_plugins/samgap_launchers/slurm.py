"""hydra/launcher=slurm: every run is a job of Slurm, started by submitit.

A job is over when `squeue` no longer lists it, so that no accounting is wanted; then its result tells, or its lack.
The jobs need no driver. One that is lost leaves them to Slurm, and the next finds those that are left by what the
first wrote: it waits for the jobs in the queue that have just its runs to do, and queues the others.
"""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Told, Work, lost
from samgap import provenance
from samgap.errors import SettingError

ARRAY = 1000  # jobs of an array; Slurm's own limit is 1001 unless a cluster sets another
SIGNAL_SECONDS = 60  # before its time limit a job is told to have itself queued again; Slurm is exact to a minute
LEAST = {"timeout_min": 3, "timeouts": 0, "nodes": 1, "cpus_per_task": 1, "gpus_per_task": 0, "parallel": 1,
         "poll_seconds": 0, "late_seconds": 0}  # fmt: skip


@dataclass
class SlurmConf:
    """conf/hydra/launcher/slurm.yaml explains the keys."""

    _target_: str = "hydra_plugins.samgap_launchers.slurm.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    timeout_min: int = 1440
    timeouts: int = 100
    nodes: int = 1
    cpus_per_task: int = 1
    gpus_per_task: int = 0
    mem: str | None = None
    parallel: int = 100
    setup: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    folder: str = "slurm"
    poll_seconds: float = 1
    late_seconds: float = 20


ConfigStore.instance().store(group="hydra/launcher", name="samgap_slurm", node=SlurmConf, provider="samgap")


class Task:
    """What a job calls; submitit pickles it."""

    def __init__(self, job: Job, work: Work) -> None:
        self.job, self.work = job, work

    def __call__(self) -> Told:
        """Carry out the run in this process, one of as many as it has devices."""
        if self.job.devices > 1:
            os.environ.update(_ranks())
        return self.work.carry_out(self.job)

    def checkpoint(self) -> Any:
        """What submitit queues again when the job is preempted or out of time: the same, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmLauncher(JobLauncher):
    """Queues the runs, watches the queue and collects what they tell."""

    several_devices = True

    def __init__(self, **values: Any) -> None:
        plain: dict[str, Any] = {key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                 for key, value in values.items()}  # fmt: skip
        self.conf = SlurmConf(**plain)

    def carry_out(self, jobs: list[Job], work: Work) -> list[Told]:
        """Queue what is not in the queue yet, and wait for all of it."""
        _refuse(self.conf, jobs)
        folder = Path(self.conf.folder).absolute()
        # The name says whose jobs they are, also to a driver that knows nothing else of them.
        place = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        queue = Queue(f"samgap-{self.config.name}-{self.config.scale}-{place}", folder, self.conf.late_seconds)
        told: dict[int, Told] = {}
        try:
            queue.adopt(jobs)
            if queue.left:
                print(f"{len(queue.left)} runs are in Slurm's queue already.", file=sys.stderr)
            known = [entry.job for entry in queue.left.values()]
            queue.submit([job for job in jobs if job not in known], work, self.conf)
            while queue.left:
                told |= {job.number: result for job, result in queue.over()}
                time.sleep(self.conf.poll_seconds)
        except KeyboardInterrupt:
            queue.cancel()
            raise
        return [told[job.number] for job in jobs]


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

    def submit(self, jobs: list[Job], work: Work, conf: SlurmConf) -> None:
        """Queue jobs, in an array for each number of devices, the longest first.

        Raises:
            SettingError: Slurm takes none of it.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        start = self.folder / provenance.now().replace(":", "-")
        for devices in sorted({job.devices for job in jobs}, reverse=True):
            alike = [job for job in jobs if job.devices == devices]
            for first in range(0, len(alike), ARRAY):
                array = alike[first : first + ARRAY]
                executor = SlurmExecutor(start, max_num_timeout=conf.timeouts)
                executor.update_parameters(job_name=self.name, **_parameters(conf, devices))
                try:
                    with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
                        queued = executor.submit_array([Task(job, work) for job in array])
                except (FailedJobError, FailedSubmissionError) as error:
                    reason = str(error).strip().splitlines()[-1]
                    raise SettingError(
                        f"Slurm does not take the jobs ({reason}): set partition, account, timeout_min and the other "
                        "keys of hydra.launcher as this cluster wants them."
                    ) from error
                self.left |= {one.job_id: Entry(job, one.task(0).paths) for job, one in zip(array, queued, strict=True)}

    def over(self) -> Iterator[tuple[Job, Told]]:
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

    def _told(self, number: str, entry: Entry, listed: Mapping[str, str] | None) -> Told | None:
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


def _refuse(conf: SlurmConf, jobs: list[Job]) -> None:
    missing = [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]
    if missing:
        raise SettingError(
            f"hydra/launcher=slurm wants Slurm's commands on PATH and {missing[0]} is not there: start it where they "
            "are (a login node), or set hydra/launcher=cores."
        )
    for key, least in LEAST.items():
        if getattr(conf, key) < least:
            raise SettingError(f"hydra.launcher.{key} must be at least {least}, got {getattr(conf, key)}.")
    for job in jobs:
        if job.devices % conf.nodes:
            raise SettingError(
                f"hydra.launcher.nodes={conf.nodes} must divide trainer.devices={job.devices}: change one of them."
            )


def _parameters(conf: SlurmConf, devices: int) -> dict[str, Any]:
    tasks = devices // conf.nodes  # on a node
    return {
        "partition": conf.partition,
        "account": conf.account,
        "qos": conf.qos,
        "time": conf.timeout_min,
        "nodes": conf.nodes,
        "ntasks_per_node": tasks,
        "cpus_per_task": conf.cpus_per_task,
        "gpus_per_node": conf.gpus_per_task * tasks or None,
        "mem": conf.mem,
        "array_parallelism": conf.parallel,
        "setup": conf.setup or None,
        "wckey": None,  # submitit would set one
        "signal_delay_s": SIGNAL_SECONDS,
        # A run that loses a process waits for it in vain; and srun does not ask sbatch for the number of cores.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={conf.cpus_per_task}"],
        "additional_parameters": {"requeue": True} | conf.extra,
    }


def _ranks() -> dict[str, str]:
    """What torchrun would tell this task of a job."""
    from submitit import JobEnvironment

    task = JobEnvironment()
    # One machine finds itself under this name whatever its own is; MASTER_ADDR of `setup` wins.
    first = "127.0.0.1" if task.num_nodes == 1 else task.hostnames[0]
    return {
        "RANK": str(task.global_rank),
        "WORLD_SIZE": str(task.num_tasks),
        "LOCAL_RANK": str(task.local_rank),
        "LOCAL_WORLD_SIZE": str(task.num_tasks // task.num_nodes),
        "GROUP_RANK": str(task.node),
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", first),
        # Below those that a system gives to whoever asks, and another for each job of a node.
        "MASTER_PORT": str(12000 + int(task.raw_job_id) % 20000),
    }


def _last_words(log: Path) -> str:
    # Of a job that was killed the log ends with Slurm's reason.
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1]}; {log})" if lines else ""

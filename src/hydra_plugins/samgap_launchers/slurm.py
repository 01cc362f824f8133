"""hydra/launcher=slurm: every run is a job of Slurm, started by submitit.

A job has ended when `squeue` no longer lists it, so Slurm's accounting is not needed. Its result file has its outcome;
a job without this file was killed. This process is the driver. Jobs continue if the driver dies. The next driver finds
them by the files of the first one, waits for those with exactly its runs, and queues the other runs.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from omegaconf import OmegaConf

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work
from hydra_plugins.samgap_launchers.slurm_queue import Queue
from samgap.errors import SettingError
from samgap.rules import Rule, at_least, check, count, is_text
from samgap.runs.records import RunOutcome

ARRAY = 1000  # most jobs in an array; Slurm's default limit is 1001
SIGNAL_SECONDS = 60  # before the time limit: a job gets a signal and requeues itself; Slurm is exact to a minute
RULES = {
    "timeout_min": count(3),
    "timeouts": count(0),
    "nodes": count(1),
    "cpus_per_task": count(1),
    "gpus_per_task": count(0),
    "parallel": count(1),
    "extra": Rule(lambda value: isinstance(value, dict | None), "like {constraint: a100}, or null"),
    "setup": Rule(lambda value: value is None or isinstance(value, list), "a list of shell commands, or null"),
    "folder": Rule(is_text, "a folder"),
    "poll_seconds": at_least(0),
    "late_seconds": at_least(0),
}


class Task:
    """The function that a job calls; submitit pickles it."""

    def __init__(self, job: Job, work: Work) -> None:
        # The pickle stays on a disk that others may read. sbatch passes the variable on by itself.
        environment = {key: value for key, value in work.environment.items() if key != "WANDB_API_KEY"}
        self.job, self.work = job, replace(work, environment=environment)

    def __call__(self) -> RunOutcome:
        """Carry out the run in this process, which is one of its `trainer.devices` processes."""
        if self.job.devices > 1:
            os.environ.update(_ranks())
        return self.work.carry_out(self.job)

    def checkpoint(self) -> Any:
        """Return this task to be queued again; submitit calls it if the job is preempted or reaches its time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmLauncher(JobLauncher):
    """Queues the runs, watches the queue and collects the outcomes."""

    several_devices, outlived = True, True

    def __init__(self, **keys: Any) -> None:
        """
        Args:
            keys: those of conf/hydra/launcher/slurm.yaml.

        Raises:
            SettingError: a value is invalid.
        """
        plain: Any = OmegaConf.to_container(OmegaConf.create(keys))
        check(plain, RULES, "hydra.launcher.")
        self.conf = SimpleNamespace(**plain)

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """Queue the runs that are not in the queue yet, and wait for all of them."""
        _refuse(self.conf, jobs)
        folder = Path(self.conf.folder).absolute()
        # The name by which a later driver finds the jobs of this sweep.
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        queue = Queue(f"samgap-{self.config.name}-{self.config.scale}-{digest}", folder, self.conf.late_seconds)
        outcomes: dict[int, RunOutcome] = {}
        try:
            queue.adopt(jobs)
            if queue.active:
                print(f"{len(queue.active)} runs are in Slurm's queue already.", file=sys.stderr)
            queued = [entry.job for entry in queue.active.values()]
            for array in _arrays([job for job in jobs if job not in queued]):
                tasks = [Task(job, work) for job in array]
                queue.submit(array, tasks, self.conf.timeouts, _parameters(self.conf, array[0].devices))
            while queue.active:
                outcomes |= {job.number: result for job, result in queue.ended()}
                time.sleep(self.conf.poll_seconds)
        except KeyboardInterrupt:
            queue.cancel()
            raise
        return [outcomes[job.number] for job in jobs]


def _refuse(conf: SimpleNamespace, jobs: list[Job]) -> None:
    missing = [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]
    if missing:
        raise SettingError(
            f"hydra/launcher=slurm needs Slurm's commands on PATH and {missing[0]} is not there: start it where they "
            "are (a login node), or set hydra/launcher=cores."
        )
    for job in jobs:
        if job.devices % conf.nodes:
            raise SettingError(
                f"hydra.launcher.nodes={conf.nodes} must divide trainer.devices={job.devices}: change one of them."
            )


def _arrays(jobs: list[Job]) -> Iterator[list[Job]]:
    # All jobs of an array get the same resources; within an array the longest run comes first.
    for devices in sorted({job.devices for job in jobs}, reverse=True):
        same_devices = [job for job in jobs if job.devices == devices]
        yield from (same_devices[first : first + ARRAY] for first in range(0, len(same_devices), ARRAY))


def _parameters(conf: SimpleNamespace, devices: int) -> dict[str, Any]:
    tasks = devices // conf.nodes  # per node
    alike = {key: getattr(conf, key) for key in ("partition", "account", "qos", "nodes", "cpus_per_task", "mem")}
    return alike | {
        "time": conf.timeout_min,
        "ntasks_per_node": tasks,
        "gpus_per_node": conf.gpus_per_task * tasks or None,
        "array_parallelism": conf.parallel,
        "setup": conf.setup or None,
        "wckey": None,  # submitit's default is not empty
        "signal_delay_s": SIGNAL_SECONDS,
        # If a process of a run dies, the others would wait forever. srun ignores the number of cores given to sbatch.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={conf.cpus_per_task}"],
        "additional_parameters": {"requeue": True} | (conf.extra or {}),
    }


def _ranks() -> dict[str, str]:
    """Return the variables that torchrun would set in this task."""
    from submitit import JobEnvironment

    task = JobEnvironment()
    # A single node can always use the loopback address. With several, Slurm gives the address of the first node, which
    # has started all tasks. A MASTER_ADDR that `setup` exports takes precedence.
    master = "127.0.0.1" if task.num_nodes == 1 else os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    return {
        "RANK": str(task.global_rank),
        "WORLD_SIZE": str(task.num_tasks),
        "LOCAL_RANK": str(task.local_rank),
        "LOCAL_WORLD_SIZE": str(task.num_tasks // task.num_nodes),
        "GROUP_RANK": str(task.node),
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", master),
        # Below the range of ephemeral ports, and different for the jobs of a node.
        "MASTER_PORT": str(12000 + int(task.raw_job_id) % 20000),
    }

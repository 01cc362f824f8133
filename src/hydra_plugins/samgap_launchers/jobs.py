"""Code that our launchers share: the jobs of a sweep, and how a worker process carries out a job.

A launcher is a class with one method, `carry_out`. Only this file uses Hydra's interface of launchers.
"""

import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from samgap import files, naming
from samgap.runs import measurements, sweeps
from samgap.runs.records import ERROR, RunOutcome

naming.register()

# Prefixes of environment variables that workers on other machines get: settings of tools, but no paths of data.
PASSED = ("OMP_NUM_THREADS", "HYDRA_FULL_ERROR", "WANDB_", "SAMGAP_", "NCCL_", "PYTHONPATH")


@dataclass(frozen=True)
class Job:
    """One run of the sweep."""

    number: int
    overrides: list[str]  # all overrides of the run, as typed
    devices: int  # trainer.devices
    folder: Path  # absolute path of the run's folder; its name ends with the run's identity
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)  # those requested: name -> settings
    accelerator: str = "cpu"  # trainer.accelerator


@dataclass(frozen=True)
class Work:
    """Everything that a worker needs besides the job. It can be pickled."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    state: Any  # state of Hydra's singletons
    cwd: str  # the working directory
    environment: dict[str, str]

    def carry_out(self, job: Job) -> RunOutcome:
        """Carry out the run in this process, which may carry out several. A failure is returned, not raised."""
        os.environ.update(self.environment)
        os.chdir(self.cwd)
        setup_globals()
        Singleton.set_state(self.state)
        config = self.context.config_loader.load_sweep_config(self.config, job.overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(job.number), job.number
        HydraConfig.instance().set_config(config)
        job_return = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return job_return.return_value


class JobLauncher(Launcher):
    """The part of a launcher that Hydra calls. If a run fails, the others go on."""

    several_devices = False  # whether it can start a run with several processes (trainer.devices above 1)
    outlived = False  # whether its runs go on without this process

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments that Hydra passes before it calls `launch`."""
        self.hydra_context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out all jobs; the outcome of each is the `return_value` of its JobReturn."""
        setup_globals()
        jobs = [self._job(initial_job_idx + k, list(overrides)) for k, overrides in enumerate(job_overrides)]
        for job in jobs:
            (job.folder / ERROR).unlink(missing_ok=True)  # from an earlier start
        if self.expects_gpus() and all(job.accelerator == "cpu" for job in jobs):
            print("These runs use no GPU, since their trainer is cpu: for GPUs add trainer=auto.", file=sys.stderr)
        environment = {key: value for key, value in os.environ.items() if key.startswith(PASSED)}
        state = Singleton.get_state()
        work = Work(self.hydra_context, self.task, self.config, state, str(Path.cwd()), environment)
        return [JobReturn(_return_value=outcome, status=JobStatus.COMPLETED) for outcome in self.carry_out(jobs, work)]

    def expects_gpus(self) -> bool:
        """Return whether this launcher is for GPUs on this machine, so that a sweep without them gets a warning."""
        return False

    @abstractmethod
    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """Carry out `jobs`, the longest first, and return their outcomes in the order of `jobs`."""

    def _job(self, number: int, overrides: list[str]) -> Job:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
        probes = measurements.requested(naming.plain(config, "probe"))
        return Job(number, overrides, int(config.trainer.devices), folder, probes, config.trainer.accelerator)


def lost(job: Job, reason: str) -> RunOutcome:
    """Return the outcome of a run whose process is gone, from its results or error.txt, or else from `reason`.

    In the last case, write `reason` to error.txt, from which `status` reads it.

    Args:
        job: the run.
        reason: what happened to its process, as part of a sentence.
    """
    state, record, problem = sweeps.state(job.folder, job.folder.name.rpartition("-")[2], job.probes)
    if record is not None:
        return RunOutcome(job.folder.name, record.status)
    if state == "running":
        return RunOutcome(job.folder.name, "busy")
    if state not in ("failed", "damaged"):
        files.replace_text(job.folder / ERROR, f"Lost: {reason}\n")
    return RunOutcome(job.folder.name, "failed", problem or reason)

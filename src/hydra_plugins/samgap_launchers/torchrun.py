"""hydra/launcher=torchrun: one run after another, each on several devices of this machine."""

import subprocess
import sys

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work, lost
from samgap.runs.records import RunOutcome
from samgap.runs.sweeps import FINISHED

LOG = "torchrun.log"


class TorchrunLauncher(JobLauncher):
    """Starts `torchrun ... -m samgap.train` for each run, with its overrides."""

    several_devices = True

    def expects_gpus(self) -> bool:
        """Return whether this machine has GPUs."""
        from samgap.training import cuda  # imports torch, and Hydra imports this file for every command

        return cuda.cards() > 0

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """Start a process for each device; if one fails, torchrun ends all processes of the run."""
        limit = self.config.hydra.sweeper.get("stop_after")
        outcomes: list[RunOutcome] = []
        for job in jobs:
            failed = sum(outcome.status == "failed" for outcome in outcomes)
            is_enough = limit is not None and failed >= limit
            outcomes.append(RunOutcome(job.folder.name, "skipped") if is_enough else _run(job))
        return outcomes


def _run(job: Job) -> RunOutcome:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={job.devices}"]
    # The log has errors before the run begins; later ones are in error.txt. It is deleted after a success.
    log = job.folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*start, "-m", "samgap.train", *job.overrides], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # torchrun then ends the run's processes
            process.wait()
            raise
    outcome = lost(job, f"torchrun ended with {code}, see {log}")
    if outcome.status in FINISHED:
        log.unlink()
    return outcome

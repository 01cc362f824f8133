"""hydra/launcher=torchrun: one run after the other, each on several devices of this machine by torchrun."""

import subprocess
import sys
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work, lost
from samgap.runs.records import RunOutcome
from samgap.runs.sweeps import FINISHED

LOG = "torchrun.log"


@dataclass
class TorchrunConf:
    """No keys: trainer.devices says how many processes a run has."""

    _target_: str = "hydra_plugins.samgap_launchers.torchrun.TorchrunLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="torchrun", node=TorchrunConf, provider="samgap")


class TorchrunLauncher(JobLauncher):
    """Starts what a user would type: torchrun ... -m samgap.train, with the run's own overrides."""

    several_devices = True

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """One process a device; torchrun ends all of a run when one of them ends."""
        return [_run(job) for job in jobs]


def _run(job: Job) -> RunOutcome:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={job.devices}"]
    # Lightning and torchrun take many words for an error that error.txt has whole; here is what they say without one.
    log = job.folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*start, "-m", "samgap.train", *job.overrides], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # it ends the run's processes
            process.wait()
            raise
    outcome = lost(job, f"torchrun ended with {code}, see {log}")
    if outcome.status in FINISHED:
        log.unlink()
    return outcome

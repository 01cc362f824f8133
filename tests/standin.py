"""Work of a Ray worker in tests of scheduling.

This is a separate module since every worker imports the module of its work; tests/test_gpus.py imports torch and all of
the project, which would take each of eight processes ten seconds.
"""

import os
import time
from dataclasses import dataclass, field

from omegaconf import DictConfig

from hydra_plugins.samgap_launchers.jobs import Job
from samgap.runs.records import RunOutcome


@dataclass(frozen=True, kw_only=True)
class Seen(RunOutcome):
    """The outcome of a run, with the device that its process sees."""

    device: str


@dataclass
class StandIn:
    """Replaces `Work`: a run holds its GPU for the time of its job, and until `meet` runs have begun."""

    config: DictConfig
    meet: int
    environment: dict[str, str] = field(default_factory=dict)

    def carry_out(self, job: Job) -> Seen:
        job.folder.mkdir(parents=True)
        while len([*job.folder.parent.iterdir()]) < self.meet:
            time.sleep(0.05)
        time.sleep(float(job.overrides[0]))
        return Seen(job.folder.name, "done", device=os.environ.get("CUDA_VISIBLE_DEVICES", ""))

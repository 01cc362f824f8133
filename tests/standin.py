"""What a worker of Ray does in tests that ask for the scheduling alone.

In a module of its own: every worker imports the module that its work is from, and tests/test_gpus.py brings torch and
all of the project, which takes each of eight processes ten seconds.
"""

import os
import time
from dataclasses import dataclass, field

from omegaconf import DictConfig

from hydra_plugins.samgap_launchers.jobs import Job
from samgap.runs.records import RunOutcome


@dataclass(frozen=True, kw_only=True)
class Seen(RunOutcome):
    """The device that the process sees, too."""

    device: str


@dataclass
class StandIn:
    """Instead of `Work`: a run holds its GPU for as long as its job says, and until `meet` runs have begun."""

    config: DictConfig
    meet: int
    environment: dict[str, str] = field(default_factory=dict)

    def carry_out(self, job: Job) -> Seen:
        job.folder.mkdir(parents=True)
        while len([*job.folder.parent.iterdir()]) < self.meet:
            time.sleep(0.05)
        time.sleep(float(job.overrides[0]))
        return Seen(job.folder.name, "done", device=os.environ.get("CUDA_VISIBLE_DEVICES", ""))

"""hydra/launcher=gpus: one run, or several, on each GPU of this machine or of a Ray cluster."""

import logging
import math
import os
import secrets
import signal
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work, lost
from hydra_plugins.samgap_launchers.stack import carry_out, most, stacked
from samgap import files, provenance
from samgap.errors import SettingError
from samgap.rules import Rule, check, count, is_text, number
from samgap.runs.records import RunOutcome

# Hydra imports this file for every command, so Ray is only imported where it is used.

GPUS = "gpus.csv"
RULES = {
    "gpus_per_run": number(
        "1 or a share such as 0.5, 0.33 or 0.25 that fills a GPU",
        lambda share: 0 < share <= 1 and abs(round(1 / share) * share - 1) <= 0.02,
    ),
    "gpus": count(1).or_null(),
    "retries": count(0),
    "address": Rule(is_text, "an address such as auto or head:6379").or_null(),
}
POLL_SECONDS = 5.0  # between checks whether the cluster still has a GPU
OBJECT_STORE_BYTES = 10**8  # shared memory. Ray's default is a third of all memory; settings and outcomes need little


class GpusLauncher(JobLauncher):
    """Distributes the runs over the available GPUs."""

    def __init__(
        self, gpus_per_run: float = 1, gpus: int | None = None, address: str | None = None, retries: int = 1,
        stack: Any = None,
    ) -> None:  # fmt: skip
        """
        Args:
            gpus_per_run, gpus, address, retries, stack: see conf/hydra/launcher/gpus.yaml.

        Raises:
            SettingError: a value is invalid.
        """
        values = {"gpus_per_run": gpus_per_run, "gpus": gpus, "retries": retries, "address": address}
        check(values, RULES, "hydra.launcher.")
        if gpus is not None and address is not None:
            raise SettingError(
                f"hydra.launcher.gpus={gpus} is for a Ray started here, and hydra.launcher.address={address} "
                "joins one that knows its GPUs: set one of them to null."
            )
        self.gpus, self.address, self.retries = gpus, address, retries
        self.runs_per_gpu, self.most = round(1 / gpus_per_run), None if stack is None else most(stack)

    def expects_gpus(self) -> bool:
        """Return True, since Ray reserves a GPU, or a share of one, for each run."""
        return True

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """Start a worker for each GPU or share of one. A Ray that was started here is stopped after the sweep."""
        with self._ray(work) as gpus:
            stacks = [[job] for job in jobs] if self.most is None else stacked(jobs, work, self.most, gpus)
            # A few runs are spread over all GPUs instead of sharing one.
            runs_per_gpu = min(self.runs_per_gpu, math.ceil(len(stacks) / gpus))
            pool = WorkerPool(stacks, work, math.floor(1e4 / runs_per_gpu) / 1e4, self.retries)
            outcomes = pool.carry_out(min(len(stacks), runs_per_gpu * gpus))
            return [outcomes.get(job.number) or lost(job, pool.problem) for job in jobs]

    @contextmanager
    def _ray(self, work: Work) -> Iterator[int]:
        """Connect to Ray and yield the number of GPUs."""
        if self.address is None:
            # Ray reads this secret when it is imported. Otherwise it would write one to the home directory.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        elif ":" in self.address:
            _check_reachable(self.address)
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address is None:
            options |= {"num_gpus": self.gpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        else:
            options["runtime_env"] = {"env_vars": work.environment}
        ray._private.worker._worker_logs_enabled = False  # no public option silences all output
        handler = signal.getsignal(signal.SIGTERM)  # Ray replaces it and does not restore it
        try:
            try:
                ray.init(self.address or "local", **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                key = "gpus" if self.address is None else f"address={self.address}"
                raise SettingError(f"Ray cannot start with hydra.launcher.{key} ({reason}).") from error
            gpus = int(ray.cluster_resources().get("GPU", 0))
            if not gpus:
                raise SettingError(
                    "hydra/launcher=gpus needs a GPU and Ray finds none here: set hydra/launcher=cores, "
                    "hydra.launcher.gpus to a number, or hydra.launcher.address to a cluster with GPUs."
                )
            yield gpus
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, handler)


class Worker:
    """A Ray actor that carries out one run after another. Its process sees one GPU even before it imports torch."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def place(self) -> tuple[str, str]:
        """Return the address of the node and the index of its GPU."""
        import ray

        return ray.util.get_node_ip_address(), " ".join(ray.get_runtime_context().get_accelerator_ids()["GPU"])

    def carry_out(self, stack: list[Job]) -> list[RunOutcome]:
        """Carry out a run, or a stack of them."""
        try:
            return carry_out(self.work, stack)
        except Exception as error:  # failed runs return outcomes, so this error has another cause
            return [lost(job, repr(error)) for job in stack]


@dataclass
class Slot:
    """A share of a GPU: its worker, and the run, or stack of runs, that the worker carries out."""

    worker: Any
    failed_starts: int  # number of consecutive workers that died here before their first run
    place: tuple[str, str] = ("", "")
    jobs: list[Job] = field(default_factory=list)
    start: str = ""


class WorkerPool:
    """The workers of a sweep, and the queue of runs.

    It does not use Ray's tasks and retries. A process that Ray reuses for another task may get another GPU, which CUDA
    ignores after its start, and a new process for each task imports torch for each run (64 short runs on two cores took
    46 s instead of 4). When Ray restarts an actor, it does not report when and where the process was killed, which
    gpus.csv records, and the run waits for that actor even if another worker is free.
    """

    def __init__(self, stacks: list[list[Job]], work: Work, share: float, retries: int) -> None:
        import ray

        self.ray, self.work, self.retries = ray, work, retries
        self.actor = ray.remote(num_gpus=share, num_cpus=0)(Worker)
        self.queue = deque(stacks)
        self.slots: dict[Any, Slot] = {}  # by the pending result of their worker
        self.kills: Counter[int] = Counter()  # by number of the job
        self.outcomes: dict[int, RunOutcome] = {}  # by number of the job
        self.problem = "the cluster has no GPU any more"
        self.path = Path(work.config.root, work.config.name, work.config.scale, GPUS)

    def carry_out(self, workers: int) -> dict[int, RunOutcome]:
        """Return the outcomes by number of the job, without jobs that no worker carried out."""
        for _ in range(workers):
            self._start_worker()
        try:
            while self.slots:
                answers, _ = self.ray.wait(list(self.slots), timeout=POLL_SECONDS)
                for answer in answers:
                    self._receive(self.slots.pop(answer), answer)
                waiting = not any(slot.jobs for slot in self.slots.values())
                if not answers and waiting and not self.ray.cluster_resources().get("GPU", 0):
                    break
        finally:
            for slot in self.slots.values():
                self.ray.kill(slot.worker)
                for job in slot.jobs:
                    self._record(slot, job, "stopped")
        return self.outcomes

    def _start_worker(self, failed_starts: int = 0) -> None:
        worker: Any = self.actor.remote(self.work)
        self.slots[worker.place.remote()] = Slot(worker, failed_starts)

    def _receive(self, slot: Slot, answer: Any) -> None:
        try:
            result = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:  # the process is dead, or its node cannot be reached
            self._replace(slot, error)
            return
        if not slot.jobs:
            slot.place, slot.failed_starts = result, 0
        else:
            for job, outcome in zip(slot.jobs, result, strict=True):
                self._record(slot, job, outcome.status)
                self.outcomes[job.number] = outcome
        if self.queue:
            slot.jobs, slot.start = self.queue.popleft(), provenance.now("milliseconds")
            self.slots[slot.worker.carry_out.remote(slot.jobs)] = slot
        else:
            self.ray.kill(slot.worker)  # another sweep may need the GPU

    def _replace(self, slot: Slot, error: Exception) -> None:
        self.ray.kill(slot.worker)
        if not slot.jobs:
            slot.failed_starts += 1
            self.problem = f"no worker could be started ({str(error).strip().splitlines()[-1]})"
        self.kills.update(job.number for job in slot.jobs)
        if slot.jobs and self.kills[slot.jobs[0].number] <= self.retries:
            self.queue.appendleft(slot.jobs)
        for job in slot.jobs:
            self._record(slot, job, "killed")
            if (times := self.kills[job.number]) > self.retries:
                self.outcomes[job.number] = lost(
                    job,
                    f"its process was killed or crashed {times} time{'s' * (times > 1)}, last on {slot.place[0]} "
                    f"(hydra.launcher.retries={self.retries}); if memory is short, raise hydra.launcher.gpus_per_run",
                )
        if self.queue and slot.failed_starts <= self.retries:
            self._start_worker(slot.failed_starts)

    def _record(self, slot: Slot, job: Job, status: str) -> None:
        rows = self.path.read_text(encoding="utf-8") if self.path.exists() else "run,node,gpu,start,end,status\n"
        row = ",".join((job.folder.name, *slot.place, slot.start, provenance.now("milliseconds"), status))
        files.replace_text(self.path, f"{rows}{row}\n")


def _check_reachable(address: str) -> None:
    """Raise an error at once if nothing answers; Ray would try for 15 minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise SettingError(
            f"hydra.launcher.address must be host:port of a running Ray cluster, or auto, and at {address} is none "
            f"({error})."
        ) from None

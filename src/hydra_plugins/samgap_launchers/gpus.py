"""hydra/launcher=gpus: a run a GPU, or several on one, over the GPUs of this machine or of a Ray cluster."""

import csv
import logging
import math
import os
import secrets
import signal
import socket
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from hydra_plugins.samgap_launchers.jobs import Job, JobLauncher, Work, lost
from samgap import files
from samgap.errors import SettingError
from samgap.runs.records import RunOutcome

# Ray is imported where it is needed: Hydra imports this file for every command.

GPUS = "gpus.csv"
LOOK_SECONDS = 5.0  # between looks whether the cluster still has a GPU
OBJECTS = 10**8  # bytes of shared memory for what is passed around, which is little; Ray would take a third of all


@dataclass
class GpusConf:
    """The keys; conf/hydra/launcher/gpus.yaml says what they mean."""

    _target_: str = "hydra_plugins.samgap_launchers.gpus.GpusLauncher"
    gpus_per_run: float = 1.0
    gpus: int | None = None
    address: str | None = None
    retries: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="gpus_keys", node=GpusConf, provider="samgap")


class GpusLauncher(JobLauncher):
    """Packs the runs on the GPUs that there are."""

    def __init__(
        self, gpus_per_run: float = 1.0, gpus: int | None = None, address: str | None = None, retries: int = 1
    ) -> None:
        """
        Raises:
            SettingError: a value cannot be.
        """
        self.packed = round(1 / gpus_per_run) if 0 < gpus_per_run <= 1 else 0  # runs that share a GPU
        if not self.packed or abs(self.packed * gpus_per_run - 1) > 0.02:
            raise SettingError(
                "hydra.launcher.gpus_per_run must be 1 or a share such as 0.5, 0.33 or 0.25 that fills a GPU, "
                f"got {gpus_per_run:g}."
            )
        if gpus is not None and gpus < 1:
            raise SettingError(f"hydra.launcher.gpus must be a whole number from 1, or null, got {gpus}.")
        if gpus is not None and address is not None:
            raise SettingError(
                f"hydra.launcher.gpus={gpus} is for a Ray started here, and hydra.launcher.address={address} joins one "
                "that knows its GPUs: set one of them to null."
            )
        if retries < 0:
            raise SettingError(f"hydra.launcher.retries must be a whole number from 0, got {retries}.")
        self.gpus, self.address, self.retries = gpus, address, retries

    def carry_out(self, jobs: list[Job], work: Work) -> list[RunOutcome]:
        """One worker a GPU or share; what Ray starts here ends with the sweep, a cluster that was there stays."""
        with self._ray(work) as gpus:
            # Where runs are few, they rather spread over the GPUs than share one.
            packed = min(self.packed, math.ceil(len(jobs) / gpus))
            crew = Crew(jobs, work, math.floor(1e4 / packed) / 1e4, self.retries)
            return crew.carry_out(min(len(jobs), packed * gpus))

    @contextmanager
    def _ray(self, work: Work) -> Iterator[int]:
        if self.address is None:
            # A secret for this process alone, read by Ray when it is imported; its own way is a file at home.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        elif ":" in self.address:
            _knock(self.address)
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.address is None:
            options |= {"num_gpus": self.gpus, "include_dashboard": False, "object_store_memory": OBJECTS}
        else:
            options["runtime_env"] = {"env_vars": work.environment}
        ray._private.worker._worker_logs_enabled = False  # no setting silences all of it
        handler = signal.getsignal(signal.SIGTERM)  # Ray sets its own and leaves it
        try:
            try:
                ray.init(self.address or "local", **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                key = "gpus" if self.address is None else f"address={self.address}"
                raise SettingError(f"Ray cannot be had with hydra.launcher.{key} ({why}).") from error
            gpus = int(ray.cluster_resources().get("GPU", 0))
            if not gpus:
                raise SettingError(
                    "hydra/launcher=gpus wants a GPU and Ray finds none here: set hydra/launcher=cores, "
                    "hydra.launcher.gpus to a number, or hydra.launcher.address to a cluster with GPUs."
                )
            yield gpus
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, handler)


class Worker:
    """Lives in a process that Ray shows its GPU alone, before torch is imported there."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def place(self) -> tuple[str, str]:
        """The node, and the number of the GPU on it."""
        import ray

        return ray.util.get_node_ip_address(), " ".join(ray.get_runtime_context().get_accelerator_ids()["GPU"])

    def carry_out(self, job: Job) -> RunOutcome:
        """See `Work`."""
        return self.work.carry_out(job)


@dataclass
class Post:
    """A share of a GPU, the worker that has it, and what this is about."""

    actor: Any
    starts: int  # workers that died here before they could take a run
    place: tuple[str, str] = ("", "")
    job: int | None = None  # which of the jobs
    since: str = ""


class Crew:
    """The workers of a sweep and the runs that wait for one."""

    def __init__(self, jobs: list[Job], work: Work, share: float, retries: int) -> None:
        import ray

        self.ray, self.jobs, self.work, self.retries = ray, jobs, work, retries
        self.actor = ray.remote(num_gpus=share, num_cpus=0)(Worker)
        self.waiting = deque(range(len(jobs)))
        self.posts: dict[Any, Post] = {}  # by the answer that is awaited
        self.killed: Counter[int] = Counter()
        self.told: dict[int, RunOutcome] = {}
        self.trouble = "the cluster has no GPU any more"
        self.path = Path(work.config.root, work.config.name, work.config.scale, GPUS)
        self.rows = (
            list(csv.DictReader(self.path.read_text(encoding="utf-8").splitlines())) if self.path.exists() else []
        )

    def carry_out(self, workers: int) -> list[RunOutcome]:
        """What became of each job."""
        for _ in range(workers):
            self._engage()
        try:
            while self.posts:
                answers, _ = self.ray.wait(list(self.posts), timeout=LOOK_SECONDS)
                for answer in answers:
                    self._hear(self.posts.pop(answer), answer)
                if not answers and self._nowhere():
                    break
        finally:
            for post in self.posts.values():
                self.ray.kill(post.actor)
                if post.job is not None:
                    self._note(post, "stopped")
        return [self.told.get(number) or lost(job, self.trouble) for number, job in enumerate(self.jobs)]

    def _engage(self, starts: int = 0) -> None:
        actor: Any = self.actor.remote(self.work)
        self.posts[actor.place.remote()] = Post(actor, starts)

    def _hear(self, post: Post, answer: Any) -> None:
        try:
            said = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            if post.job is None or not isinstance(error, self.ray.exceptions.RayTaskError):
                self._replace(post, error)
                return
            said = lost(self.jobs[post.job], repr(error.cause))
        if post.job is None:
            post.place = said
        else:
            self._note(post, said.status)
            self.told[post.job] = said
        if self.waiting:
            post.job, post.since = self.waiting.popleft(), _now()
            self.posts[post.actor.carry_out.remote(self.jobs[post.job])] = post
        else:
            self.ray.kill(post.actor)  # another sweep may want the GPU

    def _replace(self, post: Post, error: Exception) -> None:
        """The worker is dead, or its node cannot be reached."""
        self.ray.kill(post.actor)
        starts = 0
        if post.job is None:
            starts = post.starts + 1
            self.trouble = f"no worker could be started ({str(error).strip().splitlines()[-1]})"
        else:
            self._note(post, "killed")
            self.killed[post.job] += 1
            if self.killed[post.job] <= self.retries:
                self.waiting.appendleft(post.job)
            else:
                times = self.killed[post.job]
                self.told[post.job] = lost(
                    self.jobs[post.job],
                    f"its process was killed or crashed {times} time{'s' * (times > 1)}, last on {post.place[0]} "
                    f"(hydra.launcher.retries={self.retries}); if memory is short, raise hydra.launcher.gpus_per_run",
                )
        if self.waiting and starts <= self.retries:
            self._engage(starts)

    def _nowhere(self) -> bool:
        """Whether all workers that there are wait for a GPU, and the cluster has none."""
        idle = all(post.job is None for post in self.posts.values())
        return idle and not self.ray.cluster_resources().get("GPU", 0)

    def _note(self, post: Post, status: str) -> None:
        run = self.jobs[post.job].folder.name if post.job is not None else ""
        node, gpu = post.place
        self.rows.append({"run": run, "node": node, "gpu": gpu, "start": post.since, "end": _now(), "status": status})

        def write(temporary: Path) -> None:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self.rows[-1])
                writer.writeheader()
                writer.writerows(self.rows)

        files.replace(self.path, write)


def _knock(address: str) -> None:
    """Ray itself tries for a quarter of an hour where nobody answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise SettingError(
            f"hydra.launcher.address must be host:port of a running Ray cluster, or auto, and at {address} is none "
            f"({error})."
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

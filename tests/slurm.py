"""A Slurm for the tests: a controller and two nodes of two cores on this machine, in one folder."""

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.needs import program
from tests.processes import LIMIT

NODES = ("n1", "n2")
CORES = 2

CONF = """
ClusterName=samgap
FirstJobId={first}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=1
MinJobAge=2
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={grace}
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def patiently(happened: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something has happened; fail with a description if it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def output_of(*command: str) -> str:
    """Return the output of a Slurm command, empty if it fails."""
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False).stdout.strip()


@contextlib.contextmanager
def cluster(grace: int = 0) -> Iterator[Path]:
    """Start a Slurm that child processes find by SLURM_CONF; yield its folder.

    Args:
        grace: seconds between SIGTERM and the end of a preempted job.
    """
    # The path must be short enough for a socket, and accessible to every user.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    before = os.environ.get("SLURM_CONF")
    try:
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        _configure(folder, grace)
        _start(folder)
        yield folder
    finally:
        _stop(folder)
        if before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder)


def _configure(folder: Path, grace: int) -> None:
    host = socket.gethostname().partition(".")[0]
    port, *ports = _free_ports(1 + len(NODES))
    (folder / "state").mkdir()
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={own} CPUs={CORES} "
        f"CoresPerSocket={CORES} RealMemory=1000 State=UNKNOWN"
        for name, own in zip(NODES, ports, strict=True)
    )
    # First job id. The ports of runs with several tasks depend on it, so it must differ from that of another Slurm.
    first = random.randrange(1, 60000)
    text = CONF.format(
        first=first, host=host, port=port, user=getpass.getuser(), folder=folder, nodes=nodes, grace=grace
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)


def _free_ports(count: int) -> list[int]:
    # Between the ports of Ray's workers and the system's ephemeral ports, so that no other process takes one in the
    # meantime.
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _start(folder: Path) -> None:
    # --force skips munged's checks of the folder, which belongs to this test.
    ends = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{key}={folder}/munge.{end}" for key, end in ends.items()]
    for command in (["munged", "--force", *munge], ["slurmctld"], *(["slurmd", "-N", name] for name in NODES)):
        # Log to a file: a daemon may keep a pipe open, and reading it would not end.
        with (folder / "start.log").open("w+") as log:
            done = subprocess.run(
                [program(command[0]), *command[1:]],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=60, check=False,
            )  # fmt: skip
            log.seek(0)
            assert done.returncode == 0, f"{command[0]}: {log.read()}"
    patiently(lambda: output_of("sinfo", "-h", "-p", "low", "-o", "%T") == "idle", "idle nodes")


def _stop(folder: Path) -> None:
    output_of("scancel", "--me", "--signal=KILL")
    output_of("scancel", "--me")
    for names in ([f"slurmd.{node}" for node in NODES], ["slurmctld"], ["munge"]):  # each needs the later ones
        pids = []
        for name in names:
            with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                pids.append(int((folder / f"{name}.pid").read_text()))
                os.kill(pids[-1], signal.SIGTERM)
        try:
            patiently(lambda pids=pids: not any(Path(f"/proc/{pid}").exists() for pid in pids), f"end of {names}", 20)
        except AssertionError:  # a node without its controller waits for it
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

"""Run a part in its own process, so that a crash or a hang ends only that part."""

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from samgap.check_gpu.bed import Bed, LeftOut
from samgap.check_gpu.rows import Row
from samgap.errors import SettingError, line

# Processes are forked from one that has done the slow imports and has not used the GPU.
CONTEXT: Any = multiprocessing.get_context("forkserver")
PRELOAD = ["samgap.check_gpu.right", "torch._dynamo"]
SILENCE_SECONDS = 60  # a process that sends no row for this time counts as hanging


def isolated(work: Callable[[Bed], Iterator[Row]], bed: Bed, *, cut: bool = False) -> Iterator[Row]:
    """Yield the rows of `work` as its process sends them.

    Args:
        work: the part, a function at the top level of a module.
        bed: argument of `work`.
        cut: end the process when the part's time is over; otherwise only after `SILENCE_SECONDS` without a row.

    Raises:
        SettingError: the process raised an error, died, or hangs.
        LeftOut: raised by `work`, or the time is over.
    """
    CONTEXT.set_forkserver_preload(PRELOAD)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_send, args=(sender, work, bed), daemon=True)
    process.start()
    sender.close()
    try:
        while (row := receive(receiver, bed.left if cut else None)) is not None:
            if isinstance(row, Exception):
                raise row
            yield row
    finally:
        process.kill()
        process.join()


def receive(pipe: Any, seconds: float | None = None) -> Any:
    """Return the next object that a process sends.

    Args:
        pipe: connection to the process.
        seconds: time left for it; None waits for `SILENCE_SECONDS`, after which the process counts as hanging.

    Raises:
        SettingError: the process died, or hangs.
        LeftOut: the time is over.
    """
    try:
        if pipe.poll(SILENCE_SECONDS if seconds is None else max(0.0, seconds)):
            return pipe.recv()
    except (EOFError, ConnectionError):
        raise SettingError("The process that measures this died.") from None
    if seconds is not None:
        raise LeftOut("the time was over")
    raise SettingError(f"The process that measures this sent nothing for {SILENCE_SECONDS} seconds.")


def _send(pipe: Any, work: Callable[[Bed], Iterator[Row]], bed: Bed) -> None:
    try:
        for row in work(bed):
            pipe.send(row)
        pipe.send(None)
    except LeftOut as reason:
        pipe.send(reason)
    except Exception as error:
        pipe.send(SettingError(f"{type(error).__name__}: {line(error)}"))

"""Parts in a process of their own: what hangs there, or ends its process, ends that part alone."""

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from samgap.check_gpu.bed import Bed, LeftOut, Row
from samgap.errors import SettingError, line

# Forked from a process that has imported what takes seconds and has not touched the card.
CONTEXT: Any = multiprocessing.get_context("forkserver")
PRELOAD = ["samgap.check_gpu.right", "torch._dynamo"]
PATIENCE = 60  # seconds without a word


def apart(work: Callable[[Bed], Iterator[Row]], bed: Bed, *, cut: bool = False) -> Iterator[Row]:
    """The rows of `work`, which is a function of a module, as they come.

    Args:
        work: the part.
        bed: of the part.
        cut: end it when the part's time is over, else when it has said nothing for a minute.

    Raises:
        SettingError: its process raised an error, died, or said nothing.
        LeftOut: as `work` does, or the time was over.
    """
    CONTEXT.set_forkserver_preload(PRELOAD)
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_tell, args=(there, work, bed), daemon=True)
    process.start()
    there.close()
    try:
        while (told := hear(here, bed.left if cut else None)) is not None:
            if isinstance(told, Exception):
                raise told
            yield told
    finally:
        process.kill()
        process.join()


def hear(pipe: Any, seconds: float | None = None) -> Any:
    """What a process says next.

    Args:
        pipe: to the process.
        seconds: that are left for it; None is a minute, after which it is thought to hang.

    Raises:
        SettingError: it died, or says nothing.
        LeftOut: the time was over.
    """
    try:
        if pipe.poll(PATIENCE if seconds is None else max(0.0, seconds)):
            return pipe.recv()
    except (EOFError, ConnectionError):
        raise SettingError("The process that measures this died without a word.") from None
    if seconds is not None:
        raise LeftOut("the time was over")
    raise SettingError(f"The process that measures this said nothing for {PATIENCE} seconds.")


def _tell(pipe: Any, work: Callable[[Bed], Iterator[Row]], bed: Bed) -> None:
    try:
        for row in work(bed):
            pipe.send(row)
        pipe.send(None)
    except LeftOut as reason:
        pipe.send(reason)
    except Exception as error:
        pipe.send(SettingError(f"{type(error).__name__}: {line(error)}"))

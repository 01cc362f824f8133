"""The progress display of a sweep, the same for every launcher."""

import contextlib
import sys
import threading
import time
from typing import Self

from tqdm import tqdm

from samgap.console import format_duration
from samgap.runs.records import ERROR
from samgap.runs.sweeps import Progress, Watch, state

POLL_SECONDS = 1.0
SHOWN_FAILURES = 3  # most failures that are printed while the sweep runs
LINE_SECONDS = 15.0  # between printed lines, if the output is not a terminal


class Display:
    """Shows a progress bar on a terminal, or prints regular lines elsewhere, while a sweep runs in any processes.

    It reads the run folders, so it does not depend on the launcher. The time left is the cost of the remaining runs
    divided by the speed from the start to the last end of a run, less the time since then. At any other time, runs that
    have begun would count as time without work. A time that has passed is not shown.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.start = time.monotonic()
        self.before = watch.update()
        self.known = self._failures()  # those of earlier starts of the sweep are not shown
        self.done = self.ended = 0.0  # since the start: cost of the runs that ended, and seconds to the last end
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def text(self, progress: Progress) -> str:
        """Return a text such as "12/48 done, 2 running, 0 failed, 1:05 left"."""
        done, elapsed = progress.cost_done - self.before.cost_done, time.monotonic() - self.start
        if done > self.done:
            self.done, self.ended = done, elapsed
        left = None
        if done > 0:
            left = progress.cost_left and progress.cost_left * self.ended / done - (elapsed - self.ended)
        counts = progress.counts
        text = f"{progress.finished}/{progress.total} done, {counts['running']} running, {counts['failed']} failed"
        if counts["diverged"]:
            text += f", {counts['diverged']} diverged"
        return text + (f", {format_duration(left)} left" if left is not None and left >= 0 else "")

    def _follow(self) -> None:
        label = str(self.watch.sweep)
        terminal = sys.stderr.isatty()
        bar = tqdm(total=len(self.watch.members), bar_format="{desc} |{bar}|", disable=not terminal)
        printed = time.monotonic()
        shown = 0
        while True:
            stopped = self.stop.wait(POLL_SECONDS)
            progress = self.watch.update()
            for folder, _ in sorted((failures := self._failures()) - self.known)[: SHOWN_FAILURES - shown]:
                # At once, so that a user can stop a sweep that cannot succeed. `status` shows all failures.
                tqdm.write(
                    f"{folder}: {state(self.watch.runs / folder, probes=self.watch.sweep.probes)[2]}", file=sys.stderr
                )
                shown += 1
            self.known |= failures
            bar.n = progress.finished
            bar.set_description_str(f"{label}: {self.text(progress)}")
            if not terminal and (stopped or time.monotonic() - printed >= LINE_SECONDS):
                print(f"{label}: {self.text(progress)}", file=sys.stderr, flush=True)
                printed = time.monotonic()
            if stopped:
                break
        bar.close()

    def _failures(self) -> set[tuple[str, int]]:
        # With the time of each failure, since a run may fail again.
        failures = set()
        for folder in self.watch.problems:
            with contextlib.suppress(FileNotFoundError):  # the run has just begun again
                failures.add((folder, (self.watch.runs / folder / ERROR).stat().st_mtime_ns))
        return failures

"""Sweeps by several processes that share a GPU; each carries out one run at a time."""

import contextlib
import itertools
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from hydra.utils import instantiate

from samgap import cli, naming
from samgap.gpu_evidence.timed import Timed, carry_out


class Workers:
    """Carries out sweeps in place of a Hydra launcher; its processes are reused from sweep to sweep."""

    hydra_context: Any  # set by the sweeper

    def __init__(self, size: int, pool: ProcessPoolExecutor | None) -> None:
        """
        Args:
            size: number of runs at once.
            pool: has `size` processes; None uses the current process.
        """
        self.size, self.map = size, pool.map if pool else map

    def sweep(self, figure: str, overrides: Sequence[str], until: float, share: float = math.inf) -> list[Timed]:
        """Carry out the unfinished runs of a figure, the longest first.

        Args:
            figure: such as fig8/gpu.
            overrides: the user's overrides, which replace axes of the figure's grid.
            until: end time of all runs, by `time.monotonic`.
            share: share of the remaining time that the steps of all runs together may take.

        Returns:
            The outcome of each of these runs.

        Raises:
            SettingError: a setting is wrong, or runs failed.
        """
        overrides = [f"figure={figure}", *overrides]
        parsed = OverridesParser.create().parse_overrides(overrides)
        single = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
        self.until, self.share = until, share
        with initialize_config_dir(cli.CONF, version_base="1.3"):
            self.config = compose("train", single, return_hydra_config=True)
            sweeper = instantiate(self.config.hydra.sweeper)
            sweeper.config, sweeper.launcher = self.config, self
            sweeper.hydra_context = HydraContext(GlobalHydra.instance().config_loader(), None)  # type: ignore[arg-type]
            sweeper.typed = ["-m", *overrides]
            return [done.return_value for batch in sweeper.sweep(overrides) for done in batch]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Carry out jobs; the sweeper calls this."""
        composed = (self.hydra_context.config_loader.load_sweep_config(self.config, [*job]) for job in job_overrides)
        configs = [naming.plain(config, *(str(key) for key in config if key != "hydra")) for config in composed]
        seconds = self.share * (self.until - time.monotonic()) * self.size / len(configs)
        done = self.map(carry_out, configs, itertools.repeat(self.until), itertools.repeat(seconds))
        return [JobReturn(_return_value=outcome, status=JobStatus.COMPLETED) for outcome in done]


@contextlib.contextmanager
def started(size: int) -> Iterator[Workers]:
    """Yield workers for `size` runs at once, and end their processes."""
    if size == 1:
        yield Workers(1, None)
        return
    with ProcessPoolExecutor(size, multiprocessing.get_context("spawn")) as pool:
        try:
            yield Workers(size, pool)
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():  # otherwise they would finish their runs first
                process.kill()
            raise

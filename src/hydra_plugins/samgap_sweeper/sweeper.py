"""hydra/sweeper=resume: a grid sweeper that skips finished runs and starts the longest run first."""

import shlex
import sys
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.types import HydraContext
from omegaconf import OmegaConf

from hydra_plugins.samgap_sweeper import messages
from hydra_plugins.samgap_sweeper.signals import stopping
from samgap import cli, naming, provenance
from samgap.composer import Composer
from samgap.errors import SettingError
from samgap.rules import FLAG, Rule, check, count
from samgap.runs import identity, measurements, registered, sweeps
from samgap.runs.display import Display
from samgap.runs.sweeps import Member, Sweep
from samgap.training.machine import LIMIT
from samgap.training.plan import RunPlan
from samgap.training.settings import GROUPS, PLACES, SCALARS

naming.register()

LIVE = "pruner.live_params"
SCIENTIFIC = (*GROUPS, *SCALARS)


@dataclass
class ResumeSweeperConf(BasicSweeperConf):
    """The keys of Hydra's own grid sweeper, and ours."""

    _target_: str = "hydra_plugins.samgap_sweeper.sweeper.ResumeSweeper"
    # Maps dotted keys to lists of values. A point is skipped if, for every key, it has one of the values.
    skip: Any = None  # not typed as dict, because Hydra would then refuse new keys
    dry_run: Any = False  # print the runs in the order of their start, with estimated times; write nothing
    stop_after: Any = None  # start no run after this many have failed; null = try all runs


RULES = {
    "dry_run": FLAG,
    "stop_after": count(1).or_null(),
    "skip": Rule(
        lambda value: isinstance(value, dict) and all(isinstance(values, list) for values in value.values()),
        "like {seed: [1, 2], ascent.rho: [0.1]}",
    ).or_null(),
}
JOBLIB = {  # of hydra/launcher=cores; joblib itself checks them too late
    "n_jobs": Rule(lambda value: type(value) is int and value != 0, "a whole number other than 0, -1 for all cores"),
    "batch_size": Rule(
        lambda value: value == "auto" or (value.isdigit() and int(value) > 0), "auto or a whole number from 1"
    ),
}

ConfigStore.instance().store(group="hydra/sweeper", name="resume", node=ResumeSweeperConf, provider="samgap")


class ResumeSweeper(BasicSweeper):
    """Writes every run of the grid to multirun/<name>/<scale>/sweep.yaml and launches the runs without a record."""

    # Hydra's setup() sets these before anything else.
    config: Any
    launcher: Any
    hydra_context: Any

    def __init__(
        self, skip: dict[str, Any] | None = None, dry_run: Any = False, stop_after: Any = None, **grid: Any
    ) -> None:
        super().__init__(**grid)
        self.skip: Any = OmegaConf.to_container(skip) if OmegaConf.is_config(skip) else skip
        check({"dry_run": dry_run, "stop_after": stop_after, "skip": self.skip}, RULES, "hydra.sweeper.")
        self.dry_run, self.typed = dry_run, sys.argv[1:]

    def sweep(self, arguments: list[str]) -> Any:
        """Carry out the sweep.

        Args:
            arguments: overrides of the command line. They follow those of a figure, and the last one of a key counts.

        Raises:
            SettingError: a setting is wrong (nothing was started), or runs failed (all others were carried out).
        """
        composer: Any = Composer(self.hydra_context.config_loader)
        # The launcher uses the composer too, since it composes each job again.
        self.hydra_context = self.launcher.hydra_context = HydraContext(composer, self.hydra_context.callbacks)
        check(OmegaConf.to_container(self.config.hydra.launcher), JOBLIB, "hydra.launcher.")
        place = naming.plain(self.config, *PLACES, "draw")
        jobs = self._jobs(arguments)
        root = Path(place["root"])
        grid = self._grid(place, self._axes(arguments), [member for member, _ in jobs])
        watch = sweeps.Watch(grid, root.absolute())  # a run may change the working directory
        before = watch.update()
        # Points of the grid with the same identity are one run: the first of them is launched.
        runs = {member.folder: (member, job) for member, job in reversed(jobs)}
        left = [(member, job) for member, job in runs.values() if member.folder not in watch.records]
        left.sort(key=lambda pair: -pair[0].cost)
        if block := place["draw"].get("registered"):
            departs = registered.departures(block, grid)
            print(f"Departs from what was registered: {departs}." if departs else "As registered.", file=sys.stderr)
        if self.dry_run:
            print(messages.planned(grid, before, [member for member, _ in left]))
            return []
        dropped = _count_dropped(grid, root)
        path = sweeps.write(grid, root)
        self._log(grid, root)
        print(f"{path}: {before.text()}{messages.work_left(before)}", file=sys.stderr)
        if dropped:
            print(f"{dropped} runs of the grid before are not in this one; their records stay.", file=sys.stderr)
        returns = self._launch([job for _, job in left], watch) if left else []
        self._draw()
        messages.refuse_failed([result.return_value for result in returns], len(runs), grid, root)
        return [returns]

    def _grid(self, place: dict[str, Any], axes: list[str], members: list[Member]) -> Sweep:
        return Sweep(
            name=place["name"],
            scale=place["scale"],
            axes=axes,
            command=shlex.join(["python", "-m", "samgap.train", *filter(_is_portable, self.typed)]),
            commit=provenance.commit()[0],
            created=provenance.now(),
            members=members,
            probes=measurements.requested(naming.plain(self.config, "probe")) if "probe" in self.config else {},
        )

    def _launch(self, jobs: list[list[str]], watch: sweeps.Watch) -> Any:
        with Display(watch), stopping(not getattr(self.launcher, "outlived", False)):
            try:
                return self.launcher.launch(jobs, initial_job_idx=0)
            except BrokenExecutor as error:
                raise SettingError(
                    f"A worker was killed ({str(error).splitlines()[0]}); the same command goes on where it was."
                ) from error

    def _log(self, grid: Sweep, root: Path) -> None:
        """Send the grid to the logger, from which even an unfinished sweep can be restored."""
        if target := self.config.logger.get("_gaps_"):
            from samgap.targets import locate, options

            locate(target)(grid, root, **options(naming.plain(self.config, "logger")["logger"]))

    def _draw(self) -> None:
        """Draw the sweep for the logger. If nothing can be drawn, the sweep still succeeds."""
        if self.config.logger.get("_gaps_"):
            from samgap.draw import draw

            values = naming.plain(self.config, "root", "name", "scale", "draw", "about", "logger")
            try:
                draw(values | {"source": "records", "protocol": "paper", "style": "talk", "latex": False})
            except SettingError as error:
                print(f"Nothing was drawn: {error}", file=sys.stderr)

    def _overrides(self, arguments: list[str]) -> list[Any]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides: list[Any] = parser.parse_overrides([*self._parse_config(), *arguments])
        for override in overrides:
            if override.is_range_sweep():
                # Adding steps rounds: 0.15000000000000002 would be another run than 0.15.
                values = [float(f"{x:.12g}") if isinstance(x, float) else x for x in override.value().range()]
                override._value = ChoiceSweep(list=values, simple_form=True, shuffle=override.value().shuffle)
        return overrides

    def _jobs(self, arguments: list[str]) -> list[tuple[Member, list[str]]]:
        # All jobs are composed and so checked before the first starts.
        with cli.importing():
            from samgap.training.cost import cost  # imports torch, and Hydra imports this file for every command

        keys = dict.fromkeys([*self._axes(arguments), sweeps.RHO, sweeps.SEED])
        jobs, unknown = [], {*(self.skip or ())}
        for job in self.split_arguments(self._overrides(arguments), None)[0]:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
            values = naming.plain(config, *GROUPS, *SCALARS, "trainer", "logger", "root")
            plan = RunPlan.of(values)
            folder = Path(values["root"], "runs", plan.folder)
            if Path(config.hydra.sweep.dir, config.hydra.sweep.subdir) != folder:
                raise SettingError(f"The folder of a run is {folder}, where it is found: set root and not hydra.sweep.")
            leaves = {sweeps.RHO: 0} | identity.flat(plan.settings) | {LIVE: values["pruner"].get("live_params")}
            unknown -= {*leaves}
            if self.skip and all(leaves.get(key) in skipped for key, skipped in self.skip.items()):
                continue
            if (devices := plan.machine.devices) > 1 and not getattr(self.launcher, "several_devices", False):
                raise SettingError(
                    f"trainer.devices={devices} in a sweep needs a launcher that starts {devices} processes a run: set "
                    "hydra/launcher=torchrun (make: DEVICES=) on one machine, or hydra/launcher=slurm."
                )
            member = Member(
                identity=plan.identity,
                folder=folder.name,
                axes={key: identity.label(leaves.get(key)) for key in keys},
                cost=round(cost(plan), 3),
            )
            jobs.append((member, list(job)))
        if unknown:
            raise SettingError(
                "The keys of hydra.sweeper.skip must be settings of the runs, such as seed, ascent.rho or ascent.name, "
                f"got {', '.join(sorted(unknown))}."
            )
        if not jobs:
            cause = "hydra.sweeper.skip leaves out every point: set it to null" if self.skip else "a range is empty"
            raise SettingError(f"This grid has no point: {cause}.")
        return jobs

    def _axes(self, arguments: list[str]) -> list[str]:
        # The axes are keys of the settings: a swept group becomes its name, model.params becomes model.width. Keys that
        # do not change a result, such as device and paths, are no axes.
        is_swept: dict[str, bool] = {}
        live, params = self.config.pruner.get("live_params"), self.config.model.get("params")
        for override in self._overrides(arguments):
            key = override.get_key_element().lstrip("+")
            live = override.value() if key == LIVE else live
            params = override.value() if key == "model.params" else params
            is_swept[f"{key}.name" if key in GROUPS else key] = override.is_sweep_override()
        # An axis with several names counts once.
        swept = dict.fromkeys(
            naming.RENAMED.get(key, key)
            for key, swept_ in is_swept.items()
            if swept_ and (key.split(".")[0] in SCIENTIFIC or key == f"trainer.{LIMIT}")
        )
        if live is not None and any(key.startswith(("model.", "data.")) for key in swept):
            swept["pruner.sparsity"] = None  # each net has its own sparsity
        if params is not None and any(key.startswith(("model.", "data.name", "data.size")) for key in swept):
            swept["model.width"] = None  # and its own width
        if is_swept.get(LIVE):
            swept[LIVE] = None
        return list(swept)


def _count_dropped(grid: Sweep, root: Path) -> int:
    try:
        previous = sweeps.read(root, grid.name, grid.scale)
    except SettingError:
        return 0
    return len({member.folder for member in previous.members} - {member.folder for member in grid.members})


def _is_portable(argument: str) -> bool:
    # Paths are useless on other machines, and a dashboard must not show them.
    return not argument.startswith(("root=", "data_dir="))

"""Random arguments for the commands: each call ends with exit code 0, or with another one and a sentence.

`python -m tests.fuzz 2000 7` tries 2,000 calls with seed 7, in this process and below a temporary folder, prints
those that end otherwise, and exits with 1 if there are any. Calls that would train for long are stopped as by Ctrl-C.
"""

import contextlib
import importlib
import io
import os
import random
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}

from samgap import cli

SECONDS = 20.0  # duration of a call
CONF = Path(cli.CONF)
COMMANDS = {"train": 12, "draw": 3, "probe": 2, "status": 1, "report": 0.2, "dashboard": 1}  # and how often
# Overrides that keep runs tiny, whatever the other arguments are.
SMALL = ("epochs=1", "data.train_size=32", "batch_size=16", "model.width=0.1")
SLOW = {"launcher": ("cores", "joblib", "gpus", "torchrun")}  # choices that start other processes


def _each(text: str) -> list[str]:
    return text.split()


NUMBERS = _each("0 1 2 3 -1 0.5 0.1 1e-9 1e9 1e400 -inf nan 007 1_000 0x10 .5")
TEXTS = _each("x '' a=b a,b 20241126 2024_11 true null no ~ ~/x * % é a/b ../x /dev/null /dev/null/x a:b #1 $HOME")
TEXTS += ["' '", "a b", "My Drive (1)", "x" * 300, "", '""']
SHAPES = _each("[] {} [0.1,0.2] [1,a] {a:1} {a:{b:1}} [[1]] [null] {x:[1]} [ } {a:")
SWEPT = _each("0,1 0,0.1 x,y range(2) choice(a,b) glob(*) shuffle(1,2) interval(0,1) 1, ,")
CALLS = _each("${seed} ${nothing} ${oc.env:NOWHERE} ${oc.env:HOME} ${run_folder:} ${hydra:run.dir} ${ ???")
FLAGS = _each(
    "-m --cfg_job --cfg_hydra --cfg_all --resolve --cfg_job_--resolve --cfg_hydra_--resolve --info --info_config "
    "--info_nothing --help --hydra-help --version --cfg_nothing -p_data --config-name_draw --config-name_nothing "
    "--config-dir_nowhere --config-path_nowhere --nothing -x --multirun_seed=0,1 --experimental-rerun_nothing "
    "--shell-completion"
)
HYDRA = _each(
    "run.dir sweep.dir sweep.subdir output_subdir job.chdir job.name mode verbose searchpath sweeper.params "
    "sweeper.skip sweeper.max_batch_size job.env_set job.config callbacks launcher sweeper help runtime.cwd nothing "
    "job run sweep job_logging"
)


class Words:
    """Draws arguments that a user might type."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.groups = [path.relative_to(CONF).as_posix() for path in sorted(CONF.rglob("*")) if path.is_dir()]
        self.keys = sorted(
            {
                (f"{'.'.join(path.relative_to(CONF).parts[:-1])}." if path.parent != CONF else "") + key
                for path in CONF.glob("*.yaml")
                for key in re.findall(r"^(\w+):", path.read_text(), re.MULTILINE)
            }
            | {
                f"{path.parent.name}.{key}"
                for path in CONF.glob("*/*.yaml")
                for key in re.findall(r"^(\w+):", path.read_text(), re.MULTILINE)
            }
            | set(_each("+trainer.limit_train_batches +trainer.profiler +trainer.max_steps +trainer.detect_anomaly"))
            | set(_each("+callbacks.mine +callbacks.mine._target_ callbacks.model_summary.max_depth"))
        )

    def call(self, number: int) -> tuple[str, list[str]]:
        """Draw a command and its arguments."""
        command = self.draw.choices([*COMMANDS], [*COMMANDS.values()])[0]
        given = [self._override() for _ in range(self.draw.choice((0, 1, 1, 1, 1, 2, 2, 3)))]
        flags = [word for _ in range(self.draw.random() < 0.3) for word in self.draw.choice(FLAGS).split("_")]
        base = [*SMALL, f"name=n{number % 7}"] if command == "train" else [f"name=n{number % 7}"] * (command == "draw")
        return command, [*flags, *base, *given]

    def _override(self) -> str:
        prefix = self.draw.choices(("", "+", "++", "~"), (8, 1, 2, 1))[0]
        kind = self.draw.random()
        if kind < 0.25:
            group = self.draw.choice(self.groups)
            slow = SLOW.get(group.rpartition("/")[2], ())
            choices = [path.stem for path in sorted((CONF / group).iterdir()) if path.stem not in slow]
            value = self.draw.choice(choices) if choices and self.draw.random() < 0.5 else self._value()
            return f"{prefix}{group}={value}"
        if kind < 0.35:
            return f"{prefix}hydra.{self.draw.choice(HYDRA)}={self._value()}"
        if kind < 0.4:
            return self._value()
        key = self.draw.choice(self.keys)
        if kind < 0.45:
            key += self.draw.choice((".x", "x", ".0", "[0]", "@x", ""))
        return f"{prefix}{key}" if prefix == "~" and self.draw.random() < 0.5 else f"{prefix}{key}={self._value()}"

    def _value(self) -> str:
        pool = self.draw.choices((NUMBERS, TEXTS, SHAPES, SWEPT, CALLS), (6, 4, 3, 2, 2))[0]
        return self.draw.choice(pool)


def ends(command: str, arguments: list[str]) -> str | None:
    """Call a command in this process; return None if it ends as it should, else what happened."""
    main = importlib.import_module(f"samgap.{command}" + (".__main__" if command == "report" else "")).main
    said = io.StringIO()
    sys.argv = [f"samgap.{command}", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _stopped(SECONDS):
            cli.command(main, sweeps=command == "train")
    except SystemExit as leave:
        code = leave.code or 0
    except BaseException:
        return traceback.format_exc()
    text = said.getvalue()
    sentences = [line for line in text.splitlines() if line.startswith("samgap: ")]
    if "Traceback" in text and "Exception ignored in" not in text:  # raised in a __del__ by the interrupt
        return text
    if code not in (0, 1, 2, 130):
        return f"exit code {code}\n{text}"
    if code == 1 and len(sentences) != 1:
        return f"{len(sentences)} sentences\n{text}"
    if any(re.search(r"np\.float|<class|object at 0x|Error\(|None\.$|\w\w+Exception", line) for line in sentences):
        return f"no sentence for people: {text}"
    if any(not line.endswith((".", "?")) for line in sentences):
        return f"no whole sentence: {text}"
    return None


@contextlib.contextmanager
def _stopped(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(cases: int, seed: int, tell: Callable[[str], object] = print) -> int:
    """Try `cases` calls; return how many do not end as they should."""
    importlib.import_module("samgap.training.run")  # an interrupted import would be incomplete
    generator, wrong = Words(seed), 0
    here, full = Path.cwd(), os.environ.get(cli.FULL)
    with tempfile.TemporaryDirectory() as place:
        inside = Path(place, "a", "b")
        inside.mkdir(parents=True)
        try:
            for number in range(cases):
                os.chdir(inside)
                os.environ[cli.FULL] = "0"
                command, arguments = generator.call(number)
                if problem := ends(command, arguments):
                    wrong += 1
                    tell(f"--- {number}: {command} {shlex.join(arguments)}\n{problem}")
        finally:
            os.chdir(here)
            os.environ.pop(cli.FULL) if full is None else os.environ.update({cli.FULL: full})
    return wrong


if __name__ == "__main__":
    cases, seed = map(int, sys.argv[1:3])
    count = fuzz(cases, seed)
    print(f"{count} of {cases} calls ended otherwise than with 0 or one sentence (seed {seed}).")
    sys.exit(bool(count))

"""`python -m samgap.gpu_evidence`: use ten minutes of one GPU for runs of figures 8 and 7, which `samgap.draw` draws.

- fig8, conf/figure/fig8/gpu.yaml: ResNet-18 on a folder of color images, for as many epochs as fit. A warm-up measures
  the step time of all runs, with as many at once as later. The resulting number of epochs is saved before the first run
  starts. It applies to every run, also if the same command resumes on another day.
- fig7, conf/figure/fig7/gpu.yaml: the MLP at paper scale, with as many seeds as fit.

Several processes share the GPU; each carries out one run at a time, and imports torch and reads the data only once.
When the time is over, the runs stop as by Ctrl-C, and the same command resumes them.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

import torch

from samgap import cli, console, naming, overrides, provenance
from samgap.errors import SettingError
from samgap.gpu_evidence.parts import images, mlp
from samgap.gpu_evidence.workers import started
from samgap.training.settings import PRECISIONS

PARTS = {"fig8": images, "fig7": mlp}
FIRST = 0.6  # share of the time for the first of two parts
AT_ONCE = 12  # largest default of runs at once, one per CPU core; a small net leaves most of a GPU idle
TINY = ("scale=rehearsal", "trainer=cpu", "trainer.stepper=eager", "epochs=2", "data.train_size=128", "ascent.rho=0,.1")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options, parts, typed = _parsed(arguments)
    if options.commit:
        os.environ[provenance.COMMIT] = options.commit
    naming.register()
    try:
        with cli.sentences():
            overrides.refuse(typed)
            _carry_out(options, parts, typed)
    except KeyboardInterrupt:
        print("samgap: Stopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    scale = "rehearsal" if options.rehearse else "gpu"
    print("\n".join(f"python -m samgap.draw figure={part}/gpu scale={scale} root={options.root}" for part in parts))
    return 0


def _parsed(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Return the options, the parts to carry out, and the user's overrides."""
    parser = console.parser(
        "samgap.gpu_evidence", __doc__, "--images /data/cifar10 --minutes 10", "fig7 --mnist /data", "--rehearse"
    )
    parser.add_argument(
        "arguments", nargs="*", metavar="WORD", help="fig8 or fig7 (default: both), or an override, key=value"
    )
    parser.add_argument("--minutes", type=float, default=10, help="after which everything stops (default: 10)")
    parser.add_argument("--images", help="the folder with train/<class>/ and test/<class>/ for fig8")
    parser.add_argument("--mnist", help="the folder where MNIST/raw/ lies or is downloaded to (default: data)")
    parser.add_argument("--precision", choices=PRECISIONS, help="of fig8 (default: tf32; of a rehearsal 32-true)")
    parser.add_argument("--at-once", type=int, default=min(AT_ONCE, len(os.sched_getaffinity(0))),
                        help=f"runs at once, each a process (default: one a core, up to {AT_ONCE})")  # fmt: skip
    parser.add_argument("--root", default="multirun", help="where results go (default: multirun)")
    parser.add_argument("--commit", help="of these sources, where they came without git")
    parser.add_argument("--rehearse", action="store_true", help="the same on the CPU, tiny: the numbers mean nothing")
    options = parser.parse_intermixed_args(arguments)
    typed = [word for word in options.arguments if "=" in word]
    named = [word for word in options.arguments if "=" not in word]
    console.refuse_unknown(parser, named, PARTS)
    parts = [part for part in PARTS if part in (named or PARTS)]
    if options.at_once < 1 or not 0 < options.minutes < math.inf:
        parser.error("--at-once must be a whole number from 1, and --minutes a number above 0")
    return options, parts, typed


def _carry_out(options: argparse.Namespace, parts: list[str], typed: list[str]) -> None:
    """Carry out each part in its share of the time; if one fails, go on with the other.

    Raises:
        SettingError: a setting is wrong, or parts failed.
    """
    began, root, problems = time.monotonic(), Path(options.root), []
    if not options.rehearse and not torch.cuda.is_available():
        raise SettingError(
            "Evidence needs a CUDA device and torch finds none here: go to a machine with a GPU, or see by "
            "--rehearse that everything runs."
        )
    if "fig8" in parts and not (options.rehearse or options.images):
        raise SettingError("fig8 needs images: give --images a folder of train/<class>/ and test/<class>/.")
    for part in parts:
        share = 1 if part == parts[-1] else FIRST
        try:
            with started(options.at_once) as workers:
                overrides = [*_overrides(part, options), *typed]
                PARTS[part](workers, overrides, root, began + 60 * share * options.minutes)
        except SettingError as error:
            problems.append(f"{part}: {error}")
    if problems:
        raise SettingError(" ".join(problems))


def _overrides(part: str, options: argparse.Namespace) -> list[str]:
    """Return the overrides of a part."""
    overrides, folder = [f"root={_quoted(options.root)}"], options.images if part == "fig8" else options.mnist
    if folder:
        overrides.append(f"data_dir={_quoted(folder)}")
    if part == "fig8":
        overrides.append(f"precision={options.precision or ('32-true' if options.rehearse else 'tf32')}")
    if options.rehearse:
        overrides += [*TINY, f"model.width={'2,4' if part == 'fig8' else '0.1,0.2'}"]
        overrides += [] if folder else ["data=digits", "data.name=digits"]
    return overrides


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "\\'") + "'"


if __name__ == "__main__":
    console.script(main)

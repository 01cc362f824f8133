"""Bad arguments, files and environment variables give one sentence, and nothing is lost."""

import errno
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from samgap import cli, files, overrides
from samgap.errors import SettingError
from samgap.runs import records
from samgap.training import checkpoint
from samgap.training.run import run
from tests.conftest import config
from tests.fuzz import fuzz
from tests.processes import LIMIT

Command = Callable[..., tuple[int, str, str]]
TINY = ("epochs=1", "data.train_size=64", "model.width=0.1")


def test_random_words_end_in_one_sentence_or_in_nothing() -> None:
    wrong: list[str] = []
    assert fuzz(80, 0, wrong.append) == 0, "\n".join(wrong)


TYPED = [
    (["root=/x/a=b"], "root=/x/a=b cannot be read as key=value: put a value with spaces or signs"),
    (["root=/My Drive (1)"], "'root=\"/My Drive (1)\"'"),
    (["root='~/x'"], 'root must be a folder (in full: only a shell expands ~), got "~/x".'),
    ([f"root={__file__}"], f'root must be a folder (in full: only a shell expands ~), got "{__file__}".'),
    (["name=2024_11"], "got 202411; for a text put it in quotes, \"name='202411'\"."),
    (["seed=0,1"], "To sweep over it, add --multirun"),
    (["-m", "hydra.launcher.n_jobs=2", "seed=0,1"], "It is a key of hydra/launcher=cores."),
    (["-m", "hydra/launcher=cores", "hydra.launcher.n_job=2"], "Did you mean hydra.launcher.n_jobs?"),
    (["figure=fig99/smoke"], "In conf/figure there are decay, fig1, "),
    (["figure=fig8/huge"], "In conf/figure/fig8 there are cpu, gpu, paper, pilot, registered, smoke."),
    (["figure=fig8/smoke", "seed=0"], "A figure is a grid over model.width, ascent.rho: add -m"),
    (["-m", "figure=fig7/smoke,fig10/smoke"], "figure must be one figure at a time"),
    (["-m", "figure=[fig7/smoke,fig10/smoke]"], "figure must be one figure at a time"),
    (["-m", "ascent=[sam,asam]", "seed=0"], "ascent must be one of asam, "),
    (["trainer.epochs=5"], "There is epochs."),
    (["trainer.seed=3"], "There is seed, data.seed, probe.hessian.seed, "),
    (["probe.hessian.tol=1"], "It is a key of probe=hessian."),
    (["-m", "name=a,b", "seed=0"], "name has one value for a whole sweep, got name=a,b: put a list in brackets."),
    (["-m", "probe=hessian,moments", "seed=0"], "probe has one value for a whole sweep, got probe=hessian,moments"),
    (["figure=fig8/base"], "figure must be one figure at a time, such as fig8/smoke, got figure=fig8/base."),
    (["seed=0", "hydra.sweeper.dry_run=true"], "hydra.sweeper.dry_run is of a sweep: add -m before it"),
    (["model.width=0.1", "-m", "seed=0,1"], "seed=0,1 was not understood: options such as -m come before all"),
    (["-m", *TINY, "seed=range(0)"], "This grid has no point: a range is empty."),
    ([*TINY, "optimizer.lr=1e308"], "A number of the config is too large for float32"),
    ([*TINY, "schedule.factor=1e300", "epochs=3"], "A number of the config is too large for float32"),
    (["hydra.run.dir=x"], "hydra.run.dir cannot be set, since a run is found by the name of its folder: set root."),
    (
        [*TINY, "+optimizer.nesterov=true", "optimizer.momentum=0"],
        "The optimizer does not take what optimizer says (Ne",
    ),
    (["-m", "hydra.sweep.subdir=x", "seed=0,1"], "hydra.sweep.subdir cannot be set"),
    (["-m", "hydra.sweep.dir=x", "seed=0,1"], "hydra.sweep.dir cannot be set"),
    (["hydra.output_subdir=null"], "hydra.output_subdir cannot be set"),
    (["probe=" + "x" * 300], "In conf/probe there are hessian, landscape, moments."),
    (["~epochs"], "epochs cannot be taken out: give it a value, such as null."),
    (["style=paper"], "This command does not take style."),
    (["draw=no"], "In conf/draw there are best_rho, choices, contrast, convergence, doses, gap, sharpness, surfaces."),
    (["hydra.sweeper=1", "seed=x"], 'seed must be a whole number from 0, got "x".'),
    (["trainer=-1"], "trainer must be one of auto, cpu, gpu, got trainer=-1."),
    (["pruner=[[1]]"], "pruner must be one of grasp, "),
    (["ascent=none", "ascent.m=3"], "a key of ascent=asam, ascent=gsam, ascent=sam, ascent=sam_unnormalized."),
    (["model=base"], "model must be a file of conf/model/, whose name is a word and whose _target_ and code are"),
    (["data._partial_=x"], 'data._partial_ must be true or false, got "x".'),
    (["--resolve"], "Hydra does not take what was given (The --resolve flag can only be used"),
    (["optimizer.lr=${nothing}"], "optimizer.lr is wrong. Interpolation key 'nothing' not found."),
    (["+probe.tol=null"], "probe must name files of conf/probe/, such as probe=[hessian], and their settings by keys"),
]


def test_every_key_that_a_hint_may_name_exists() -> None:
    by_choice: dict[str, list[str]] = {}
    for key, choices in cli._keys().items():
        for choice in choices:
            by_choice.setdefault(choice, []).append(key)
    assert {"=train", "data=mnist", "probe=hessian", "hydra/launcher=slurm"} <= by_choice.keys()
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        for choice, keys in by_choice.items():
            group, _, file = choice.partition("=")
            composed = compose(*(("train", [choice]) if group else (file,)), return_hydra_config=True)
            for key in keys:
                parent, _, name = key.rpartition(".")
                assert name in (OmegaConf.select(composed, parent) if parent else composed), (choice, key)


@pytest.mark.parametrize("group", sorted(path.name for path in Path(cli.CONF).iterdir() if path.is_dir()))
def test_a_list_chooses_several_files_only_of_probes_and_callbacks(group: str) -> None:
    if group in ("probe", "callbacks"):
        overrides.refuse([f"{group}=[hessian,moments]"])
    else:
        with pytest.raises(SettingError, match=f"{group} must be one "):
            overrides.refuse([f"{group}=[one]"])


@pytest.mark.parametrize(("arguments", "part"), TYPED, ids=[" ".join(arguments)[:40] for arguments, _ in TYPED])
def test_what_cannot_be_is_reported_with_its_cure(
    command: Command, tmp_path: Path, arguments: list[str], part: str
) -> None:
    code, out, err = command("train", *arguments, *([] if "root=" in arguments[0] else [f"root={tmp_path}"]))
    assert (code, out) == (1, "")
    (sentence,) = err.splitlines()
    assert sentence.startswith("samgap: ")
    assert part in sentence
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["draw", "status", "restore", "probe", "dashboard", "report.__main__", "evidence"])
def test_only_training_carries_out_sweeps(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = "samgap: Only samgap.train carries out a sweep: leave out -m (--multirun).\n"
    assert command(name, "-m", "root=a,b") == (1, "", sentence)
    assert not list(tmp_path.iterdir())


def test_one_point_of_a_figure_can_be_carried_out(command: Command, tmp_path: Path) -> None:
    point = ("model.params=2e3", "ascent.rho=0", "seed=3")
    assert command("train", "figure=fig7/smoke", *TINY[:2], "data.holdout=16", *point, f"root={tmp_path}")[0] == 0


def test_a_folder_that_a_config_of_the_user_s_names_is_refused_too(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    elsewhere = "# @package _global_\nhydra: {run: {dir: elsewhere}, sweep: {dir: elsewhere}}\n"
    (tmp_path / "mine" / "elsewhere.yaml").write_text(elsewhere.replace("elsewhere}", f"{tmp_path}/elsewhere}}"))
    given = ("--config-dir", str(tmp_path), "+mine=elsewhere", *TINY, f"root={tmp_path}/multirun")
    for argv, which in (([], "this"), (["-m", "seed=0,1"], "a")):
        code, _, err = command("train", *argv[:1], *given, *argv[1:])
        assert code == 1
        assert f"samgap: The folder of {which} run is {tmp_path}/multirun/runs/digits-mlp-" in err
    assert not list(tmp_path.rglob("record.json"))


def test_a_record_is_not_trusted_by_its_place(command: Command, tmp_path: Path) -> None:
    grid = ("name=mine", f"root={tmp_path}", *TINY, "ascent.rho=0,0.1", "trainer.keep_weights=true")
    assert command("train", "-m", *grid)[0] == 0
    sam, sgd = sorted((tmp_path / "runs").iterdir())
    shutil.copy(sgd / "record.json", sam / "record.json")
    sentence = f"{sam / 'record.json'} is damaged (it is that of {sgd.name}): move it away and start the run again."
    for name, arguments in (
        ("train", ("-m", *grid)),
        ("train", (*grid[1:5], "ascent.rho=0.1")),
        ("draw", grid[:2]),
        ("probe", (f"run={sam}", "probe=hessian", *grid[1:2])),
    ):
        code, _, err = command(name, *arguments)
        assert (code, sentence in err) == (1, True), (name, err)
    assert "1/2 done, 1 damaged" in command("status", grid[1])[1]
    assert records.read(sam) == records.read(sgd)  # nothing was overwritten


def test_a_record_that_was_edited_is_reported(tmp_path: Path) -> None:
    run(config(*TINY, f"root={tmp_path}"), tmp_path)
    path = tmp_path / "record.json"
    path.write_text(path.read_text().replace('"epochs": 1,', '"epochs": 2,', 1))
    with pytest.raises(SettingError, match="it holds the record of other settings"):
        records.read(tmp_path)


def test_a_probe_looks_where_it_is_set_and_changes_no_run(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    kept = ("root=results", "data=digits_jpeg", "trainer.keep_weights=true", "data.train_size=32", "model.width=0.02")
    code, _, err = command("train", *kept, "epochs=1")
    assert code == 0, err
    (folder,) = (tmp_path / "a" / "results" / "runs").iterdir()
    probe = (f"run={folder}", "probe=hessian")
    code, _, err = command("probe", *probe, "seed=3", "optimizer.lr=1")
    assert (code, "cannot be changed: leave out optimizer, seed." in err) == (1, True)
    # In another working directory, the data are still those of the run.
    monkeypatch.chdir(tmp_path / "b")
    assert command("probe", *probe)[0] == 0
    assert not list((tmp_path / "b").iterdir())
    # A run of an older version, with fewer machine settings and code named by _target_, can be probed too.
    kept_config = folder / ".hydra" / "config.yaml"
    makers = r"benchmark: false|_target_: samgap\.(data\.sets|models|pruning|optim|targets)\b.*"
    text = re.sub(rf"(?m)^  ({makers})\n", "", kept_config.read_text())
    kept_config.write_text(text.replace("  code:", "  _target_:"))
    (folder / "probes" / "hessian.json").unlink()
    code, _, err = command("probe", *probe)
    assert (code, err) == (0, "")
    # If they are gone, data_dir on the command line is used.
    shutil.move(tmp_path / "a" / "data", tmp_path / "data")
    (folder / "probes" / "hessian.json").unlink()
    code, _, err = command("probe", *probe, f"data_dir={tmp_path}/data")
    assert code == 0, err
    assert not (tmp_path / "a" / "data").exists()


def test_paths_mean_the_same_where_a_run_changes_the_directory(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", _no_network)
    monkeypatch.setattr("samgap.data.fashion_mnist.DEBIAN", tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    changed = ("-m", "root=results", "hydra.job.chdir=true", *TINY, "ascent.rho=0,0.1")
    code, _, err = command("train", *changed)
    assert (code, "2/2 done" in err) == (0, True)
    code, _, err = command("train", *changed, "data=fashion_mnist")
    assert code == 1
    assert f"FashionMNIST is not in {tmp_path}/data/FashionMNIST/raw" in err


def _no_network(*_: object) -> None:
    raise RuntimeError("no network")


def test_what_a_killed_process_was_writing_is_removed_and_what_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / f"{files.PREFIX}dead.ckpt").write_text("half of it")

    def write(temporary: Path) -> None:
        files.replace_text(tmp_path / "other", "")  # as another process would
        temporary.write_text("whole")

    files.replace(tmp_path / "file", write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "whole", "other": ""}


def test_a_temporary_file_that_another_process_removes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, removed = tempfile.mkstemp, []

    def made(**options: Any) -> tuple[int, str]:
        handle, name = make(**options)
        if not removed:
            removed.append(name)
            Path(name).unlink()
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", made)
    files.replace(tmp_path / "file", lambda temporary: temporary.open("r+").close())
    assert removed
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("too much")

    with pytest.raises(OSError, match="No space left on device") as full:
        files.replace(tmp_path / "record.json", write)
    sentence = cli.explain(full.value)
    assert sentence is not None
    assert sentence.startswith(f"{tmp_path} cannot be used (No space left on device): make room there")
    # The message names the full folder and not the job's working directory.
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(tmp_path))
    assert cli.explain(full.value) == sentence
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_written_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path.parent))

    monkeypatch.setattr(checkpoint.files, "replace", full)
    pattern = "(last.ckpt|metrics.csv) could not be written .No space left on device.: the run goes on"
    given = config(*TINY, "epochs=3", "trainer.checkpoint_seconds=0", f"root={tmp_path}")
    with pytest.warns(UserWarning, match=pattern) as warned, pytest.raises(OSError, match="No space left") as last:
        run(given, tmp_path)  # the run continues to its end, where the record cannot be written either
    named = {Path(str(warning.message).partition(" could")[0]).name for warning in warned}
    assert named == {"last.ckpt", "metrics.csv"}
    assert "make room there" in str(cli.explain(last.value))


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("RANK", "x", 'The variable RANK must be a whole number, got "x": unset it.'),
        ("WORLD_SIZE", "0", 'The variable WORLD_SIZE must be a whole number, got "0": unset it.'),
        ("RANK", "3", "The variable RANK must be below WORLD_SIZE (1), got 3: unset both."),
    ],
)
def test_what_a_launcher_left_in_the_environment(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, _, err = command("train", *TINY, f"root={tmp_path}")
    assert (code, err) == (1, f"samgap: {part}\n")


def test_a_folder_that_a_variable_names_is_not_blamed_on_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/nothing")
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/nothing/x")
    sentence = str(cli.explain(error))
    assert sentence.startswith("/proc/nothing/x cannot be used (No such file or directory): set root or data_dir or ")
    assert sentence.endswith("TORCHINDUCTOR_CACHE_DIR to a folder that can be written.")


def test_a_notebook_s_variables_and_a_terminal_of_few_letters(tmp_path: Path) -> None:
    # A notebook sets a matplotlib backend that child processes cannot import; in a run Lightning imports matplotlib.
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"}
    draw = "import samgap.draw, matplotlib.pyplot; print(matplotlib.get_backend())"
    for argv, said in (
        (["-m", "samgap.train", f'root="{tmp_path}/ü"', *TINY], r"\xfc/runs/digits-mlp"),
        (["-c", draw], "agg"),
    ):
        done = subprocess.run(
            [sys.executable, *argv], env=os.environ | notebook, capture_output=True, text=True, timeout=LIMIT
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_a_package_that_is_not_installed_in_place_says_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("samgap.status")  # on import, a command determines the folder of conf/
    monkeypatch.setattr(cli, "CONF", "/nowhere/conf")
    code, _, err = command("status")
    assert (code, err) == (
        1,
        "samgap: /nowhere/conf does not exist: install samgap in place (pip install --editable .).\n",
    )


def test_a_folder_that_a_killed_process_was_filling_is_filled_anew(tmp_path: Path) -> None:
    place = tmp_path / "tree"
    with pytest.raises(KeyboardInterrupt), files.workspace(place):
        raise KeyboardInterrupt
    (tmp_path / f"{files.PREFIX}tree").mkdir()  # as after kill -9
    (tmp_path / f"{files.PREFIX}tree" / "half").write_text("of it")
    with files.workspace(place) as folder:
        assert not list(folder.iterdir())
        folder.rename(place)
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]

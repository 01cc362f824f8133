"""The repository: layers, pinned packages, make targets, links and names in the docs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.processes import LIMIT

TOP = Path(__file__).parents[1]


def text(name: str) -> str:
    return (TOP / name).read_text()


def test_imports_go_down_the_floors() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=TOP, capture_output=True, text=True, timeout=LIMIT
    )
    assert result.returncode == 0, result.stdout


def test_direct_pins_are_the_locked_ones() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    assert extras["dev"][0] == "samgap[bench]"
    direct = project["dependencies"] + extras["bench"] + extras["dev"][1:]
    locked = {line.lower() for line in text("requirements.lock").splitlines()}
    assert all("==" in pin for pin in direct)
    assert {pin.lower() for pin in direct} <= locked


def test_conda_users_get_the_same_pins() -> None:
    environment = yaml.safe_load(text("environment.yml"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["--constraint requirements.lock", "--editable .[dev]"]
    requires = tomllib.loads(text("pyproject.toml"))["project"]["requires-python"]
    assert requires == ">=3.11,<3.14"
    assert "python=3.11" in environment["dependencies"]


def test_help_explains_every_target() -> None:
    targets = set(re.findall(r"^([a-z%-]+):", text("Makefile"), flags=re.M))
    help_ = subprocess.run(["make", "help"], cwd=TOP, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    for target in targets:
        assert re.search(rf"^  {re.escape(target)} +\S", help_, flags=re.M), target


def test_an_unknown_figure_or_scale_is_one_sentence() -> None:
    for arguments in (["reproduce-fig99"], ["reproduce-fig8", "SCALE=huge"]):
        result = subprocess.run(
            ["make", *arguments, f"BIN={Path(sys.executable).parent}"],
            cwd=TOP, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        assert result.returncode != 0
        assert "samgap: no figure" in result.stderr
        assert "fig8/smoke" in result.stderr


def test_a_wrong_name_is_found_before_the_environment_is_made() -> None:
    command = ["make", "reproduce-fig99", "PYTHON=false"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, "samgap: no figure" in done.stderr) == (2, True)


def made(folder: Path, *options: str) -> list[list[str]]:
    """Return the arguments of each call of python by make; python is replaced by a script that records them."""
    (folder / "python").write_text("""#!/bin/sh\nprintf '<%s>' "$@"; echo\n""")
    (folder / "python").chmod(0o755)
    command = ["make", f"BIN={folder}", *options]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    return [line[1:-1].split("><")[1:] for line in done.splitlines() if line.startswith("<")]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["hydra/launcher=cores", "root='multirun'"]),
        (["DEVICES=1"], ["hydra/launcher=cores", "root='multirun'"]),
        (["DEVICES=4"], ["hydra/launcher=torchrun", "root='multirun'", "trainer.devices=4"]),
        (["DEVICES=4", "LAUNCHER=slurm"], ["hydra/launcher=slurm", "root='multirun'", "trainer.devices=4"]),
    ],
)
def test_make_starts_runs_on_several_devices(tmp_path: Path, options: list[str], expected: list[str]) -> None:
    sweep, drawing = made(tmp_path, "reproduce-fig9", *options)
    assert sweep == ["samgap.train", "-m", "figure=fig9/smoke", *expected]
    assert drawing == ["samgap.draw", "figure=fig9/smoke", "root='multirun'"]


def test_make_carries_out_every_figure_that_has_the_scale(tmp_path: Path) -> None:
    figures = sorted({path.parent.name for path in (TOP / "conf" / "figure").glob("*/cpu.yaml")} - {"fig5"})
    calls = made(tmp_path, "reproduce-all", "SCALE=cpu")
    assert sorted(call[2] for call in calls if call[0] == "samgap.train") == [f"figure={name}/cpu" for name in figures]
    assert len(calls) == 2 * len(figures)


def test_make_draws_nothing_after_a_dry_run_and_refuses_debug(tmp_path: Path) -> None:
    ((module, *_),) = made(tmp_path, "reproduce-fig8", "OVERRIDES=seed=0 hydra.sweeper.dry_run=true")
    assert module == "samgap.train"
    command = ["make", f"BIN={tmp_path}", "reproduce-fig8", "OVERRIDES=debug=limit"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 2
    assert "samgap: OVERRIDES takes no debug" in done.stderr
    assert "<" not in done.stdout  # python was not called


def test_make_hands_on_what_is_typed_and_gives_the_drawing_what_it_must_know(tmp_path: Path) -> None:
    skip, seeds, title = "hydra.sweeper.skip={model.width:[0.2]}", "seed=range(0,2)", "draw.title=a b*"
    options = f"{skip} name=mine root=there {seeds} draw.title='a b*' logger=wandb"
    sweep, drawing = made(tmp_path, "reproduce-fig8", f"OVERRIDES={options}", "ROOT=/My Drive (1)/it's")
    assert sweep[-7:] == [r"root='/My Drive (1)/it\'s'", skip, "name=mine", "root=there", seeds, title, "logger=wandb"]
    assert drawing[-5:] == [r"root='/My Drive (1)/it\'s'", "name=mine", "root=there", title, "logger=wandb"]
    override = OverridesParser.create().parse_override(sweep[-7])
    assert override.value() == "/My Drive (1)/it's"


def test_the_readme_opens_with_the_two_commands_that_ci_runs() -> None:
    first = text("README.md")[:3000]
    for command in ("make reproduce-fig8", "make test"):
        assert command in first
        assert command in text(".ci/run")


def test_every_trap_that_is_guarded_names_tests_that_exist() -> None:
    page = text("docs/traps.md")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= 20
    for file, test in named:
        assert f"def {test}(" in text(file), f"{file}::{test}"


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "multirun/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((TOP / "docs").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, which follow the # in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_in_the_docs_exist(page: str) -> None:
    folder = (TOP / page).parent
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text(page)) if "://" not in link]
    paths = set(re.findall(r"`((?:src|conf|docs|tests)/[\w/.]+\w)", text(page)))
    paths -= set(re.findall(r"^`([^`]+)`\n```", text(page), re.MULTILINE))  # files that a reader of the page writes
    files = {link: folder / link.partition("#")[0] if link[0] != "#" else TOP / page for link in links}
    assert [link for link, file in files.items() if not file.exists()] == []
    assert [link for link in links if "#" in link and link.partition("#")[2] not in anchors(files[link])] == []
    assert [path for path in paths if not (TOP / path).exists()] == []


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_the_page_of_commands_names_every_figure() -> None:
    named = set(re.findall(r"`(\w+)`", text("docs/commands.md").partition("## Figures")[2].partition("\n## ")[0]))
    assert {path.name for path in (TOP / "conf" / "figure").iterdir()} <= named


def test_the_index_names_every_page() -> None:
    index = set(re.findall(r"\]\(([\w.]+)\)", text("docs/README.md")))
    assert index == {path.name for path in (TOP / "docs").glob("*.md")} - {"README.md"}


def test_the_page_of_the_house_names_rooms_and_files_that_there_are() -> None:
    page = text("docs/architecture.md")
    rooms = set(re.findall(r"`(\w+)`", page.partition("## Where to add what")[0].partition("| layer |")[2]))
    house = {path.stem for path in (TOP / "src/samgap").iterdir() if path.suffix in (".py", "") and path.stem[0] != "_"}
    assert rooms >= house - {"reference"}
    for path in re.findall(r"`((?:src|conf|docs)/[\w/.]+)[`<]", page):
        assert (TOP / path).exists(), path

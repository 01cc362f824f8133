"""Every YAML in conf composes, and every figure has its texts and can run its smallest and largest nets."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from samgap import cli
from samgap.data import factorization
from samgap.data.sets import Raw, Split
from samgap.errors import SettingError
from samgap.figures import kind, published
from samgap.figures.convergence.kinds import Convergence
from samgap.figures.gap.kinds import Gap
from samgap.models.count import count
from samgap.runs import measurements, registered
from samgap.runs.identity import identity
from samgap.targets import locate
from samgap.training import build
from samgap.training.run import run
from samgap.training.settings import resolve
from tests.conftest import composed, config, swept

CONF = Path(cli.CONF)
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
CHOICES = [path for path in FILES if len(path.parts) > 1 and path.name != "base.yaml"]
FIGURES = sorted(
    "/".join(path.with_suffix("").parts[1:]) for path in FILES if path.parts[0] == "figure" and path.name != "base.yaml"
)


@pytest.mark.parametrize("path", CHOICES, ids=str)
def test_every_choice_composes_and_resolves(path: Path) -> None:
    group, name = str(path.parent), path.stem
    if group.startswith("figure"):
        group, name = "figure", f"{path.parent.name}/{name}"
    resolve(config(f"{group}=[{name}]" if group in ("probe", "callbacks") else f"{group}={name}"))


OVERLAYS = ("figure", "hydra", "debug")  # has files for several groups
OTHERS = (*OVERLAYS, "callbacks", "draw")  # abstract: its keys are arguments of the other files' code


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parts[0] not in OTHERS], ids=str)
def test_a_choice_is_named_after_its_file(path: Path) -> None:
    assert yaml.safe_load((CONF / path).read_text())["name"] == path.stem


@pytest.mark.parametrize("path", [path for path in CHOICES if path.parts[0] not in OVERLAYS], ids=str)
def test_every_target_can_be_imported(path: Path) -> None:
    values = yaml.safe_load((CONF / path).read_text())
    assert all(callable(locate(values[key])) for key in ("_target_", "code") if key in values)


def sweep(figure: str) -> dict[str, list[Any]]:
    """Return the values of a figure's axes; a list of one value if a key is set and not swept."""
    parser = OverridesParser.create()
    texts = [f"{key}={value}" for key, value in swept(f"figure={figure}").items()]
    return {
        o.get_key_element(): list(o.sweep_iterator()) if o.is_sweep_override() else [o.value()]
        for o in parser.parse_overrides(texts)
    }


ABOUT = {"claim", "source", "left_open", "choices", "cost", "result", "before"}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_says_what_it_claims_and_is_found_by_its_name(figure: str) -> None:
    name, scale = figure.split("/")
    values = config(f"figure={figure}")
    assert {"claim", "source", "left_open", "choices", "cost"} <= {*values["about"]} <= ABOUT
    assert all(isinstance(text, str) and text for text in values["about"].values())
    # The base has the texts for every scale; each scale has its own cost.
    files = (CONF / "figure" / name / f"{file}.yaml" for file in ("base", scale))
    of_base, of_scale = (yaml.safe_load(file.read_text())["about"] for file in files)
    assert {"claim", "source"} <= {*of_base}
    assert "cost" in of_scale
    assert not {"claim", "source"} & {*of_scale}
    assert (values["name"], values["scale"]) == (name, scale)
    tables = values["draw"]["published"]
    for table in [tables] if isinstance(tables, str) else tables:
        published.load(table)
    assert set(kind.from_settings(values["draw"]).settings) == {*values["draw"]} - {"_target_"}
    grid = sweep(figure)
    assert 0 in grid["ascent.rho"]
    # An interval needs three seeds, for which minutes of a GPU are not enough.
    assert len(grid["seed"]) >= 3 or scale in ("gpu", "pilot")
    if isinstance(kind.from_settings(values["draw"]), Gap):
        assert values["draw"]["fixed_rho"] in grid["ascent.rho"]
        # A trend needs three cells.
        assert len(grid["model.width"]) >= 3 or name in ("decay", "init") or scale == "gpu"


def test_the_texts_of_a_figure_are_no_setting_of_a_run() -> None:
    assert config()["about"] == {}  # a user's own figure may have none
    values = config("figure=fig1/smoke")
    assert identity(resolve(values)) == identity(resolve(values | {"about": {}}))
    with pytest.raises(SettingError, match=r"about must be set key by key, such as about\.key=value, got 3"):
        resolve(values | {"about": 3})


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if figure.startswith(("fig1/", "fig2/", "fig3/"))])
def test_figures_of_curves_have_a_constant_rate_and_published_widths(figure: str) -> None:
    values, grid = config(f"figure={figure}"), sweep(figure)
    assert type(kind.from_settings(values["draw"])) is Convergence
    assert values["schedule"]["name"] == "constant"
    # Only the rule of the theory has a figure with long curves.
    assert grid["ascent"] == ["sam", "sam_unnormalized"][figure.endswith("long") :]
    theirs = published.load(figure.split("/")[0])
    if figure.endswith("paper"):
        assert grid["model.width"] == theirs["width"].unique().tolist()
        # Figure 2's axis starts at 0.
        assert values["epochs"] == theirs["epoch"].max() + (theirs["epoch"].min() == 0)


def test_a_factorization_interpolates_from_the_rank_of_its_matrix() -> None:
    values = config("figure=fig1/cpu")
    rank = int(torch.linalg.matrix_rank(factorization.matrix(values["data"]["condition"])))
    assert rank == values["draw"]["interpolates_from"] == factorization.INPUTS
    assert min(sweep("fig1/cpu")["model.width"]) < rank <= max(sweep("fig1/cpu")["model.width"])


def test_the_paper_s_grids_and_settings() -> None:
    # UAI 2025, appendix A.1, tables 2 and 3.
    fig7, fig8 = config("figure=fig7/paper"), config("figure=fig8/paper")
    assert sweep("fig7/paper") == {
        "model.width": [0.25, 0.5, 1, 4, 10], "ascent.rho": [0, 0.01, 0.02, 0.05, 0.1, 0.2], "seed": [0, 1, 2],
    }  # fmt: skip
    assert sweep("fig8/paper") == {
        "model.width": [4, 8, 16, 32, 64, 128, 256],
        "ascent.rho": [0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1],
        "seed": [0, 1, 2],
    }
    for values, data, epochs, decay in ((fig7, "mnist", 100, 1e-4), (fig8, "cifar10", 200, 5e-4)):
        assert values["data"]["name"] == data
        assert (values["data"]["train_size"], values["data"]["holdout"], values["data"]["label_noise"]) == (None, 0, 0)
        assert (values["epochs"], values["batch_size"]) == (epochs, 128)
        assert values["optimizer"] == {
            **config()["optimizer"], "code": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": decay,
        }  # fmt: skip
        assert (values["schedule"]["milestones"], values["schedule"]["factor"]) == ([0.5, 0.75], 0.1)
        assert values["ascent"]["name"] == "sam"
        assert values["model"]["init"] == "lecun_normal"
    assert (fig8["data"]["crop"], fig8["data"]["flip"]) == (4, True)
    assert not fig7["data"]["flip"]


def test_minutes_of_a_gpu_are_spent_on_runs_of_the_paper() -> None:
    seven, eight = (sweep(f"fig{number}/gpu") for number in (7, 8))
    assert seven == sweep("fig7/paper") | {"model.width": [4, 10]}
    assert eight == {"model.width": [4, 16, 64], "ascent.rho": [0, 0.05, 0.1, 0.2], "seed": [0]}
    for number in (7, 8):
        ours, theirs = (resolve(config(f"figure=fig{number}/{scale}")) for scale in ("gpu", "paper"))
        ours["data"]["name"] = theirs["data"]["name"]  # the images are CIFAR-10's as JPEG files
        assert identity(ours) == identity(theirs)
        assert config(f"figure=fig{number}/gpu")["logger"]["name"] == "csv"


def test_figure_9_follows_the_paper_s_text_and_the_official_config_is_another_scale() -> None:
    # UAI 2025, appendix A.1, and the official code's config for ImageNet, which differs in rate and schedule.
    grid = {
        "model.width": [16, 32, 48, 64, 80],
        "ascent.rho": [0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2],
        "seed": [0, 1, 2],
    }
    assert sweep("fig9/paper") == sweep("fig9/paper_official") == grid
    text, official = config("figure=fig9/paper"), config("figure=fig9/paper_official")
    assert (text["epochs"], text["batch_size"], text["model"]["batch_norm"]) == (90, 512, "synchronized")
    assert (text["optimizer"]["lr"], text["optimizer"]["momentum"], text["optimizer"]["weight_decay"]) == (
        0.1,
        0.9,
        1e-4,
    )
    assert (text["schedule"]["name"], text["schedule"]["warmup_steps"]) == ("cosine", 5000)
    assert (text["data"]["area"], text["data"]["center"], text["data"]["flip"]) == ([0.08, 1], 224 / 256, True)
    assert (official["optimizer"]["lr"], official["schedule"]["milestones"]) == (0.2, [0.25, 0.5, 0.75])
    official["optimizer"]["lr"], official["schedule"], official["scale"] = 0.1, text["schedule"], "paper"
    official["about"] = text["about"]
    assert official == text


@pytest.mark.parametrize("name", ["fig7", "fig8", "fig9"])
def test_published_widths_have_the_published_parameter_counts(name: str) -> None:
    values = config(f"figure={name}/paper")
    data = values["data"]
    table = published.load(name)
    assert table["width"].tolist() == sweep(f"{name}/paper")["model.width"]
    for width, params in zip(table["width"], table["params"], strict=True):
        with torch.device("meta"):
            shape = (data["channels"], data["size"], data["size"])
            net = locate(values["model"]["code"])(shape, data["classes"], width)
        assert count(net).total == params


def grid_of(figure: str, skip: dict[str, list[Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of all runs of a figure by identity, without those in `skip`."""
    points, keys = itertools.product(*sweep(figure).values()), list(sweep(figure))
    base, found = resolve(config(f"figure={figure}")), {}
    for point in points:
        settings = copy.deepcopy(base)
        for key, value in zip(keys, point, strict=True):
            group, _, name = key.rpartition(".")
            (settings[group] if group else settings)[name] = value
        if figure in REGISTERED:
            settings["data"]["seed"] = settings["seed"]
        if skip and all(dict(zip(keys, point, strict=True))[key] in values for key, values in skip.items()):
            continue
        found[identity(settings)] = settings
    return found


REGISTERED = [figure for figure in FIGURES if "\n  registered:\n" in (CONF / f"figure/{figure}.yaml").read_text()]


@pytest.mark.parametrize("figure", REGISTERED)
def test_what_a_figure_registers_is_its_grid(figure: str) -> None:
    values, grid = config(f"figure={figure}"), sweep(figure)
    own, block = yaml.safe_load((CONF / f"figure/{figure}.yaml").read_text()), values["draw"]["registered"]
    assert own["draw"]["registered"] == block  # the whole block is in its own file, since its git history is read
    cells = {key: grid[key] for key in grid if key not in ("ascent.rho", "seed", "replicate") and len(grid[key]) > 1}
    assert (cells, grid["ascent.rho"], grid["seed"]) == (block["cells"], block["rhos"], block["seeds"])
    assert registered.digest(grid_of(figure, own["hydra"]["sweeper"].get("skip"))) == block["runs"]
    assert OmegaConf.to_container(composed(f"figure={figure}"))["data"]["seed"] == "${seed}"  # type: ignore[call-overload, index]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_figures_4_and_5_are_one_and_have_runs_and_measurements_of_figure_6(scale: str) -> None:
    four, six = (f"fig{number}/{scale}" for number in (4, 6))
    assert config(f"figure=fig5/{scale}") == config(f"figure={four}")
    assert set(grid_of(four)) < set(grid_of(six))
    ends = {(one["ascent"]["rho"], one["stop_loss"]) for one in grid_of(four).values()}
    assert len({rho for rho, _ in ends}) == len(ends) == 2
    assert max(ends)[0] == max(sweep(six)["ascent.rho"])
    assert len(grid_of(six)) == 2 * len(sweep(six)["ascent.rho"]) * 3
    probes = [measurements.requested(config(f"figure={figure}")) for figure in (four, six)]
    assert [list(one) for one in probes] == [["hessian", "landscape"], ["hessian", "moments"]]
    # The probes of both figures must have equal settings: a run has one result of each probe, which would be replaced.
    assert probes[0]["hessian"] == probes[1]["hessian"]


def test_figure_6_is_trained_as_published() -> None:
    values = config("figure=fig6/paper")
    assert values["probe"]["moments"]["examples"] == 1000
    assert sweep("fig6/paper")["ascent.rho"] == published.load("fig6")["rho"].tolist()
    for figure in ("fig6/cpu", "fig6/paper", "fig4/cpu"):
        values = config(f"figure={figure}")
        assert (values["loss"]["name"], values["schedule"]["name"], values["model"]["width"]) == (
            "mean_squared",
            "constant",
            10,
        )
        assert {key: values["optimizer"][key] for key in ("lr", "momentum", "weight_decay")} == {
            "lr": 0.1, "momentum": 0, "weight_decay": 0,
        }  # fmt: skip
        assert values["trainer"]["keep_weights"]


def test_values_of_a_probe_that_is_not_chosen_are_no_probe() -> None:
    assert measurements.requested(config("figure=fig6/smoke", "probe=[]")) == {}
    assert measurements.requested(config("figure=fig6/smoke"))["moments"]["examples"] == 50


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if figure.startswith(("fig10", "fig11"))])
def test_sparse_figures_have_the_same_live_parameters_in_all_their_nets(figure: str) -> None:
    # The first net is dense, and is a net of figure 7 or 8 at the same scale.
    grid, values = sweep(figure), config(f"figure={figure}")
    widths, pruners = grid["model.width"], grid.get("pruner", ["random"])
    sparsities = []
    for width in widths:
        for name in pruners:
            pruned = config(f"figure={figure}", f"pruner={name}")
            settings = resolve(pruned | {"model": pruned["model"] | {"width": width}})
            data = settings["data"]
            with torch.device("meta"):
                net = locate(values["model"]["code"])((data["channels"], *[data["size"]] * 2), 10, width)
            kernels, total = count(net).prunable, count(net).total
            sparsities.append(settings["pruner"]["sparsity"])
            assert total - kernels + round((1 - sparsities[-1]) * kernels) == values["pruner"]["live_params"]
    assert sparsities[0] == 0
    assert sparsities == sorted(sparsities)
    scale = figure.split("/")[1].replace("_mnist", "").replace("_wide", "")
    dense = f"{'fig7' if values['model']['name'] == 'mlp' else 'fig8'}/{scale}"
    assert widths[0] in sweep(dense)["model.width"]
    assert set(grid["ascent.rho"]) == set(sweep(dense)["ascent.rho"]) | ({0.3, 0.5} if "wide" in figure else set())
    settings = [resolve(config(f"figure={name}", f"model.width={widths[0]}")) for name in (figure, dense)]
    assert identity(settings[0]) == identity(settings[1])
    if scale != "smoke":
        table = published.load(f"{figure.split('/')[0]}_{'mnist' if values['model']['name'] == 'mlp' else 'cifar10'}")
        table = table.iloc[: len(widths)] if scale.endswith("three") else table
        assert table["width"].tolist() == widths
        assert table["params"].unique().tolist() == [values["pruner"]["live_params"]]
        ours = dict.fromkeys(sparsities)
        assert [round(value, 2) for value in ours] == table["pruner.sparsity"].tolist()


def generated(channels: int, size: int, max_pixel: int, classes: int) -> Raw:
    """Return images of the right shape, with a bright spot whose position depends on the class."""
    draw = torch.Generator().manual_seed(0)

    def split(images: int) -> Split:
        labels = torch.arange(images) % 10
        pixels = torch.randint(0, max_pixel // 4, (images, channels, size, size), generator=draw, dtype=torch.uint8)
        pixels[torch.arange(images), :, labels % 5, labels // 5] = max_pixel
        labels[-1] = classes - 1
        return Split(pixels, labels)

    return Raw(split(2500 if size < 100 else 20), split(4), max_pixel)


RAN: set[str] = set()  # identities of the runs below; several figures share some of them


# Scales gpu have the same nets and settings as scales paper, apart from data.
@pytest.mark.filterwarnings("ignore:schedule.warmup_steps=")
@pytest.mark.parametrize("figure", [figure for figure in FIGURES if not figure.endswith("/gpu")])
def test_every_figure_runs_at_its_tiniest(figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run both ends of a figure's grid: the smallest net without ascent, and the largest net with the largest rho.

    These are a few real steps of the figure's nets on images of the right shape, with all settings as composed, except
    that batches are small if a net is wide or its images are large. Other tests check steps with more images.
    Probes are left out, since they take long.
    """
    grid, values = sweep(figure), config(f"figure={figure}", "epochs=1", "trainer=cpu", "logger=csv", "probe=[]")
    data, model = values["data"], values["model"]
    if data["name"] != "factorization":  # these data are generated
        max_pixel = 16 if data["name"] == "digits" else 255
        monkeypatch.setattr(build, "data", lambda plan: _assemble(plan.settings["data"], data, max_pixel))
    widths = grid.get("model.width") or [model["width"]]
    if figure == "fig8/paper":
        widths.remove(256)  # drawing 178 million weights takes ten seconds; 128 filters are enough
    for end, width, rho in (("small", min(widths), 0), ("large", max(widths), max(grid["ascent.rho"]))):
        dear = data["size"] > 100 or (model["name"] == "resnet18" and width >= 16)
        images, batch = (2, 2) if dear else (384, 128)
        part = {
            "model": model | {"width": width}, "ascent": values["ascent"] | {"rho": rho},
            "data": data | {"train_size": images, "holdout": min(data["holdout"], 2000)}, "batch_size": batch,
        }  # fmt: skip
        if identity(resolve(values | part)) in RAN:
            continue
        record = run(values | part, tmp_path / end)
        RAN.add(record.identity)
        assert record.steps == images // batch
        assert record.status in ("done", "diverged")
        assert record.settings["model"]["width"] == width


def _assemble(settings: dict[str, Any], data: dict[str, Any], max_pixel: int) -> Any:
    from samgap.data.sets import assemble

    values = {key: value for key, value in settings.items() if key != "name"}
    raw = generated(data["channels"], data["size"], max_pixel, data["classes"])
    return assemble(lambda folder, **own: raw, Path(), **values)


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Exception, match="Could not find 'model/vgg'"):
        config("model=vgg")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(Exception, match="optimizer\\.learning_rate"):
        config("optimizer.learning_rate=0.1")


def test_no_ascent_has_no_rho() -> None:
    with pytest.raises(Exception, match=r"ascent\.rho"):
        config("ascent=none", "ascent.rho=0.1")
    with pytest.raises(SettingError):
        resolve(config("ascent.rho=-1"))

from typing import Any

import pytest

from samgap.errors import SettingError
from samgap.runs.identity import canonical, flat, folder, identity
from samgap.training.settings import resolve
from tests.conftest import config

# Known identities. If one changes, samgap no longer finds any existing result.
KNOWN = {
    (): "b97cb181eb42",
    ("ascent.rho=0",): "711fe1d22d0b",
    ("seed=1",): "73b090cc21ad",
    ("data.label_noise=0.5", "data.holdout=100", "data.train_size=500"): "65deb248e046",
    ("pruner.sparsity=0.9",): "1ed7445cf4ba",
    ("ascent=sam_unnormalized", "loss=squared", "schedule=cosine"): "d50752d54924",
    ("figure=fig7/smoke", "model.width=0.25", "ascent.rho=0.1"): "02df60142c18",
    ("figure=fig7/paper", "model.width=10"): "f442d651366d",
    ("figure=fig8/smoke", "model.width=8", "seed=2"): "5db6dd5df97e",
    ("figure=fig8/paper", "model.width=256", "ascent.rho=0.005"): "fcd0410d15cc",
    ("replicate=1",): "88680ba20f4c",
    ("data.score_unused=true", "data.train_size=500"): "a9444f48eec8",
}


def settings(*overrides: str) -> dict[str, Any]:
    return resolve(config(*overrides))


def of(*overrides: str) -> str:
    return identity(settings(*overrides))


@pytest.mark.parametrize("overrides", KNOWN)
def test_known_identities(overrides: tuple[str, ...]) -> None:
    assert of(*overrides) == KNOWN[overrides]


@pytest.mark.parametrize(
    "override",
    [
        "trainer=gpu", "trainer=auto", "trainer.threads=4", "trainer.products=mkl",
        "trainer.checkpoint_seconds=0", "trainer.keep_weights=true",
        "logger=wandb",
        "logger.project=other", "root=elsewhere", "data_dir=/data", "hydra/launcher=cores", "hydra/launcher=basic",
        "trainer.micro_batch=16", "trainer.devices=2", "ascent.m=128", "ascent.m=1000", "ascent.interval=1",
        "name=mine", "scale=cpu", "draw.title=x", "loss._target_=my.loss", "loss.code=my.loss",
        "+trainer.profiler=simple", "+trainer.limit_train_batches=null", "callbacks=[model_summary]",
        "model.width=1.0", "epochs=30.0", "replicate=0", "replicate=null", "data.score_unused=false",
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_scientific_moves_no_identity(override: str) -> None:
    # `logger.project` needs logger=wandb.
    extra = ("logger=wandb",) if override.startswith("logger.") else ()
    assert of(*extra, override) == of()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1", "epochs=31", "batch_size=64", "eval_every=2", "precision=64-true", "precision=tf32", "model=resnet18",
        "model.width=2", "model.init=torch", "ascent.rho=0.1", "ascent=sam_unnormalized", "loss=squared",
        "schedule=constant",
        "schedule.factor=0.2", "schedule.milestones=[0.5]", "optimizer.lr=0.2", "optimizer.momentum=0",
        "optimizer.weight_decay=0", "data.size=7", "data.train_size=100", "data.holdout=10", "data.label_noise=0.1",
        "ascent.m=64", "ascent.interval=2", "ascent=asam", "ascent=gsam", "clip_norm=1",
        "+trainer.limit_train_batches=1",
        "replicate=1", "data.score_unused=true",
        "data.seed=1", "data.crop=1", "data.flip=true", "pruner.sparsity=0.5", "data.mean=[0.1]",
    ],
)  # fmt: skip
def test_what_is_scientific_moves_it(override: str) -> None:
    assert of(override) != of()


def test_no_ascent_is_rho_zero_whatever_the_ascent() -> None:
    assert of("ascent.rho=0") == of("ascent=none") == of("ascent=sam_unnormalized", "ascent.rho=0")


def test_sparsity_zero_is_the_dense_net_whatever_the_mask() -> None:
    assert of("pruner.sparsity=0", "pruner.seed=5") == of()
    assert of("pruner.sparsity=0.5", "pruner.seed=5") != of("pruner.sparsity=0.5")


def test_the_mask_s_seed_follows_the_seed_unless_set() -> None:
    assert of("pruner.sparsity=0.5", "seed=3", "pruner.seed=3") == of("pruner.sparsity=0.5", "seed=3")
    assert of("pruner.sparsity=0.5", "seed=3", "pruner.seed=0") != of("pruner.sparsity=0.5", "seed=3")


def test_params_become_the_nearest_width_before_hashing() -> None:
    color = ("model=resnet18", "data.channels=3", "data.mean=[0,0,0]", "data.std=[1,1,1]")
    assert of(*color, "model.params=45e3") == of(*color, "model.width=4")


def test_what_batch_norm_sees_is_scientific_however_it_comes_about() -> None:
    net = ("model=resnet18", "model.width=2")
    halves = of(*net, "trainer.micro_batch=64")
    assert halves != of(*net)
    assert halves == of(*net, "trainer.devices=2")
    assert of(*net, "trainer.devices=2", "model.batch_norm=synchronized") == of(*net)
    # Also in the SGD arm, so that both arms use the same statistics.
    assert of(*net, "ascent.rho=0", "ascent.m=64") == of(*net, "ascent.rho=0", "trainer.micro_batch=64")
    assert settings(*net, "ascent.m=32", "trainer.devices=2")["model"]["batch_norm_size"] == 32


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("trainer.micro_batch=8",), r"needs undivided passes: set trainer\.micro_batch=null"),
        (("trainer.devices=4", "ascent.m=64"), r"over all devices, and ascent\.m=64 over 2 of 4"),
    ],
)
def test_batch_norm_that_cannot_be_synchronized(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        of("model=resnet18", "model.batch_norm=synchronized", *overrides)


def test_a_new_setting_that_is_off_changes_nothing() -> None:
    old = settings()
    for off in (None, False, 0, 0.0):
        new = old | {"ascent": old["ascent"] | {"m": off}, "clip": off, "extra": {"on": off}}
        assert identity(new) == identity(old)
    assert identity(old | {"clip": 1}) != identity(old)


def test_one_spelling_a_meaning() -> None:
    assert canonical({"a": 1.0, "b": (1, 2.0), "c": {"d": 0}, "e": False}) == {"a": 1, "b": [1, 2]}


def test_folders_are_readable() -> None:
    assert folder(settings()) == "digits-mlp-w1-sam0.05-seed0-b97cb181eb42"
    assert folder(settings("ascent=none", "seed=3")).startswith("digits-mlp-w1-sgd-seed3-")
    assert folder(settings("ascent=none", "replicate=2")).startswith("digits-mlp-w1-sgd-seed0-replicate2-")
    noisy = settings("data.label_noise=0.5", "pruner.sparsity=0.9", "ascent=sam_unnormalized")
    assert folder(noisy).startswith("digits-mlp-w1-noise0.5-random0.9-sam_unnormalized0.05-seed0-")


def test_flat_has_the_keys_as_typed() -> None:
    assert flat(settings())["model.width"] == 1
    assert flat(settings())["schedule.milestones"] == [0.5, 0.75]

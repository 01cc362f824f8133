import re

import pytest

from samgap.errors import SettingError
from samgap.runs.identity import identity
from samgap.targets import locate
from samgap.training.settings import resolve
from tests.conftest import config

BAD = [
    ("seed=1.5", "seed must be a whole number from 0, got 1.5."),
    ("seed=-1", "seed must be a whole number from 0, got -1."),
    ("seed=abc", 'seed must be a whole number from 0, got "abc".'),
    ("seed=true", "seed must be a whole number from 0, got true."),
    ("seed=null", "seed must be a whole number from 0, got null."),
    ("epochs=0", "epochs must be a whole number from 1, got 0."),
    ("batch_size=0", "batch_size must be a whole number from 1, got 0."),
    ("eval_every=0", "eval_every must be a whole number from 1, got 0."),
    ("precision=16-mixed", 'precision must be one of 32-true, tf32, 64-true, bf16-mixed, got "16-mixed".'),
    ("ascent.rho=-0.1", "ascent.rho must be a number from 0, got -0.1."),
    ("ascent.rho=big", 'ascent.rho must be a number from 0, got "big".'),
    ("ascent.rho=nan", "ascent.rho must be a number from 0, got NaN."),
    ("ascent.rho=inf", "ascent.rho must be a number from 0, got Infinity."),
    ("model.width=0", "model.width must be a number above 0, got 0."),
    ("model.width=wide", 'model.width must be a number above 0, got "wide".'),
    ("model.params=0", "model.params must be a number from 1, or null for model.width, got 0."),
    ("pruner.sparsity=1", "pruner.sparsity must be a share from 0 up to but not including 1, got 1."),
    ("pruner.sparsity=-0.5", "pruner.sparsity must be a share from 0 up to but not including 1, got -0.5."),
    ("pruner.live_params=0.5", "pruner.live_params must be a whole number from 1, or null, got 0.5."),
    ("pruner.refuse_empty=1", "pruner.refuse_empty must be true or false, got 1."),
    ("+pruner.mode=foo", 'pruner.mode must be train or eval, got "foo".'),
    ("+pruner.batches=0", "pruner.batches must be a whole number from 1, got 0."),
    ("+pruner.temperature=0", "pruner.temperature must be a number above 0, got 0."),
    ("+pruner.iterations=0", "pruner.iterations must be a whole number from 1, got 0."),
    # 300 and 100 hidden neurons on 64 inputs: 50,200 kernel weights and 410 biases.
    (
        "pruner.live_params=410",
        "pruner.live_params must be from 411, one kernel weight beside biases and batch norm, to 50610, the whole net "
        "at model.width=1, got 410.",
    ),
    ("data.label_noise=1.1", "data.label_noise must be a share from 0 to 1, got 1.1."),
    ("data.train_size=0", "data.train_size must be a whole number from 1, or null for all, got 0."),
    ("data.holdout=-1", "data.holdout must be a whole number from 0, got -1."),
    ("data.crop=-1", "data.crop must be a whole number from 0, got -1."),
    ("data.flip=1", "data.flip must be true or false, got 1."),
    ("+data.condition=0.5", "data.condition must be a number from 1, got 0.5."),
    ("optimizer.lr=0", "optimizer.lr must be a number above 0, got 0."),
    ("optimizer.momentum=1", "optimizer.momentum must be a number from 0 up to but not including 1, got 1."),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must be a number from 0, got -1."),
    ("root=null", "root must be a folder (in full: only a shell expands ~), got null."),
    ("data_dir=null", "data_dir must be a folder (in full: only a shell expands ~), got null."),
    ("seed=1e300", "seed must be a whole number from 0, got 1e+300."),
    ("data.mean=foo", 'data.mean must be a list of numbers, one a channel, got "foo".'),
    ("data.mean=[0,0]", "data.mean must have a number for each of 1 channels (data.channels), got [0, 0]."),
    ("data.std=[0]", "data.std must be a list of numbers above 0, one a channel, got [0]."),
    ("data.classes=foo", 'data.classes must be a whole number from 2, got "foo".'),
    ("schedule.milestones=foo", 'schedule.milestones must be a list of shares from 0 to 1, got "foo".'),
    ("schedule.factor=foo", 'schedule.factor must be a number above 0, got "foo".'),
    ("trainer.accelerator=foo", 'trainer.accelerator must be cpu, gpu or auto, got "foo".'),
    ("trainer.deterministic=foo", 'trainer.deterministic must be true, false or warn, got "foo".'),
    ("trainer.products=blas", 'trainer.products must be one of auto, mkl, onednn, got "blas".'),
    ("trainer.keep_weights=3", "trainer.keep_weights must be true or false, got 3."),
    ("clip_norm=0", "clip_norm must be a number above 0, or null for none, got 0."),
    ("ascent.m=0", "ascent.m must be a whole number from 1, or null for the whole batch, got 0."),
    ("ascent.interval=1.5", "ascent.interval must be a whole number from 1, or null for every step, got 1.5."),
    ("trainer.devices=0", "trainer.devices must be a whole number from 1, got 0."),
    ("trainer.devices=3", "batch_size must be a multiple of trainer.devices (3), got 128."),
    ("trainer.micro_batch=0", "trainer.micro_batch must be a whole number from 1, or null, got 0."),
    ("name=20241126", "name must be a word of letters, digits, _, - and ., and not runs or wandb, got 20241126; for a "
     "text put it in quotes, \"name='20241126'\"."),
    ("scale=true", "scale must be a word of letters, digits, _, - and ., got true; for a text put it in quotes, "
     "\"scale='True'\"."),
    ("root=1e3", "root must be a folder (in full: only a shell expands ~), got 1000.0; for a text put it in quotes, "
     "\"root='1000.0'\"."),
    ("optimizer.lr={a:1}", 'optimizer.lr must be a number above 0, got {"a": 1}.'),
    ("ascent.interval={}", "ascent.interval must be a whole number from 1, or null for every step, got {}."),
    ("~epochs", "epochs must be a whole number from 1, got null."),
    ("~data.size", "data.size is missing: it must be a whole number from 1."),
    ("data.name=a/b", 'data must be a file of conf/data/, whose name is a word and whose _target_ and code '
     'are dotted paths, got {"name": "a/b", "_target_": "samgap.data.sets.make", "code": "samgap.data.digits.load"}.'),
    ("model.code=3", 'model must be a file of conf/model/, whose name is a word and whose _target_ and code are dotted '
     'paths, got {"name": "mlp", "_target_": "samgap.models.make.model", "code": 3}.'),
    ("~trainer.threads", "trainer must have all keys of a file in conf/trainer/: threads is missing."),
    ("+trainer.max_epochs=2", "trainer.max_epochs is not handed to Lightning: set epochs (or stop_loss) instead."),
    ("+trainer.limit_train_batch=2", "trainer.limit_train_batch is a key neither of a file in conf/trainer/ nor of "
     "Lightning's Trainer; the nearest is trainer.limit_train_batches."),
    ("+trainer.limit_train_batches=0.5", "trainer.limit_train_batches must be a whole number from 1, or null for all "
     "batches, got 0.5."),
    ("seed=1" + "0" * 400, f"seed must be a whole number from 0, got 1{'0' * 400}."),
    ("trainer.threads=0", "trainer.threads must be a whole number from 1 to 1024, got 0."),
    ("trainer.workers=2000", "trainer.workers must be a whole number from 0 to 1024, got 2000."),
    ("batch_size=1e18", "batch_size must be a whole number from 1, got 1e+18."),
]  # fmt: skip


@pytest.mark.parametrize(("override", "sentence"), BAD, ids=[override[:40] for override, _ in BAD])
def test_a_wrong_value_is_one_sentence_with_its_key(override: str, sentence: str) -> None:
    with pytest.raises(SettingError) as info:
        resolve(config(override))
    assert str(info.value) == sentence


def test_zero_is_a_seed() -> None:
    assert resolve(config("seed=0"))["seed"] == 0


def test_whole_floats_become_whole_numbers() -> None:
    settings = resolve(config("seed=2.0", "model.width=4.0"))
    assert (settings["seed"], settings["model"]["width"]) == (2, 4)
    assert isinstance(settings["seed"], int)


def test_params_become_a_width() -> None:
    settings = resolve(config("model.params=266610", "data=mnist"))
    assert settings["model"]["width"] == 1
    assert "params" not in settings["model"]


def test_a_target_that_does_not_exist() -> None:
    for target, sentence in (("samgap.no", "importable, got 'samgap.no'."), (None, "importable, got null.")):
        with pytest.raises(SettingError, match=re.escape(f"_target_ must be the dotted path of something {sentence}")):
            locate(target)  # type: ignore[arg-type]


def test_live_parameters_are_met_to_the_last_one() -> None:
    for live in (411, 7035, 12345, 50609, 50610):
        settings = resolve(config(f"pruner.live_params={live}"))
        assert {*settings["pruner"]} == {"name", "sparsity", "seed"}
        assert 410 + round((1 - settings["pruner"]["sparsity"]) * 50_200) == live


def test_all_parameters_live_is_the_dense_net() -> None:
    assert identity(resolve(config("pruner.live_params=50610"))) == identity(resolve(config()))
    assert identity(resolve(config("pruner.live_params=7035"))) != identity(resolve(config()))
    assert identity(resolve(config("pruner.refuse_empty=true", "pruner.sparsity=0.5"))) == identity(
        resolve(config("pruner.sparsity=0.5"))
    )


def test_live_parameters_and_sparsity_are_not_both_given() -> None:
    with pytest.raises(
        SettingError, match=r"pruner\.live_params and pruner\.sparsity say the same: set pruner\.live_params=null"
    ):
        resolve(config("pruner.live_params=7035", "pruner.sparsity=0.5"))

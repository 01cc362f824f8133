"""The sweeper composes jobs as Hydra does, for any overrides."""

import copy
import pickle
from typing import Any

import cloudpickle
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from samgap import cli
from samgap.composer import Composer

JOBS = [
    ["seed=1"],
    ["seed=2", "ascent.rho=0.2", "model.width=4"],
    ["figure=fig8/smoke", "seed=2", "ascent.rho=0", "model.width=4"],
    ["figure=fig8/smoke", "model.width=8", "epochs=1"],
    ["ascent=asam", "ascent.eta=0.5", "seed=1"],
    ["ascent.eta=0.5", "ascent=asam"],
    ["model=resnet18", "data=cifar10", "+model.more=[1,2]", "~schedule.milestones"],
    ["schedule.milestones=[0.25,0.5]", "data.mean=[0.1]", "data={classes:10}"],
    ["seed=3", "hydra.job.config.override_dirname.exclude_keys=[seed]", "hydra/launcher=cores"],
    ["++trainer.threads=2", "name=other", "root=elsewhere"],
]


@pytest.fixture
def loader() -> ConfigLoaderImpl:
    return ConfigLoaderImpl(create_config_search_path(cli.CONF))


def master(loader: ConfigLoaderImpl, *overrides: str) -> DictConfig:
    return loader.load_configuration("train", [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def test_jobs_are_those_of_hydra(loader: ConfigLoaderImpl) -> None:
    base = master(loader, "hydra/launcher=basic")
    composer = Composer(loader)
    for job in [*JOBS, *reversed(JOBS)]:  # in both orders, since the cache of one job must not affect another
        found, expected = composer.load_sweep_config(base, job), loader.load_sweep_config(base, job)
        assert plain(found) == plain(expected), job
        assert OmegaConf.is_struct(found)
        found.hydra.job.num = 5  # a launcher changes the config that it gets


@pytest.mark.parametrize("job", [["sed=1"], ["model.width.x=1"], ["+seed=1"], ["~nothing"], ["nothing@here=1"]])
def test_errors_are_those_of_hydra(loader: ConfigLoaderImpl, job: list[str]) -> None:
    base, composer = master(loader), Composer(loader)
    with pytest.raises(ConfigCompositionException) as expected:
        loader.load_sweep_config(base, job)
    with pytest.raises(ConfigCompositionException) as found:
        composer.load_sweep_config(base, job)
    assert str(found.value) == str(expected.value)
    assert str(found.value.__cause__) == str(expected.value.__cause__)


def test_files_are_read_once_for_a_choice_of_groups(loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch) -> None:
    base, composer = master(loader), Composer(loader)
    read = []
    original = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: (read.append(1), original(*a, **k))[1])
    for seed in range(5):
        composer.load_sweep_config(base, ["ascent=asam", f"seed={seed}"])
    assert len(read) == 1
    composer.load_sweep_config(base, ["ascent=gsam", "seed=0"])
    assert len(read) == 2


def test_a_worker_can_have_it(loader: ConfigLoaderImpl) -> None:
    base, composer = master(loader), Composer(loader)
    expected = plain(composer.load_sweep_config(base, ["seed=1"]))
    for other in (copy.deepcopy(composer), pickle.loads(cloudpickle.dumps(composer))):  # as launchers send it
        assert plain(other.load_sweep_config(base, ["seed=1"])) == expected
    assert composer.get_search_path() is loader.get_search_path()
